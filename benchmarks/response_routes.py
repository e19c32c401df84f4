"""Why a potential's response differs from the end member's: the potential, or the route that it takes.

A part of `make bench-responses`. For some pairs the host and its end member are computed with Nequix throughout, so
that its own end member can be asked, by the route that DFT's takes (interpolated, atoms where they are), beside its own
fragment (one dopant relaxed, the crystal strained by its pressure). Where these two differ the route is the cause, for
the potential is one; where Nequix's end member differs from DFT's, on axes laid over each other by the hosts' mean
frequencies, the potential is.
"""

from pathlib import Path
from typing import Any

import numpy as np
from alloys import nequix_beside
from numpy.typing import NDArray
from response_checks import SHARE, SMOOTHING, alike, joined, keep, kept_rows
from writing import say

from datagen.dopants import Replacement
from datagen.endmembers import Endmembers
from datagen.methods import Interpolated
from datagen.parents import Parent, load_parents
from datagen.potential_responses import potential_responses
from datagen.potentials import Potential, load_potential
from datagen.responses import LOWEST_THZ, HostDynamics, Response
from datagen.structures import from_atoms
from defectnet.errors import SimulationError

Array = NDArray[np.float64]

KEPT = Path("runs/responses-routes.jsonl")
# The least alike pairs and the most alike ones that are looked at, in hosts of at most so many atoms.
WORST, BEST, MOST_ATOMS = 10, 4, 4
# Atoms of a fragment, as in the released library.
FRAGMENT_ATOMS = 72
# A crystal by the potential itself may take this linear misfit, beyond DFT's limit.
MOST_STRAIN = 0.08
_HEADLINE = str(SMOOTHING[-1])

Ends = dict[str, dict[tuple[str, str], str]]


def routes(parents: str, rows: list[dict[str, Any]], ends: Ends, limit: int | None) -> dict[str, Any]:
    """Cosine and size of each of the two steps, and of both together as `sources` found it, by pair.

    Args:
        rows: of `response_pairs.compared`.
        ends: `datagen.endmembers.find_endmembers`.
        limit: at most so many pairs more than there are.
    """
    found = kept_rows(KEPT)
    done = {_key(row) for row in found}
    wanted = [row for row in _chosen(rows) if _key(row) not in done][:limit]
    potential = load_potential(nequix_beside(parents)) if wanted else None
    loaders = (
        dict(load_parents(parents, sorted({name for row in wanted for name in _names(row, ends)}))) if wanted else {}
    )
    for row in wanted:
        host, end = (loaders[name]() for name in _names(row, ends))
        one: dict[str, Any] = {name: row[name] for name in ("host_id", "host", "replaces", "element")}
        one |= _of_pair(row)
        try:
            assert potential is not None
            one |= _two_steps(host, end, (row["replaces"], row["element"]), potential)
        except SimulationError as error:
            one["skipped"] = str(error)[:100]
        found.append(one)
        keep(KEPT, [one])
        say(f"{one}")
    known = {_key(row): row for row in rows}
    named = [row | _of_pair(known[_key(row)]) if _key(row) in known else row for row in found if "route" in row]
    return {"routes": sorted(named, key=lambda row: row["both"]["cosine"])}


def _of_pair(row: dict[str, Any]) -> dict[str, Any]:
    return {"structure": row["structure"], "strain": row["strain"], "both": row["nequix"][_HEADLINE]}


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["host_id"], row["replaces"], row["element"]


def _names(row: dict[str, Any], ends: Ends) -> tuple[str, str]:
    return row["host_id"], ends[row["host_id"]][row["replaces"], row["element"]]


def _chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    small = [row for row in rows if row["atoms"] <= MOST_ATOMS and not row["heterovalent"]]
    ordered = sorted(small, key=lambda row: row["nequix"][_HEADLINE]["cosine"])
    return [*ordered[:WORST], *ordered[WORST:][-BEST:]]


def _two_steps(host: Parent, end: Parent, pair: tuple[str, str], potential: Potential) -> dict[str, Any]:
    dft = HostDynamics(host)
    own = HostDynamics(from_atoms(host.primitive, host.parent_id, potential))
    own_end = from_atoms(end.primitive, end.parent_id, potential)
    truth = _interpolated(dft, end, pair)
    between = _interpolated(own, own_end, pair)
    (asked,) = potential_responses(own, potential, [pair], fragment_atoms=FRAGMENT_ATOMS)
    if asked.error:
        raise SimulationError(asked.error)
    fragment = min(asked.responses, key=lambda one: abs(one.concentration - between.concentration))
    return {
        "route": alike(joined(fragment.change), joined(between.change), _top(own))[_HEADLINE],
        "potential": alike(_stretched(between, own, dft), joined(truth.change), _top(dft))[_HEADLINE],
        "fragment_strain": fragment.strain,
        "own_endmember_strain": between.strain,
        "endmember_strain": truth.strain,
    }


def _interpolated(dynamics: HostDynamics, end: Parent, pair: tuple[str, str]) -> Response:
    members = Endmembers(dynamics.parent, lambda name: end, max_strain=MOST_STRAIN, lowest_thz=LOWEST_THZ)
    choice = Replacement(pair[1], pair[0], 0.0, False, end.parent_id)
    if members.of(choice) is None:
        raise SimulationError("no end member by the potential")
    (found,) = dynamics.responses(Interpolated(members), choice, "endmember", (SHARE,))
    return found


def _top(dynamics: HostDynamics) -> int:
    return int(np.flatnonzero(joined(dynamics.density.total) > 0)[-1]) + 1


def _stretched(response: Response, own: HostDynamics, dft: HostDynamics) -> Array:
    """A response on the axis of the DFT host, stretched so that the mean frequencies of the two hosts agree."""
    change = joined(response.change)
    steps = [2 * one.bins.step_thz for one in (own, dft)]
    factor = _mean_thz(dft) / _mean_thz(own)
    axes = [(np.arange(change.size) + 0.5) * step for step in steps]
    return np.asarray(np.interp(axes[1], axes[0] * factor, change, right=0.0))


def _mean_thz(dynamics: HostDynamics) -> float:
    total = dynamics.density.total
    return float((np.arange(total.size) + 0.5) @ total / total.sum() * dynamics.bins.step_thz)
