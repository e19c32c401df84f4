"""Write response libraries again as one: a row a host, its responses by springs packed together.

python examples/compact_responses.py data/responses runs/responses --output runs/library
"""

import argparse

from defectnet.io.library_compaction import rewrite_library


def main() -> None:
    """Write, and say how much there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="+", help="files or folders; of equal responses that of the last is kept")
    parser.add_argument("--output", required=True, help="another folder, without files")
    arguments = parser.parse_args()
    for what, count in rewrite_library(arguments.sources, arguments.output).items():
        print(f"{count:10d}  {what}")  # noqa: T201


if __name__ == "__main__":
    main()
