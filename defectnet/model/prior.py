"""The chemical prior: which foreign elements a chemist would expect on which site of a host, without any spectrum.

A candidate is weighed by three similarities with the element it replaces: valence (equal, or one more or less: n- and
p-type doping), size and electronegativity. These are Hume-Rothery's rules as a smooth weight rather than a cut. How
often the two ions stand in for each other in known crystals (Hautier et al., Inorg. Chem. 50, 656) raises or lowers it.
The simulator draws dopants by such weights; the model reads them as long as the user does not switch the prior off.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from defectnet.chemistry.ions import balanced_states, substitution_lift
from defectnet.elements import VOCABULARY, descriptors, element
from defectnet.host import Host

__all__ = [
    "EXPECTED_COLUMNS",
    "LEAST_SITE_RATIO",
    "NEVER",
    "Substitution",
    "expectations",
    "host_valences",
    "likely_sites",
    "substitutions",
    "weigh",
]

# Never dopants: noble gases, and elements without a stable isotope but for thorium and uranium.
NEVER = frozenset(["He", "Ne", "Ar", "Kr", "Xe", "Rn", "Tc", "Pm", "Po", "At", "Fr", "Ra", "Ac", "Pa", "Np", "Pu"])
# Hume-Rothery's 15 % for radii and 0.4 for electronegativities, as standard deviations of a Gaussian weight.
_RADIUS_TOLERANCE = 0.15
_ELECTRONEGATIVITY_TOLERANCE = 0.4
_HETEROVALENT_WEIGHT = 0.3
_LEAST_WEIGHT = 0.02
# A site that is less likely than this beside the element's best one is not tried.
LEAST_SITE_RATIO = 0.15
# Bounds of the factor from known crystals: they are few, and biased to what was made.
_LEAST_FACTOR, _MOST_FACTOR = 0.3, 3.0
# The balance of oxidation states is a search that grows with the formula (0.5 s at 20 atoms); formulas of mixed
# crystals can have thousands, and are weighed by the groups of the periodic table instead.
_MOST_ATOMS = 24

# Columns of `expectations`: log of the weight beside the least one (0 where the prior excludes the element), whether it
# is expected at all, whether it brings another valence, log of its share of all the weight of this host, and log of its
# likeness in size and electronegativity alone, whatever its valence.
EXPECTED_COLUMNS = ("log_weight", "expected", "heterovalent", "log_share", "log_likeness")
_LEAST_LIKENESS = 1e-3
_HOSTS_KEPT = 4096


@dataclass(frozen=True)
class Substitution:
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


def substitutions(host: Host) -> list[Substitution]:
    """Every sensible substitution in `host`, most likely first."""
    own, valences = frozenset(host.elements), host_valences(host)
    found = [
        one for symbol in host.elements for one in _sensible(symbol, valences.get(symbol)) if one.element not in own
    ]
    return sorted(found, key=lambda one: (-one.weight, one.replaces, one.element))


@cache
def _sensible(old: str, valence: float | None) -> tuple[Substitution, ...]:
    """What may replace a host element of this valence, in any host."""
    weighed = ((name, *weigh(old, valence, name)) for name in VOCABULARY if name != old and name not in NEVER)
    return tuple(
        Substitution(name, old, weight, bool(step))
        for name, weight, step in weighed
        if step is not None and weight >= _LEAST_WEIGHT
    )


@lru_cache(maxsize=_HOSTS_KEPT)
def expectations(host: Host) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The prior as the network reads it.

    Returns:
        The columns `EXPECTED_COLUMNS` of every element, shape (94, 5); and the place in the vocabulary of the host
        element that each would replace, shape (94,): where the prior has no answer, the one that is most like it.
    """
    table = np.zeros((len(VOCABULARY), len(EXPECTED_COLUMNS)), dtype=np.float32)
    own = np.array([VOCABULARY.index(symbol) for symbol in host.elements])
    apart = np.linalg.norm(descriptors()[:, None] - descriptors()[own][None], axis=2)  # (94, n host elements)
    site = own[apart.argmin(axis=1)]
    valences = host_valences(host)
    for row, name in enumerate(VOCABULARY):
        likeness = max(_similarity(symbol, name, valences.get(symbol)) for symbol in host.elements)
        table[row, -1] = np.log(max(likeness, _LEAST_LIKENESS))
    best: dict[str, Substitution] = {}
    for one in substitutions(host):
        best.setdefault(one.element, one)  # the most likely site comes first
    whole = sum(one.weight for one in best.values())
    for name, one in best.items():
        row = VOCABULARY.index(name)
        table[row, :4] = (np.log(one.weight / _LEAST_WEIGHT), 1.0, one.heterovalent, np.log(one.weight / whole))
        site[row] = VOCABULARY.index(one.replaces)
    table.setflags(write=False)
    site.setflags(write=False)
    return table, site


def likely_sites(host: Host, name: str) -> list[str]:
    """The host elements that a foreign element is most like in size and electronegativity, whatever its valence.

    The likeliest first, and none that is much less likely than that. Where no radius is known it is the one whose
    properties are nearest.
    """
    valences = host_valences(host)
    likeness = {symbol: _similarity(symbol, name, valences.get(symbol)) for symbol in host.elements}
    best = max(likeness.values())
    if best <= 0.0:
        return [VOCABULARY[expectations(host)[1][VOCABULARY.index(name)]]]
    ranked = sorted(likeness, key=lambda symbol: (-likeness[symbol], symbol))
    return [symbol for symbol in ranked if likeness[symbol] >= LEAST_SITE_RATIO * best]


@lru_cache(maxsize=_HOSTS_KEPT)
def host_valences(host: Host) -> Mapping[str, float]:
    """Oxidation state of each element of the host; empty for elements, intermetallics and very long formulas."""
    if len(host.counts) < 2 or sum(host.counts.values()) > _MOST_ATOMS:
        return {}
    return balanced_states(host.counts)


def weigh(old: str, valence: float | None, new: str) -> tuple[float, int | None]:
    """How likely a substitution is relative to others, between 0 and 1, and the step of its valence.

    Args:
        old, new: the host element and the dopant.
        valence: of the host element; None or 0 where it has none.

    Returns:
        The weight; and 0 for an isovalent substitution, 1 for one electron more or less, None for anything else.
    """
    step = _valence_step(old, valence, new)
    return _similarity(old, new, valence) * (_HETEROVALENT_WEIGHT if step else 1.0), step


def _valence_step(old: str, valence: float | None, new: str) -> int | None:
    if valence is None or valence == 0:
        # Covalent or metallic: valence electrons are counted by the group.
        groups = element(old).group, element(new).group
        step = abs(groups[0] - groups[1])
        return step if step <= 1 and (groups[0] >= 13) == (groups[1] >= 13) else None
    steps = [abs(state - valence) for state in element(new).oxidation_states if np.sign(state) == np.sign(valence)]
    least = min(steps, default=np.inf)
    return round(least) if least <= 1 else None


@cache
def _similarity(old: str, new: str, valence: float | None) -> float:
    """Likeness of a dopant and the host element of this valence in size, electronegativity and use, between 0 and 1."""
    radii = _radius(old, valence), _radius(new, valence)
    if None in radii:
        radii = _radius(old, None), _radius(new, None)
    if radii[0] is None or radii[1] is None or new in NEVER:
        return 0.0
    size = (radii[1] / radii[0] - 1) / _RADIUS_TOLERANCE
    pull = (element(new).electronegativity - element(old).electronegativity) / _ELECTRONEGATIVITY_TOLERANCE
    return min(1.0, float(np.exp(-0.5 * (size**2 + pull**2))) * _known_together(old, new, valence))


def _radius(symbol: str, valence: float | None) -> float | None:
    """Shannon's radius of the ion of this valence; without one the atomic radius; Å, None where not tabulated."""
    one = element(symbol)
    return one.ionic_radii_angstrom.get(round(valence)) if valence else one.radius_angstrom


def _known_together(old: str, new: str, valence: float | None) -> float:
    """How much more often than by chance the two ions take each other's place in known crystals, as a bounded root."""
    if not valence or valence != round(valence):
        return 1.0
    lift = substitution_lift(old, round(valence), new, round(valence))
    # The statistics may not know one of the ions.
    return 1.0 if lift is None else float(np.clip(np.sqrt(lift), _LEAST_FACTOR, _MOST_FACTOR))
