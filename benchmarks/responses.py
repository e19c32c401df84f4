"""Do the sources of a host's responses agree? Between sources, cells and concentrations, and what they cost.

Parts, each written into `results/responses.json` when it is done:

- `counts`: what the library holds;
- `sources`: Nequix, springs, masses and NEP89 beside end members, on one set of pairs: those for which the library has
  Nequix's response and the parents an end member of the host's structure. All in the same cell with the dopants on the
  same sites, at about 6 %; smoothed by 4 and 8 of 256 parts of the top frequency. With a picture over how much bonds
  change;
- `cells`: one source in two cells;
- `linearity`: end members at 1 and at 20 % beside 6 %;
- `cost`: processor seconds, which other work on the machine does not change.

Pairs are kept in runs/responses-pairs.jsonl and gone on with.

    make bench-responses LIBRARY=data/responses PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from response_checks import PARTS_OF_TOP, SHARE, SMOOTHING, alike, cells, cost, joined, linearity, median, read
from writing import RESULTS, say, write_result

from datagen.dopants import Replacement
from datagen.endmembers import Endmember, Endmembers, find_endmembers
from datagen.methods import Interpolated, Masses
from datagen.parents import Parent, load_parents
from datagen.potential_responses import potential_responses
from datagen.potentials import Potential, load_potential
from datagen.responses import LOWEST_THZ, HostDynamics, Response
from datagen.springs import ScaledBonds, bond_scales, packaged_springs
from defectnet.errors import SimulationError
from defectnet.io.response_library import HostResponses, ResponseLibrary, response_files
from defectnet.model.prior import host_valences, weigh

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = NDArray[np.float64]

KEPT = Path("runs/responses-pairs.jsonl")
NEQUIX = "potential:nequix"
MOST_STRAIN = 0.06
SOURCES = ("nequix", "springs", "masses", "nep89")
# Root mean square of ln(stiffness ratio) of the bonds, weighted by what they hold: edges of the groups.
BOND_CHANGE = (0.1, 0.3)


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--library", required=True, action="append", help="folder of a library; may be repeated")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    parser.add_argument("--limit", type=int, help="of each part: at most so many hosts more than there are")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "responses.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in chosen.part or PARTS:
        result |= PARTS[name](chosen.parents, chosen.library, chosen.limit)
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


def sources(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """Every source beside the end member, on one set of pairs."""
    library = read(folders)
    ends = find_endmembers(parents)
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    done = {row["host_id"] for row in rows}
    wanted = {name: pairs for name, pairs in _nequix_pairs(library, ends).items() if name not in done}
    nep89 = load_potential("nep89")
    for name in list(wanted)[:limit]:
        some = list(_compared(parents, library.host(name), wanted[name], ends[name], nep89)) or [{"host_id": name}]
        rows += some
        with KEPT.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in some)
        say(f"{name} {[(row.get('element'), row.get('nequix')) for row in some]}")
    beside = [row for row in rows if all(source in row for source in SOURCES if source != "nep89")]
    rows = [row for row in beside if "nep89" in row]
    _picture(rows)
    return _agreement(rows) | {"also_where_nep89_fails": _cosines(beside)}


Pairs = dict[str, list[tuple[str, str]]]


def _nequix_pairs(library: ResponseLibrary, ends: dict[str, dict[tuple[str, str], str]]) -> Pairs:
    found = {}
    for name in library:
        known = ends.get(name, {})
        asked = {(one.replaces, one.element) for one in library.host(name).responses if one.source == NEQUIX}
        if both := sorted(asked & known.keys()):
            found[name] = both
    return found


def _compared(
    parents: str,
    stored: HostResponses,
    pairs: list[tuple[str, str]],
    ends: dict[tuple[str, str], str],
    nep89: Potential,
) -> Iterator[dict[str, Any]]:
    loaders = dict(load_parents(parents, sorted({stored.host_id, *(ends[pair] for pair in pairs)})))

    def load(name: str) -> Parent:
        return loaders[name]()

    host = load(stored.host_id)
    dynamics = HostDynamics(host)
    members = Endmembers(host, load, max_strain=MOST_STRAIN, lowest_thz=LOWEST_THZ)
    pairs = [pair for pair in pairs if members.of(Replacement(pair[1], pair[0], 0.0, False, ends[pair])) is not None]
    by_nep89 = _by_nep89(dynamics, nep89, pairs)
    for replaces, element in pairs:
        choice = Replacement(element, replaces, 0.0, False, ends[replaces, element])
        row: dict[str, Any] = {"host_id": host.parent_id, "host": host.host.formula}
        row |= {"replaces": replaces, "element": element, **_kind(host, load(choice.endmember), replaces, element)}
        scales = {(replaces, element): packaged_springs().scales(host, element, replaces)}
        try:
            (truth,) = dynamics.responses(Interpolated(members), choice, "endmember", (SHARE,))
            (masses,) = dynamics.responses(Masses(), choice, "masses", (SHARE,))
            (springs,) = dynamics.responses(ScaledBonds(scales), choice, "springs", (SHARE,))
        except SimulationError as error:
            yield row | {"skipped": str(error)[:100]}
            continue
        reference = joined(truth.change)
        top = stored.dos.size
        row |= {"masses": alike(joined(masses.change), reference, top)}
        row |= {"springs": alike(joined(springs.change), reference, top)}
        row |= _from_library(stored, replaces, element, truth.concentration, reference)
        if (replaces, element) in by_nep89:
            row["nep89"] = alike(joined(by_nep89[replaces, element].change), reference, top)
        yield row


def _by_nep89(
    dynamics: HostDynamics, nep89: Potential, pairs: list[tuple[str, str]]
) -> dict[tuple[str, str], Response]:
    found = {}
    try:
        for asked in potential_responses(dynamics, nep89, pairs):
            near = [one for one in asked.responses if abs(one.concentration - SHARE) < 0.5 * SHARE]
            if near:
                found[asked.replaces, asked.element] = near[0]
    except SimulationError:
        pass  # it fails its gate
    return found


def _from_library(stored: HostResponses, replaces: str, element: str, share: float, reference: Array) -> dict[str, Any]:
    """Nequix at the same concentration, and springs as they are stored, of a single dopant."""
    found: dict[str, Any] = {}
    for one in stored.of(element):
        if one.replaces == replaces and one.source == NEQUIX and abs(one.concentration - share) < 1e-4:
            found["nequix"] = alike(one.change, reference, stored.dos.size)
        if one.replaces == replaces and one.source == "springs" and one.concentration == 0.0:
            found["springs_single"] = alike(one.change, reference, stored.dos.size)
    return found


def _kind(host: Parent, end: Parent, replaces: str, element: str) -> dict[str, Any]:
    """What decides how hard a pair is."""
    weight, step = weigh(replaces, host_valences(host.host).get(replaces), element)
    try:
        member = Endmember(host, end, replaces, element)
        scales = bond_scales(host, member, replaces, element)
        total = sum(held for _, _, held in scales)
        change = float(np.sqrt(sum(held * log**2 for _, log, held in scales) / total)) if total else 0.0
    except SimulationError:
        return {}
    return {"bond_change": change, "strain": member.strain, "heterovalent": bool(step), "weight": weight}


def _agreement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    headline = str(SMOOTHING[-1])
    worst = sorted(rows, key=lambda row: row["nequix"][headline]["cosine"])[:8]
    names = ("host", "replaces", "element", "strain", "heterovalent", "bond_change")
    return {
        "n_pairs": len(rows),
        "n_hosts": len({row["host_id"] for row in rows}),
        "cosine_vs_endmember": {source: median(rows, source, headline, "cosine") for source in SOURCES},
        "by_smoothing": {
            str(sigma): {
                source: {figure: median(rows, source, str(sigma), figure) for figure in ("cosine", "size", "r2")}
                for source in (*SOURCES, "springs_single")
            }
            for sigma in SMOOTHING
        },
        "by_bond_change": _grouped(rows, "bond_change", BOND_CHANGE),
        "by_strain": _grouped(rows, "strain", (0.02, 0.04)),
        "by_valence": {
            name: _cosines([row for row in rows if row.get("heterovalent") == value])
            for name, value in (("isovalent", False), ("heterovalent", True))
        },
        "nequix_worst": [
            {name: row.get(name) for name in names} | {source: row[source][headline] for source in SOURCES}
            for row in worst
        ],
    }


def _grouped(rows: list[dict[str, Any]], name: str, edges: tuple[float, ...]) -> dict[str, Any]:
    bounds = [0.0, *edges, float("inf")]
    return {
        f"{low:g} to {high:g}": _cosines([row for row in rows if name in row and low <= abs(row[name]) < high])
        for low, high in pairwise(bounds)
    }


def _cosines(rows: list[dict[str, Any]]) -> dict[str, Any]:
    headline = str(SMOOTHING[-1])
    return {"n": len(rows)} | {source: median(rows, source, headline, "cosine") for source in SOURCES}


def _picture(rows: list[dict[str, Any]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, constrained_layout=True)
    headline = str(SMOOTHING[-1])
    for source, colour in zip(SOURCES, ("C0", "C2", "0.4", "C1"), strict=True):
        cosines = np.array([row[source][headline]["cosine"] for row in rows])
        if cosines.size:
            axes[0].plot(np.linspace(0, 1, cosines.size), np.sort(cosines)[::-1], color=colour, lw=1.8, label=source)
            changes = [row.get("bond_change", np.nan) for row in rows]
            axes[1].plot(changes, cosines, ".", color=colour, label=source, ms=5)
    axes[0].set(
        xlabel="share of pairs", ylabel=f"cosine with the end member, {headline}/{PARTS_OF_TOP}", ylim=(-0.6, 1.02)
    )
    axes[1].set(xlabel="change of the bonds, rms of ln(stiffness ratio)")
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(RESULTS / "responses.png", dpi=130)
    plt.close(figure)


PARTS: dict[str, Callable[[str, list[str], int | None], dict[str, Any]]] = {
    "counts": counts,
    "sources": sources,
    "cells": cells,
    "linearity": linearity,
    "cost": cost,
}

if __name__ == "__main__":
    main()
