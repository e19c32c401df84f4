"""Do the sources of a host's responses agree? Between sources, cells and concentrations, and what they cost.

Parts, each written into `results/responses.json` when it is done:

- `counts`: what the library holds;
- `stored`: Nequix and springs beside end members, as the library itself holds them: nothing is computed;
- `sources`: Nequix, springs, masses and NEP89 beside end members, on one set of pairs: those for which the library has
  Nequix's response and the parents an end member of the host's structure. All in the same cell with the dopants on the
  same sites, at about 6 %. With a picture;
- `why`: for the least and the most alike of these pairs, whether the potential or its route is the cause;
- `cells`: one source in two cells;
- `linearity`: end members at 1 and at 20 % beside 6 %;
- `cost`: processor seconds, which other work on the machine does not change.

Pairs are kept in runs/responses-pairs.jsonl and runs/responses-routes.jsonl, and gone on with.

    make bench-responses LIBRARY=data/responses PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from response_checks import PARTS_OF_TOP, SMOOTHING, cells, cost, keep, kept_rows, linearity, read
from response_pairs import NEQUIX, PAIRS_OF_A_STRUCTURE, SOURCES, agreement, compared, pairs_with_both, stored
from response_routes import routes
from writing import RESULTS, say, write_result

from datagen.endmembers import find_endmembers
from datagen.parents import load_parents
from datagen.potentials import load_potential
from defectnet.errors import SimulationError
from defectnet.io.response_library import response_files

matplotlib.use("Agg")
import matplotlib.pyplot as plt

KEPT = Path("runs/responses-pairs.jsonl")


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--library", required=True, action="append", help="folder of a library; may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--no-nep89", action="store_true", help="of sources: do not ask NEP89, a third of the time")
    parser.add_argument("--limit", type=int, help="of each part: at most so many hosts more than there are")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "responses.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = PARTS | {"sources": partial(sources, ask_nep89=not chosen.no_nep89)}
    for name in chosen.part or parts:
        result |= parts[name](chosen.parents, chosen.library, chosen.limit)
        write_result("responses", result)


# ---------------------------------------------------------------------------------------------- counts


def counts(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """What the library holds."""
    library = read(folders)
    found: dict[str, set[tuple[str, str, str]]] = {}
    for name in library:
        for one in library.host(name).responses:
            found.setdefault(one.source, set()).add((name, one.replaces, one.element))
    asked = found.get(NEQUIX, set())
    size = sum(_size(file) for folder in folders for file in response_files(folder))
    return {
        "hosts": len(library),
        "substitutions": len(set().union(*found.values())),
        "by_source": {source: len(pairs) for source, pairs in sorted(found.items())},
        "nequix_fragments": len(asked),
        "nequix_hosts": len({name for name, _, _ in asked}),
        "nequix_hosts_of_five": sum(
            count >= 5 for count in np.unique([name for name, _, _ in asked], return_counts=True)[1].tolist()
        ),
        "bytes": size,
        "bytes_per_host": round(size / max(1, len(library))),
    }


def _size(file: Any) -> int:
    with file.open() as opened:
        return int(opened.size())


# ---------------------------------------------------------------------------------------------- sources


def sources(parents: str, folders: list[str], limit: int | None, ask_nep89: bool = True) -> dict[str, Any]:
    """Every source beside the end member, on one set of pairs."""
    library = read(folders)
    ends = find_endmembers(parents)
    rows = kept_rows(KEPT)
    done = {row["host_id"] for row in rows}
    wanted = {name: pairs for name, pairs in pairs_with_both(library, ends).items() if name not in done}
    nep89 = load_potential("nep89") if ask_nep89 else None
    some_hosts = list(wanted)[:limit]
    names = {*some_hosts, *(ends[name][pair] for name in some_hosts for pair in wanted[name])}
    loaders = dict(load_parents(parents, sorted(names)))  # at once: the file is read as a whole
    for name in some_hosts:
        try:
            some = list(compared(loaders, library.host(name), wanted[name], ends[name], nep89))
        except SimulationError as error:
            some = [{"skipped": str(error)[:100]}]
        some = some or [{"skipped": "no end member within the limit of strain"}]
        some = [{"host_id": name} | row for row in some]
        rows += some
        keep(KEPT, some)
        say(f"{name} {[(row.get('element'), row.get('nequix')) for row in some]}")
    rows = _complete(rows)
    _picture(rows)
    return agreement(rows)


def in_library(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """What the library says of itself, without computing anything."""
    return stored(read(folders))


def _complete(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pairs of which every source but NEP89, which has a gate, says something."""
    return [row for row in rows if all(source in row for source in SOURCES if source != "nep89")]


def why(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """The least and the most alike of the pairs of `sources`, and whether the potential or its route is the cause."""
    return routes(parents, _complete(kept_rows(KEPT)), find_endmembers(parents), limit)


def _picture(rows: list[dict[str, Any]]) -> None:
    """Cosines in order, against the misfit of the end member, and by kind of structure."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.9), constrained_layout=True, width_ratios=(1, 1, 1.1))
    headline = str(SMOOTHING[-1])
    structures = _structures(rows)
    for shift, (source, colour) in enumerate(zip(SOURCES, ("C0", "C2", "0.4", "C1"), strict=True)):
        known = [row for row in rows if source in row]
        cosines = np.array([row[source][headline]["cosine"] for row in known])
        if not cosines.size:
            continue
        label = f"{source} ({cosines.size})"
        axes[0].plot(np.linspace(0, 1, cosines.size), np.sort(cosines)[::-1], color=colour, lw=1.8, label=label)
        axes[1].plot([100 * abs(row.get("strain", np.nan)) for row in known], cosines, ".", color=colour, ms=4)
        for place, some in enumerate(structures.values()):
            values = [row[source][headline]["cosine"] for row in some if source in row]
            axes[2].plot(values, np.full(len(values), place + 0.18 * (shift - 1.5)), ".", color=colour, ms=4)
    axes[0].set(xlabel="share of pairs", ylabel=f"cosine with the end member, {headline}/{PARTS_OF_TOP}")
    axes[1].set(xlabel="linear misfit of the end member, %")
    axes[2].set(xlabel="cosine with the end member", xlim=(-0.6, 1.02), yticks=range(len(structures)))
    axes[2].set_yticklabels([f"{name} ({len(some)})" for name, some in structures.items()], fontsize=7)
    for axis in axes[:2]:
        axis.set(ylim=(-0.6, 1.02))
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(RESULTS / "responses.png", dpi=130)
    plt.close(figure)


def _structures(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by kind of structure, the most frequent kinds first; what is rare is left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["structure"], []).append(row)
    frequent = sorted(found.items(), key=lambda item: -len(item[1]))
    return {name: some for name, some in frequent if len(some) >= PAIRS_OF_A_STRUCTURE}


PARTS: dict[str, Callable[[str, list[str], int | None], dict[str, Any]]] = {
    "counts": counts,
    "sources": sources,
    "stored": in_library,
    "why": why,
    "cells": cells,
    "linearity": linearity,
    "cost": cost,
}

if __name__ == "__main__":
    main()
