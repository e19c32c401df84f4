"""Write a dataset again in the compact form, in few files; spectra that rest on a potential can be left out.

python examples/compact_dataset.py runs/spectra data --without nep89
"""

import argparse

from defectnet.io.datasets import rewrite_dataset


def main() -> None:
    """Write, and say how many spectra rest on what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="folder of shards")
    parser.add_argument("output", help="another folder, without shards")
    parser.add_argument("--without", action="append", default=[], help="a potential, or dft; may be repeated")
    arguments = parser.parse_args()
    for source, count in rewrite_dataset(arguments.source, arguments.output, arguments.without).items():
        print(f"{count:7d}  {source}")  # noqa: T201


if __name__ == "__main__":
    main()
