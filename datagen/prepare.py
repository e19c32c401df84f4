"""From a host to its row of the response library: which substitutions, by which source, and in what form."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from datagen.cluster_response import clusters_of, dilute_response
from datagen.dopants import Replacement
from datagen.dos import Bins, ElementDos
from datagen.endmembers import Endmembers
from datagen.methods import Interpolated
from datagen.parents import Parent
from datagen.responses import CONCENTRATIONS, LOWEST_THZ, SMOOTHING, HostDynamics, Response
from datagen.settings import PREPARE_PHYSICS
from datagen.springs import bonds_of, packaged_springs
from datagen.symmetry import equivalent_sites
from defectnet.errors import SimulationError
from defectnet.host import Host
from defectnet.io.response_library import packed
from defectnet.model.prior import NEVER, likely_sites, substitutions

__all__ = ["dilute_responses", "endmember_responses", "host_row", "pairs_of", "prepare_digest", "row_of"]

Array = NDArray[np.float64]

# Greatest linear misfit of an end member; beyond it bonds do not keep their length.
_MOST_STRAIN = 0.06
# Bins of the simulator that are joined into one: responses are read at a coarser resolution than samples.
_JOINED = 2
# Room above the host's top for local modes, as a factor, in the responses of single dopants.
_HEADROOM = 4.0


def prepare_digest() -> str:
    """Hash of what decides the responses of a host, whatever it is."""
    what = [PREPARE_PHYSICS, CONCENTRATIONS, SMOOTHING, _MOST_STRAIN, _JOINED, _HEADROOM]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def host_row(
    parent: Parent,
    endmembers: Mapping[tuple[str, str], str] | None = None,
    load: Callable[[str], Parent] | None = None,
    dopants: Collection[str] = (),
) -> dict[str, Any]:
    """A row of `RESPONSES_SCHEMA`: the host's densities, and its responses by end members and by springs.

    Args:
        endmembers: by (replaced element, dopant), their names (`datagen.endmembers.find_endmembers`).
        load: an end member by its name.
        dopants: only these; empty for every sensible substitution, and those that have an end member.

    Raises:
        SimulationError: the host is unstable, or has no density.
    """
    dynamics = HostDynamics(parent)
    found = endmember_responses(dynamics, endmembers or {}, load, dopants)
    pairs = sorted({*pairs_of(parent.host, dopants), *((one.replaces, one.element) for one in found)})
    return row_of(dynamics, [*found, *dilute_responses(dynamics, pairs)])


def endmember_responses(
    dynamics: HostDynamics,
    endmembers: Mapping[tuple[str, str], str],
    load: Callable[[str], Parent] | None,
    dopants: Collection[str] = (),
) -> list[Response]:
    """Responses by those end members that have the host's structure; see `host_row`."""
    parent = dynamics.parent
    ends = Endmembers(parent, load, max_strain=_MOST_STRAIN, lowest_thz=LOWEST_THZ)
    found: list[Response] = []
    for (replaces, element), name in sorted(endmembers.items()):
        choice = Replacement(element, replaces, 0.0, False, name)
        wanted = element in dopants if dopants else element not in NEVER
        if wanted and element not in parent.host.elements and ends.of(choice) is not None:
            with suppress(SimulationError):
                found += dynamics.smooth_responses(Interpolated(ends), choice, "endmember")
    return found


def pairs_of(host: Host, dopants: Collection[str] = ()) -> list[tuple[str, str]]:
    """(replaced element, dopant) of every sensible substitution, the likeliest first; or of `dopants` alone.

    One of `dopants` that makes sense nowhere is put where size and electronegativity are least against it.
    """
    pairs = [(one.replaces, one.element) for one in substitutions(host)]
    if not dopants:
        return pairs
    pairs = [(site, element) for site, element in pairs if element in dopants]
    rest = sorted(set(dopants) - {element for _, element in pairs} - set(host.elements))
    return pairs + [(site, element) for element in rest for site in likely_sites(host, element)]


def dilute_responses(dynamics: HostDynamics, pairs: Iterable[tuple[str, str]]) -> list[Response]:
    """Responses by springs of (replaced element, dopant), for a single dopant: concentration 0."""
    parent = dynamics.parent
    step = dynamics.bins.step_thz * _JOINED
    bins = Bins(step, -(-min(dynamics.bins.n, int(_HEADROOM * parent.top_thz() / dynamics.bins.step_thz)) // _JOINED))
    partial = {symbol: _joined(d)[: bins.n] for symbol, d in dynamics.density.partial.items()}
    density = ElementDos(partial, bins, dynamics.density.imaginary_weight)
    clusters = clusters_of(parent, bins)
    pairs = list(pairs)
    bonds = {replaces: bonds_of(parent, replaces) for replaces, _ in pairs}
    found = []
    for replaces, element in pairs:
        sites = [cluster for cluster in clusters if cluster.element == replaces]
        shares = np.array([cluster.count for cluster in sites]) / sum(cluster.count for cluster in sites)
        scales = packaged_springs().scales(parent, element, replaces, bonds[replaces])
        each = [dilute_response(cluster, parent, density, element, scales) for cluster in sites]
        change = np.sum([w * one.change for w, one in zip(shares, each, strict=True)], axis=0)
        weighted = [one.change_neutron for one in each if one.change_neutron is not None]
        neutron = None
        if len(weighted) == len(each):
            neutron = np.sum([w * one for w, one in zip(shares, weighted, strict=True)], axis=0)
        spread = [None if curve is None else np.repeat(curve, _JOINED) for curve in (change, neutron)]
        assert spread[0] is not None
        found.append(Response(element, replaces, "springs", 0.0, 0.0, spread[0], spread[1], 0.0))
    return found


def row_of(dynamics: HostDynamics, responses: list[Response]) -> dict[str, Any]:
    """A row of `RESPONSES_SCHEMA` with these responses."""
    parent = dynamics.parent
    cell = (np.asarray(parent.primitive.cell), parent.primitive.get_scaled_positions(), parent.primitive.numbers)
    group = spglib.get_symmetry_dataset(cell)
    density = dynamics.density
    return {
        "host_id": parent.parent_id,
        "formula": parent.host.formula,
        "space_group": None if group is None else int(group.number),
        "n_atoms_cell": dynamics.cell.supercell.n_atoms,
        "frequency_step_thz": dynamics.bins.step_thz * _JOINED,
        "dos": packed(_joined(density.total), np.int16),
        "dos_neutron": _maybe(dynamics.weighted(density), np.int16),
        "sites": [
            {"element": parent.primitive.symbols[basis], "count": count, "dos": packed(_joined(dos))}
            for basis, count, dos in _sites(dynamics)
        ],
        "substitutions": [
            {
                "element": one.element,
                "replaces": one.replaces,
                "source": one.source,
                "concentration": one.concentration,
                "strain": one.strain,
                "imaginary_weight": one.imaginary_weight,
                "change": packed(_joined(one.change)),
                "change_neutron": _maybe(one.change_neutron, np.int8),
            }
            for one in responses
        ],
        "settings": prepare_digest(),
        "error": None,
    }


def _maybe(curve: Array | None, kind: Any) -> dict[str, Any] | None:
    return None if curve is None else packed(_joined(curve), kind)


def _joined(curve: Array) -> Array:
    """Means of each `_JOINED` bins."""
    n = -(-curve.size // _JOINED) * _JOINED
    return np.asarray(np.pad(curve, (0, n - curve.size)).reshape(-1, _JOINED).mean(axis=1))


def _sites(dynamics: HostDynamics) -> list[tuple[int, int, Array]]:
    """For each kind of site its first basis atom, how many there are, and its density."""
    representatives = [one.representative for one in equivalent_sites(dynamics.parent.primitive)]
    found = []
    for basis in sorted(set(representatives)):
        members = [k for k, one in enumerate(representatives) if one == basis]
        found.append((basis, len(members), np.mean([dynamics.by_site[k] for k in members], axis=0)))
    return found
