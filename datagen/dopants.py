"""Which foreign elements a chemist would expect on which site of a host.

A candidate is weighed by three similarities with the element it replaces: valence (equal, or one more or less: n- and
p-type doping), size and electronegativity. These are Hume-Rothery's rules as a smooth weight rather than a cut. How
often the two ions stand in for each other in known crystals (Hautier et al., Inorg. Chem. 50, 656) raises or lowers it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability
from pymatgen.core import Composition, Species
from pymatgen.core.periodic_table import Element

from datagen.potentials import Potential
from defectnet.elements import VOCABULARY
from defectnet.host import Host

__all__ = ["Candidate", "candidates"]

# Never dopants: noble gases, and elements without a stable isotope but for thorium and uranium.
_EXCLUDED = frozenset(["He", "Ne", "Ar", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa", "Np", "Pu"])
# Hume-Rothery's 15 % for radii and 0.4 for electronegativities, as standard deviations of a Gaussian weight.
_RADIUS_TOLERANCE = 0.15
_ELECTRONEGATIVITY_TOLERANCE = 0.4
_HETEROVALENT_WEIGHT = 0.3
_LEAST_WEIGHT = 0.02
# Bounds of the factor from known crystals: they are few, and biased to what was made.
_LEAST_FACTOR, _MOST_FACTOR = 0.3, 3.0
# That the crystal with the dopant on the whole sublattice exists says more than any rule.
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
    valences = _host_valences(host)
    found = []
    for symbol in host.elements:
        for name in VOCABULARY:
            if name in host.elements or name in _EXCLUDED:
                continue
            end = endmembers.get((symbol, name), "")
            if not end and not potential.knows(name):
                continue
            step = _valence_step(Element(symbol), valences.get(symbol), Element(name))
            if step is None and not end:
                continue
            weight = _similarity(symbol, name, valences.get(symbol)) * (_HETEROVALENT_WEIGHT if step else 1.0)
            weight = max(weight, _ENDMEMBER_WEIGHT) if end else weight
            if weight >= _LEAST_WEIGHT:
                # An end member of another valence is another compound of the same kind, charge-balanced in itself.
                found.append(Candidate(name, symbol, weight, bool(step), end))
    return sorted(found, key=lambda candidate: (-candidate.weight, candidate.replaces, candidate.element))


def _host_valences(host: Host) -> dict[str, float]:
    """Oxidation state of each element of the host; empty for elements and intermetallics."""
    guesses = Composition(host.formula).oxi_state_guesses()
    return dict(guesses[0]) if guesses and len(host.elements) > 1 else {}


def _valence_step(old: Element, valence: float | None, new: Element) -> int | None:
    """0 for an isovalent substitution, 1 for one electron more or less, None for anything else."""
    if valence is None or valence == 0:
        # Covalent or metallic: valence electrons are counted by the group.
        step = abs(old.group - new.group)
        return step if step <= 1 and (old.group >= 13) == (new.group >= 13) else None
    steps = [abs(state - valence) for state in _states(new) if np.sign(state) == np.sign(valence)]
    step = min(steps, default=np.inf)
    return round(step) if step <= 1 else None


def _states(element: Element) -> set[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pymatgen warns of elements without a table, which then simply have no state
        return {*element.common_oxidation_states, *element.icsd_oxidation_states}


def _similarity(old: str, new: str, valence: float | None) -> float:
    radii = _radius(old, valence), _radius(new, valence)
    if None in radii:
        radii = _radius(old, None), _radius(new, None)
    if radii[0] is None or radii[1] is None:
        return 0.0
    size = (radii[1] / radii[0] - 1) / _RADIUS_TOLERANCE
    pull = (Element(new).X - Element(old).X) / _ELECTRONEGATIVITY_TOLERANCE
    return min(1.0, float(np.exp(-0.5 * (size**2 + pull**2))) * _known_together(old, new, valence))


def _radius(symbol: str, valence: float | None) -> float | None:
    """Shannon's radius of the ion of this valence; without one the atomic radius; Å, None where not tabulated."""
    element = Element(symbol)
    radius = element.atomic_radius if not valence else element.ionic_radii.get(round(valence))
    return None if radius is None else float(radius)


def _known_together(old: str, new: str, valence: float | None) -> float:
    """How much more often than by chance the two ions take each other's place in known crystals, as a bounded root."""
    if not valence or valence != round(valence):
        return 1.0
    try:
        lift = _substitutions().pair_corr(Species(old, round(valence)), Species(new, round(valence)))
    except (ValueError, ZeroDivisionError):
        return 1.0  # the statistics do not know one of the ions
    return float(np.clip(np.sqrt(lift), _LEAST_FACTOR, _MOST_FACTOR))


@cache
def _substitutions() -> SubstitutionProbability:
    return SubstitutionProbability()
