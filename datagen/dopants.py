"""Which dopants a host is given: what the chemical prior expects (`defectnet.model.prior`), and what is known to exist.

That the crystal with the dopant on the whole sublattice is among the parents says more than any rule, and needs no
potential.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datagen.potentials import Potential
from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.model.prior import NEVER, Substitution, host_valences, substitutions, weigh

__all__ = ["Replacement", "replacements"]

_ENDMEMBER_WEIGHT = 0.5


@dataclass(frozen=True)
class Replacement(Substitution):
    """A substitution that makes chemical sense, or is known to exist, and what is known of it.

    Attributes:
        endmember: the parent in which the dopant has the whole sublattice, "" where none is known.
    """

    endmember: str = ""


def replacements(
    host: Host,
    potential: Potential,
    endmembers: Mapping[tuple[str, str], str] | None = None,
    *,
    dopants: Sequence[str] = (),
    sublattices: Sequence[str] = (),
) -> list[Replacement]:
    """Every sensible substitution in `host`, most likely first; or those that the user asks for.

    Args:
        host: the pristine crystal.
        potential: where no end member is known, the dopant must be an element that it knows.
        endmembers: by (replaced element, dopant), see `datagen.endmembers.find_endmembers`.
        dopants: only these, where any are given.
        sublattices: only on sites of these elements. With both, every one of the dopants is put there, sensible or not.
    """
    endmembers = endmembers or {}
    found = [
        Replacement(**vars(one))
        for one in substitutions(host)
        if potential.knows(one.element) and (one.replaces, one.element) not in endmembers
    ]
    valences = host_valences(host)
    for (replaces, element), parent in endmembers.items():
        if element not in host.elements and element not in NEVER and element in VOCABULARY:
            weight, step = weigh(replaces, valences.get(replaces), element)
            # An end member of a quite different valence is another compound, charge-balanced in itself.
            found.append(Replacement(element, replaces, max(weight, _ENDMEMBER_WEIGHT), bool(step), parent))
    if dopants:
        found = [one for one in found if one.element in dopants]
    if sublattices:
        found = [one for one in found if one.replaces in sublattices]
    if dopants and sublattices:
        known = {(one.replaces, one.element) for one in found}
        for replaces in sorted(set(host.elements).intersection(sublattices)):
            for element in sorted(set(dopants).difference(host.elements)):
                if (replaces, element) not in known and potential.knows(element):
                    weight, step = weigh(replaces, valences.get(replaces), element)
                    found.append(Replacement(element, replaces, max(weight, _ENDMEMBER_WEIGHT), step != 0))
    return sorted(found, key=lambda one: (-one.weight, one.replaces, one.element))
