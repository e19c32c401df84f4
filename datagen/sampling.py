"""What each sample is: dopants, concentrations and cell, all by a generator seeded from the sample's identity."""

import hashlib
from dataclasses import dataclass

import numpy as np
from pymatgen.core.periodic_table import Element

from datagen.dopants import Replacement
from datagen.settings import SimulateSettings
from defectnet.host import Host

__all__ = ["Plan", "draw_palette", "draw_plan", "identity"]

# How many dopant elements a doped sample has: mixtures matter, single dopants teach most.
_COUNT_WEIGHTS = np.array([0.34, 0.25, 0.17, 0.11, 0.08, 0.05])
# Share of further dopants that are chosen for their nearness in mass to one already there: the hard cases.
_MASS_NEAR_SHARE = 0.2
# A sublattice is never replaced beyond this share: then the "host" would be another crystal.
_MOST_OF_SUBLATTICE = 0.5


@dataclass(frozen=True)
class Plan:
    """One sample before its cell is built: dopants with the concentrations that were wished for."""

    dopants: tuple[tuple[Replacement, float], ...]

    @property
    def total(self) -> float:
        return sum(concentration for _, concentration in self.dopants)

    @property
    def least(self) -> float:
        return min((concentration for _, concentration in self.dopants), default=1.0)


def identity(parent_id: str, index: int, settings: SimulateSettings) -> tuple[str, int]:
    """The sample's id and the seed of its generator: a hash of the parent, the configuration and the index."""
    text = f"{settings.digest()}/{parent_id}/{index}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    return digest[:20], int(digest[20:35], 16)


def draw_palette(parent_id: str, choices: list[Replacement], settings: SimulateSettings) -> list[Replacement]:
    """The substitutions that the samples of one parent share: a dopant's change is computed once and used often."""
    rng = np.random.default_rng(identity(parent_id, -1, settings)[1])
    palette: list[Replacement] = []
    left = choices
    while left and len(palette) < settings.dopants_per_parent:
        palette.append(_pick(left, palette, rng))
        computed = sum(not choice.endmember for choice in palette)
        left = [
            choice
            for choice in left
            if choice.element != palette[-1].element and (choice.endmember or computed < settings.potential_dopants)
        ]
    return palette


def draw_plan(host: Host, choices: list[Replacement], settings: SimulateSettings, rng: np.random.Generator) -> Plan:
    """Draw the dopants of one sample.

    The greatest concentration is log-uniform over the whole range, the others log-uniform below it within
    `concentration_ratio`; each is limited to half of its sublattice.
    """
    if not choices or rng.random() < settings.pristine_share:
        return Plan(())
    limit = min(settings.max_defects, len({choice.element for choice in choices}), len(_COUNT_WEIGHTS))
    weights = _COUNT_WEIGHTS[:limit] / _COUNT_WEIGHTS[:limit].sum()
    count = 1 + int(rng.choice(limit, p=weights))
    picked: list[Replacement] = []
    while len(picked) < count:
        left = [choice for choice in choices if choice.element not in {one.element for one in picked}]
        picked.append(_pick(left, picked, rng))
    room = {symbol: _MOST_OF_SUBLATTICE * share for symbol, share in host.fractions.items()}
    low = settings.min_concentration
    high = max(min(settings.max_concentration, room[picked[0].replaces]), low)
    greatest = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    wished = [greatest]
    floor = max(low, greatest / settings.concentration_ratio)
    wished += [float(np.exp(rng.uniform(np.log(floor), np.log(greatest)))) for _ in picked[1:]]
    dopants: list[tuple[Replacement, float]] = []
    for choice, concentration in zip(picked, wished, strict=True):
        concentration = min(concentration, room[choice.replaces])
        if concentration >= low:
            room[choice.replaces] -= concentration
            dopants.append((choice, concentration))
    return Plan(tuple(dopants))


def _pick(left: list[Replacement], picked: list[Replacement], rng: np.random.Generator) -> Replacement:
    weights = np.array([choice.weight for choice in left])
    if picked and rng.random() < _MASS_NEAR_SHARE:
        numbers = np.array([Element(choice.element).Z for choice in left])
        weights = weights * np.exp(-np.abs(numbers - Element(picked[-1].element).Z) / 1.5)
    return left[int(rng.choice(len(left), p=weights / weights.sum()))]
