"""From a host to its row of the response library: which substitutions, by which source, and in what form."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import spglib
from numpy.typing import NDArray

from datagen.dos import density_by_site
from datagen.endmembers import Endmember
from datagen.parents import Parent
from datagen.responses import CONCENTRATIONS, HostDynamics, Response
from datagen.springs import packaged_springs
from defectnet.errors import DefectNetError, SimulationError
from defectnet.io.response_library import packed
from defectnet.model.prior import NEVER, substitutions

__all__ = ["SPRING_CONCENTRATION", "host_row", "prepare_digest", "row_of"]

Array = NDArray[np.float64]

# Raised when the same host would get other responses.
_PHYSICS = 1
# The one concentration at which springs are computed: enough dopants that their sites average, few enough that the
# change is linear.
SPRING_CONCENTRATION = 0.05
# Most likely substitutions by chemistry that get a response by springs.
_MOST_SUBSTITUTIONS = 16
# Greatest linear misfit of an end member; beyond it bonds do not keep their length.
_MOST_STRAIN = 0.06
# Bins of the simulator that are joined into one: responses are read at a coarser resolution than samples.
_JOINED = 2


def prepare_digest() -> str:
    """Hash of what decides the responses of a host, whatever it is."""
    what = [_PHYSICS, CONCENTRATIONS, SPRING_CONCENTRATION, _MOST_SUBSTITUTIONS, _MOST_STRAIN, _JOINED]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def host_row(
    parent: Parent,
    endmembers: Mapping[tuple[str, str], str] | None = None,
    load: Callable[[str], Parent] | None = None,
) -> dict[str, Any]:
    """A row of `RESPONSES_SCHEMA`: the host's densities, and its responses by end members and springs.

    Args:
        endmembers: by (replaced element, dopant), their names (`datagen.endmembers.find_endmembers`).
        load: an end member by its name.

    Raises:
        SimulationError: the host is unstable, or has no density.
    """
    dynamics = HostDynamics(parent)
    found: list[Response] = []
    for (replaces, element), name in sorted((endmembers or {}).items()):
        if load is None or element in NEVER or element in parent.host.elements:
            continue
        try:
            end = Endmember(parent, load(name), replaces, element)
            if abs(end.strain) <= _MOST_STRAIN and load(name).lowest_thz() >= -0.3:
                found += dynamics.endmember(end, element, replaces)
        except SimulationError:
            continue
    known = {(one.replaces, one.element) for one in found}
    likely = [(one.replaces, one.element) for one in substitutions(parent.host)[:_MOST_SUBSTITUTIONS]]
    for replaces, element in [*sorted(known), *(pair for pair in likely if pair not in known)]:
        try:
            found += dynamics.springs(element, replaces, packaged_springs(), (SPRING_CONCENTRATION,))
        except DefectNetError:
            try:
                found += dynamics.masses(element, replaces, (SPRING_CONCENTRATION,))
            except DefectNetError:
                continue
    return row_of(dynamics, found)


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
        "n_atoms_cell": dynamics.supercell.n_atoms,
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
    representatives = [one.representative for one in dynamics.equivalences]
    by_atom = density_by_site(dynamics.parent, dynamics.bins)
    found = []
    for basis in sorted(set(representatives)):
        members = [k for k, one in enumerate(representatives) if one == basis]
        found.append((basis, len(members), np.mean([by_atom[k] for k in members], axis=0)))
    return found
