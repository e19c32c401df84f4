"""Which dopants a host is given: what the chemical prior expects (`defectnet.prior`), and what is known to exist.

That the crystal with the dopant on the whole sublattice is among the parents says more than any rule, and needs no
potential.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from datagen.potentials import Potential
from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.prior import HETEROVALENT_WEIGHT, LEAST_WEIGHT, NEVER, host_valences, similarity, valence_step

__all__ = ["Candidate", "candidates"]

_ENDMEMBER_WEIGHT = 0.5


@dataclass(frozen=True)
class Candidate:
    """A substitution that makes chemical sense.

    Attributes:
        element: the dopant.
        replaces: the host element.
        weight: how likely relative to others, between 0 and 1.
        heterovalent: whether the dopant brings another valence, so that charge must be compensated.
        endmember: the parent in which the dopant has the whole sublattice, "" where none is known.
    """

    element: str
    replaces: str
    weight: float
    heterovalent: bool
    endmember: str = ""


def candidates(
    host: Host, potential: Potential, endmembers: Mapping[tuple[str, str], str] | None = None
) -> list[Candidate]:
    """Every sensible substitution in `host`, most likely first.

    Args:
        host: the pristine crystal.
        potential: where no end member is known, the dopant must be an element that it knows.
        endmembers: by (replaced element, dopant), see `datagen.endmembers.find_endmembers`.
    """
    endmembers = endmembers or {}
    valences = host_valences(host)
    found = []
    for symbol in host.elements:
        for name in VOCABULARY:
            if name in host.elements or name in NEVER:
                continue
            end = endmembers.get((symbol, name), "")
            if not end and not potential.knows(name):
                continue
            step = valence_step(symbol, valences.get(symbol), name)
            if step is None and not end:
                continue
            weight = similarity(symbol, name, valences.get(symbol)) * (HETEROVALENT_WEIGHT if step else 1.0)
            weight = max(weight, _ENDMEMBER_WEIGHT) if end else weight
            if weight >= LEAST_WEIGHT:
                # An end member of another valence is another compound of the same kind, charge-balanced in itself.
                found.append(Candidate(name, symbol, weight, bool(step), end))
    return sorted(found, key=lambda candidate: (-candidate.weight, candidate.replaces, candidate.element))
