"""What a dataset holds: parents, elements, spectra, methods, and whether any formula is in two splits.

make bench-dataset
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from writing import write_result

from defectnet.host import Host
from defectnet.io.datasets import spectra_by_source
from defectnet.io.tables import read_spectra
from training.dataset import split_of


def _by_both(spectra: list[dict[str, Any]]) -> int:
    """Substitutions of a parent whose spectra rest on DFT crystals here and on a potential there."""
    found: dict[tuple[str, str, str], set[bool]] = defaultdict(set)
    for row in spectra:
        for defect in row["defects"] or []:
            by_potential = bool(row["origin"]["potential"])
            found[row["parent_id"], defect["replaces"], defect["element"]].add(by_potential)
    return sum(len(ways) > 1 for ways in found.values())


def main() -> None:
    """Count and write `results/dataset.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of shards")
    folder = parser.parse_args().data
    table = read_spectra(folder).select(["parent_id", "host", "defects", "origin", "error"])
    rows = table.to_pylist()
    spectra = [row for row in rows if row["error"] is None]
    splits = defaultdict(set)
    for row in spectra:
        splits[Host(row["host"]).formula].add(split_of(Host(row["host"])))
    dopants = {defect["element"] for row in spectra for defect in row["defects"] or []}
    hosts = {element for formula in splits for element in Host(formula).elements}
    result = {
        "parents": len({row["parent_id"] for row in spectra}),
        "elements": len(dopants | hosts),
        "spectra": len(spectra),
        "bytes": sum(file.stat().st_size for file in folder.glob("*.parquet")),
        "bytes_with_responses": sum(file.stat().st_size for file in folder.rglob("*.parquet")),
        "formulas_in_two_splits": sum(len(names) > 1 for names in splits.values()),
        "formulas": len(splits),
        "host_elements": len(hosts),
        "dopant_elements": len(dopants),
        "rows": len(rows),
        "parents_tried": len({row["parent_id"] for row in rows}),
        "by_source": spectra_by_source(table),
        "methods": dict(Counter(row["origin"]["method"] for row in spectra).most_common()),
        "heterovalent": sum(bool(row["origin"]["heterovalent"]) for row in spectra),
        "substitutions_by_both": _by_both(spectra),
        "by_number_of_dopants": {
            str(n): count for n, count in sorted(Counter(len(row["defects"] or []) for row in spectra).items())
        },
        "formulas_by_split": dict(Counter(name for names in splits.values() for name in names)),
        "failures": dict(
            Counter(row["error"].partition(": ")[2].partition(" (")[0] for row in rows if row["error"]).most_common(8)
        ),
    }
    write_result("dataset", result)
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
