"""The pairs of `make bench-responses`: each source of a response beside the end member of the same host and dopant.

Nequix's responses are read from the library, which holds them with end members of the same (host, replaced element,
dopant); the end member, springs, masses and NEP89 are computed in the cell that the library's were computed in, with
the dopants on the same sites, at about 6 %.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise, product
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray
from pymatgen.core import Composition
from response_checks import SHARE, SMOOTHING, alike, joined, median

from datagen.dopants import Replacement
from datagen.endmembers import Endmember, Endmembers
from datagen.methods import Interpolated, Masses
from datagen.parents import Parent
from datagen.potential_responses import potential_responses
from datagen.potentials import Potential
from datagen.responses import LOWEST_THZ, HostDynamics, Response
from datagen.springs import ScaledBonds, bond_scales, packaged_springs
from defectnet.errors import SimulationError
from defectnet.io.response_library import HostResponses, ResponseLibrary, StoredResponse
from defectnet.model.prior import host_valences, weigh

Array = NDArray[np.float64]

NEQUIX = "potential:nequix"
MOST_STRAIN = 0.06
SOURCES = ("nequix", "springs", "masses", "nep89")
# Concentrations that differ by less than this share are one: responses hardly depend on them (`linearity`).
SAME_CONCENTRATION = 0.1
STORED = ("nequix", "springs")
# The cosine that was aimed at.
GOOD = 0.9
# Root mean square of ln(stiffness ratio) of the bonds, weighted by what they hold: edges of the groups.
BOND_CHANGE = (0.1, 0.3)
# Linear misfit of the end member: edges of the groups.
STRAIN = (0.02, 0.04)
FINE_STRAIN = (0.01, 0.02, 0.03, 0.04, 0.05)
# Structures of fewer pairs are not a group of their own.
PAIRS_OF_A_STRUCTURE = 6

Pairs = dict[str, list[tuple[str, str]]]


def pairs_with_both(library: ResponseLibrary, ends: dict[str, dict[tuple[str, str], str]]) -> Pairs:
    """By host, the (replaced element, dopant) that Nequix has answered and of which there is an end member."""
    found = {}
    for name in library:
        known = ends.get(name, {})
        asked = {(one.replaces, one.element) for one in library.host(name).responses if one.source == NEQUIX}
        if both := sorted(asked & known.keys()):
            found[name] = both
    return found


def compared(
    loaders: Mapping[str, Callable[[], Parent]],
    stored: HostResponses,
    pairs: list[tuple[str, str]],
    ends: dict[tuple[str, str], str],
    nep89: Potential | None,
) -> Iterator[dict[str, Any]]:
    """One row a pair of a host: what kind it is, and by source what `alike` says of it beside the end member.

    Args:
        loaders: of the host and its end members, by name.
        stored: the host as the library has it.
        pairs: (replaced element, dopant) of each.
        ends: the names of their end members.
        nep89: None where it is not to be asked.

    Raises:
        SimulationError: the host is unstable.
    """

    def load(name: str) -> Parent:
        return loaders[name]()

    host = load(stored.host_id)
    dynamics = HostDynamics(host)
    members = Endmembers(host, load, max_strain=MOST_STRAIN, lowest_thz=LOWEST_THZ)
    pairs = [pair for pair in pairs if members.of(Replacement(pair[1], pair[0], 0.0, False, ends[pair])) is not None]
    by_nep89 = {} if nep89 is None else _by_nep89(dynamics, nep89, pairs)
    for replaces, element in pairs:
        choice = Replacement(element, replaces, 0.0, False, ends[replaces, element])
        row: dict[str, Any] = {"host_id": host.parent_id, "host": host.host.formula, "structure": _structure(host)}
        row["atoms"] = len(host.primitive)
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
        row |= {"concentration": truth.concentration, "endmember_strain": truth.strain}
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
        if one.replaces != replaces:
            continue
        if one.source == NEQUIX and abs(one.concentration / share - 1) < SAME_CONCENTRATION:
            found["nequix"] = alike(one.change, reference, stored.dos.size)
            found["nequix_strain"] = one.strain
        if one.source == "springs" and one.concentration == 0.0:
            found["springs_single"] = alike(one.change, reference, stored.dos.size)
    return found


def _structure(host: Parent) -> str:
    """The kind of structure: the formula without its elements, atoms of the primitive cell, the space group."""
    cell = np.asarray(host.primitive.cell), host.primitive.get_scaled_positions(), host.primitive.numbers
    group = spglib.get_symmetry_dataset(cell)
    kind = Composition(host.host.formula).anonymized_formula
    return f"{kind} {'?' if group is None else group.international}, {len(host.primitive)} atoms"


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


def agreement(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the pairs of every source, in all and by kind; NEP89 on those where it passes its gate."""
    headline = str(SMOOTHING[-1])
    worst = sorted(rows, key=lambda row: row["nequix"][headline]["cosine"])[:12]
    names = ("host", "structure", "replaces", "element", "strain", "nequix_strain", "heterovalent", "bond_change")
    structures = sorted({row["structure"] for row in rows})
    of_structure = {name: [row for row in rows if row["structure"] == name] for name in structures}
    large = {name: some for name, some in of_structure.items() if len(some) >= PAIRS_OF_A_STRUCTURE}
    answered = [row for row in rows if "nep89" in row]
    return {
        "n_pairs": len(rows),
        "n_hosts": len({row["host_id"] for row in rows}),
        "n_structures": len(structures),
        "n_pairs_nep89": len(answered),
        "cosine_vs_endmember": {source: median(rows, source, headline, "cosine") for source in SOURCES},
        "where_nep89_answers": cosines(answered),
        "by_smoothing": {
            str(sigma): {
                source: {figure: median(rows, source, str(sigma), figure) for figure in ("cosine", "size", "r2")}
                for source in (*SOURCES, "springs_single")
            }
            for sigma in SMOOTHING
        },
        "by_bond_change": grouped(rows, "bond_change", BOND_CHANGE),
        "by_strain": grouped(rows, "strain", STRAIN),
        "by_valence": {
            name: cosines([row for row in rows if row.get("heterovalent") == value])
            for name, value in (("isovalent", False), ("heterovalent", True))
        },
        "by_structure": {name: cosines(some) for name, some in large.items()},
        "nequix_worst": [
            {name: row.get(name) for name in names}
            | {source: row[source][headline] for source in SOURCES if source in row}
            for row in worst
        ],
    }


def grouped(
    rows: list[dict[str, Any]], name: str, edges: tuple[float, ...], sources: tuple[str, ...] = SOURCES
) -> dict[str, Any]:
    """Medians over the rows between edges of the size of a figure."""
    bounds = [0.0, *edges, float("inf")]
    return {
        f"{low:g} to {high:g}": cosines([row for row in rows if name in row and low <= abs(row[name]) < high], sources)
        for low, high in pairwise(bounds)
    }


def cosines(rows: list[dict[str, Any]], sources: tuple[str, ...] = SOURCES) -> dict[str, Any]:
    """How many rows, and the median cosine of each source."""
    headline = str(SMOOTHING[-1])
    return {"n": len(rows)} | {source: median(rows, source, headline, "cosine") for source in sources}


def stored(library: ResponseLibrary) -> dict[str, Any]:
    """Nequix, and springs of a single dopant, beside end members as the library itself holds them: nothing is computed.

    At the concentrations nearest to 6 %, in whatever cells they were computed in.
    """
    rows = [row for name in library for row in _stored_of(library.host(name))]
    headline = str(SMOOTHING[-1])
    figures = ("cosine", "size", "r2")
    return {
        "stored": {
            "n_pairs": len(rows),
            "n_hosts": len({row["host_id"] for row in rows}),
            "n_pairs_springs": sum("springs" in row for row in rows),
            "nequix": {figure: median(rows, "nequix", headline, figure) for figure in figures},
            "springs": {figure: median(rows, "springs", headline, figure) for figure in figures},
            "nequix_share_of_pairs_from_0.9": round(
                float(np.mean([row["nequix"][headline]["cosine"] >= GOOD for row in rows])), 3
            ),
            "by_strain": grouped(rows, "strain", FINE_STRAIN, STORED),
            "by_kind_of_structure": {name: cosines(some, STORED) for name, some in _by_kind(rows).items()},
        }
    }


def _by_kind(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        kinds.setdefault(row["kind"], []).append(row)
    large = {name: some for name, some in sorted(kinds.items()) if len(some) >= PAIRS_OF_A_STRUCTURE}
    rest = [row for name, some in kinds.items() if name not in large for row in some]
    return large | {"others": rest}


def _stored_of(host: HostResponses) -> Iterator[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, list[StoredResponse]]] = {}
    for one in host.responses:
        found.setdefault((one.replaces, one.element), {}).setdefault(one.source, []).append(one)
    for (replaces, element), by_source in found.items():
        if NEQUIX not in by_source or "endmember" not in by_source:
            continue
        asked, end = min(
            product(by_source[NEQUIX], by_source["endmember"]),
            key=lambda two: sum(abs(one.concentration - SHARE) for one in two),
        )
        if abs(asked.concentration / end.concentration - 1) > SAME_CONCENTRATION:
            continue  # the cell of one of them was unstable there
        kind = f"{Composition(host.formula).anonymized_formula}, space group {host.space_group}"
        row = {"host_id": host.host_id, "host": host.formula, "kind": kind, "replaces": replaces, "element": element}
        on_sublattice = sum(site.count for site in host.sites if site.element == replaces)
        share = on_sublattice / sum(site.count for site in host.sites)
        row["strain"] = end.strain / end.concentration * share  # of the end member: the dopant on the whole sublattice
        row["nequix"] = alike(asked.change, end.change, host.dos.size)
        for one in by_source.get("springs", [])[:1]:
            row["springs"] = alike(one.change, end.change, host.dos.size)
        yield row
