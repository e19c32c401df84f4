"""Which foreign elements a chemist would expect on which site of a host.

A candidate is weighed by three similarities with the element it replaces: valence (equal, or one more or less: n- and
p-type doping), size and electronegativity. These are Hume-Rothery's rules as a smooth weight rather than a cut.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Composition
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


@dataclass(frozen=True)
class Candidate:
    """A substitution that makes chemical sense.

    Attributes:
        element: the dopant.
        replaces: the host element.
        weight: how likely relative to others, between 0 and 1.
        heterovalent: whether the dopant brings another valence, so that charge must be compensated.
    """

    element: str
    replaces: str
    weight: float
    heterovalent: bool


def candidates(host: Host, potential: Potential) -> list[Candidate]:
    """Every sensible substitution in `host` by an element that `potential` knows, most likely first."""
    valences = _host_valences(host)
    found = []
    for symbol in host.elements:
        for name in VOCABULARY:
            if name in host.elements or name in _EXCLUDED or not potential.knows(name):
                continue
            step = _valence_step(Element(symbol), valences.get(symbol), Element(name))
            if step is None:
                continue
            weight = _similarity(Element(symbol), Element(name)) * (_HETEROVALENT_WEIGHT if step else 1.0)
            if weight >= _LEAST_WEIGHT:
                found.append(Candidate(name, symbol, weight, bool(step)))
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


def _similarity(old: Element, new: Element) -> float:
    if old.atomic_radius is None or new.atomic_radius is None:
        return 0.0
    size = (float(new.atomic_radius) / float(old.atomic_radius) - 1) / _RADIUS_TOLERANCE
    pull = (new.X - old.X) / _ELECTRONEGATIVITY_TOLERANCE
    return float(np.exp(-0.5 * (size**2 + pull**2)))
