"""Parts of `make bench-responses` that need one source alone, and how two responses are compared."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from alloys import nequix_beside
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from writing import say

from datagen.dopants import Replacement
from datagen.endmembers import find_endmembers
from datagen.methods import Masses
from datagen.parents import Parent, load_parents
from datagen.potential_responses import potential_responses
from datagen.potentials import Potential, load_potential
from datagen.prepare import dilute_responses, endmember_responses, pairs_of
from datagen.responses import HostDynamics
from defectnet.errors import SimulationError
from defectnet.io.response_library import ResponseLibrary, read_responses, response_files

Array = NDArray[np.float64]

# Fraction of all atoms at which responses are compared.
SHARE = 0.06
# Sigma of the smoothing in parts of the host's top frequency: 4 and 8 of 256.
SMOOTHING = (4, 8)
PARTS_OF_TOP = 256
# Bins of the simulator in one of the library's.
JOINED = 2
# Hosts of the parts `cells` and `cost`, and candidates of a host.
FEW = 12
CANDIDATES = 20


def read(folders: list[str]) -> ResponseLibrary:
    """Several folders as one library."""
    return ResponseLibrary([read_responses(file) for folder in folders for file in response_files(folder)])


def kept_rows(path: Path) -> list[dict[str, Any]]:
    """What an earlier run has kept, one object a line; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def keep(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to what is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def joined(curve: Array) -> Array:
    """A response on the library's bins."""
    n = -(-curve.size // JOINED) * JOINED
    return np.asarray(np.pad(curve, (0, n - curve.size)).reshape(-1, JOINED).mean(axis=1))


def alike(one: Array, other: Array, top_bins: int) -> dict[str, dict[str, float]]:
    """By smoothing: the cosine of two responses, the size of the first over the second's, and R².

    Args:
        top_bins: how many bins the host's own density has.
    """
    n = max(one.size, other.size)
    found = {}
    for sigma in SMOOTHING:
        bins = sigma / PARTS_OF_TOP * top_bins
        a, b = (gaussian_filter1d(np.pad(c, (0, n - c.size)), bins, mode="constant") for c in (one, other))
        sizes = float(np.linalg.norm(a)), float(np.linalg.norm(b))
        found[str(sigma)] = {
            "cosine": float(a @ b) / max(sizes[0] * sizes[1], 1e-12),
            "size": sizes[0] / max(sizes[1], 1e-12),
            "r2": 1.0 - float(((a - b) ** 2).sum()) / max(float((b**2).sum()), 1e-12),
        }
    return found


def median(rows: Iterable[dict[str, Any]], source: str, sigma: str, figure: str) -> float | None:
    """Of a figure of `alike`, over the rows that have it."""
    values = [row[source][sigma][figure] for row in rows if source in row]
    return round(float(np.median(values)), 3) if values else None


def cells(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """The same substitution by the end member in two cells of 216 atoms, of other form and with dopants elsewhere."""
    rows = []
    for host, load, ends in few(parents, folders, limit):
        pairs = [HostDynamics(host, seed=seed) for seed in (0, 1)]
        both = [endmember_responses(one, dict(list(ends.items())[:2]), load) for one in pairs]
        for one, other in zip(*both, strict=False):
            same = one.element == other.element and abs(one.concentration - other.concentration) < 0.01
            if same and one.concentration > 0.5 * SHARE:
                top = int(np.flatnonzero(pairs[0].density.total > 0)[-1]) // JOINED + 1
                found = alike(joined(one.change), joined(other.change), top)
                rows.append({"concentration": one.concentration, "cell": found})
        say(f"{host.parent_id} {len(rows)}")
    return {
        "cells_r2_median": median(rows, "cell", str(SMOOTHING[-1]), "r2"),
        "cells": {
            str(sigma): {figure: median(rows, "cell", str(sigma), figure) for figure in ("cosine", "size", "r2")}
            for sigma in SMOOTHING
        }
        | {"n": len(rows)},
    }


def linearity(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """End members at the least and the greatest concentration beside the middle one, as the library has them."""
    library = read(folders)
    rows: dict[str, list[dict[str, Any]]] = {"least": [], "greatest": []}
    for name in list(library)[:limit]:
        found: dict[tuple[str, str], list[Any]] = {}
        host = library.host(name)
        for one in host.responses:
            if one.source == "endmember":
                found.setdefault((one.replaces, one.element), []).append(one)
        for some in found.values():
            middle = min(some, key=lambda one: abs(one.concentration - SHARE))
            for label, other in (("least", some[0]), ("greatest", some[-1])):
                if abs(middle.concentration - SHARE) < 0.5 * SHARE and other is not middle:
                    rows[label].append({"pair": alike(other.change, middle.change, host.dos.size)})
    return {
        "linearity": {
            label: {"n": len(some)}
            | {
                str(sigma): {figure: median(some, "pair", str(sigma), figure) for figure in ("cosine", "size")}
                for sigma in SMOOTHING
            }
            for label, some in rows.items()
        }
    }


def few(
    parents: str, folders: list[str], limit: int | None
) -> Iterator[tuple[Parent, Callable[[str], Parent], dict[tuple[str, str], str]]]:
    ends = find_endmembers(parents)
    names = [name for name in read(folders) if name in ends][:: max(1, len(ends) // 500)][: limit or FEW]
    for name in names:
        loaders = dict(load_parents(parents, sorted({name, *ends[name].values()})))
        try:
            yield loaders[name](), lambda other, loaders=loaders: loaders[other](), ends[name]  # type: ignore[misc]
        except SimulationError:
            continue


# ---------------------------------------------------------------------------------------------- cost


def cost(parents: str, folders: list[str], limit: int | None) -> dict[str, Any]:
    """Processor seconds of a fragment, and of a host with twenty candidates by each source.

    Twenty of end members and of Nequix are extrapolated from what the host has, and from three fragments.
    """
    potential = load_potential(nequix_beside(parents))
    rows = []
    for host, load, ends in few(parents, folders, min(limit or 5, 5)):
        pairs = pairs_of(host.host)[:CANDIDATES]
        dynamics = HostDynamics(host)
        row: dict[str, Any] = {"host": host.host.formula}
        row["cell_s"] = _seconds(lambda dynamics=dynamics: dynamics.cell)
        row["masses_20_s"] = _seconds(lambda dynamics=dynamics, pairs=pairs: _masses(dynamics, pairs))
        row["springs_20_s"] = _seconds(lambda dynamics=dynamics, pairs=pairs: dilute_responses(dynamics, pairs))
        row["endmembers"] = len(ends)
        row["endmembers_s"] = _seconds(lambda d=dynamics, ends=ends, load=load: endmember_responses(d, ends, load))
        row["endmembers_20_s"] = round(CANDIDATES * row["endmembers_s"] / max(1, len(ends)), 1)
        try:
            row |= _nequix_cost(dynamics, potential, pairs)
        except SimulationError as error:
            say(f"{host.parent_id}: {error}")
            continue
        rows.append(row)
        say(str(row))
    fragments = [row["fragment_s"] for row in rows]
    return {
        "seconds_per_fragment": round(float(np.median(fragments)), 1) if rows else None,
        "calls_per_fragment": round(float(np.median([row["calls"] for row in rows])), 1) if rows else None,
        "seconds_of_20_candidates": {
            source: round(float(np.median([row[f"{source}_20_s"] for row in rows])), 1) if rows else None
            for source in ("masses", "springs", "endmembers", "nequix")
        },
        "cost": rows,
    }


def _masses(dynamics: HostDynamics, pairs: list[tuple[str, str]]) -> None:
    for replaces, element in pairs:
        dynamics.responses(Masses(), Replacement(element, replaces, 0.0, False), "masses")


def _nequix_cost(dynamics: HostDynamics, potential: Potential, pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Of three fragments in at most 64 atoms, each with its density in the cells of the responses."""
    marks, calls = [time.process_time()], 0
    for one in potential_responses(dynamics, potential, pairs[:3], fragment_atoms=64):
        marks.append(time.process_time())
        calls += one.force_calls
    each = (marks[-1] - marks[1]) / max(1, len(marks) - 2)  # the first took the host's own force constants too
    first = marks[1] - marks[0] - each
    return {
        "calls": calls / (len(marks) - 1),
        "fragment_s": round(each, 2),
        "nequix_host_s": round(first, 1),
        "nequix_20_s": round(first + CANDIDATES * each, 1),
    }


def _seconds(work: Callable[[], Any]) -> float:
    started = time.process_time()
    work()
    return round(time.process_time() - started, 2)
