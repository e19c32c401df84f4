"""New training rows out of given ones: mixtures of dopants, and densities as neutrons weigh them."""

import numpy as np
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import CompositionError
from defectnet.host import MAX_CONCENTRATION, MAX_DEFECTS, MIN_CONCENTRATION
from defectnet.neutron import neutron_weight
from training.dataset import SpectraArrays

__all__ = ["Mixer"]

# How much of each of two rows goes into a mixture.
_SCALES = (0.3, 1.0)
# Changes add up while the dopants are dilute (docs/simulation.md: superposed fragments agree up to 6 %).
_MOST_DOPANTS = 0.08


class Mixer:
    """Knows which rows share a pristine crystal, and what that crystal's elements contribute to its density."""

    def __init__(self, rows: SpectraArrays) -> None:
        self.rows = rows
        groups: dict[bytes, list[int]] = {}
        for index in np.flatnonzero(rows.has_reference).tolist():
            groups.setdefault(rows.formula[index].encode() + rows.reference[index].tobytes(), []).append(index)
        self._partners: list[NDArray[np.intp]] = [np.array([index]) for index in range(len(rows))]
        # The row whose partial densities stand for the pristine crystal's: the least doped one of the same crystal.
        self._nearest = np.arange(len(rows))
        total = rows.truth.sum(axis=1)
        for members in groups.values():
            group = np.array(members)
            told = group[(rows.partial_element[group] >= 0).any(axis=1)]
            for index in members:
                self._partners[index] = group
                if told.size:
                    self._nearest[index] = told[total[told].argmin()]
        known = np.array([_weight(symbol) for symbol in VOCABULARY], dtype=np.float32)
        weights = np.nan_to_num(known, nan=0.0)
        elements = rows.partial_element
        measured = np.isfinite(known)[elements] | (elements < 0)
        self._neutron_known = np.asarray((elements >= 0).any(axis=1) & measured.all(axis=1))
        self._weights = np.where(elements >= 0, weights[elements], 0.0).astype(np.float32)  # (n, 12)

    def mixed(
        self, index: NDArray[np.intp], share: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Samples and truths of the rows `index`, a `share` of them mixed with another row, and which were."""
        rows = self.rows
        sample, truth = rows.sample[index].copy(), rows.truth[index].copy()
        mixed = np.zeros(len(index), dtype=bool)
        for place in np.flatnonzero(rng.random(len(index)) < share):
            one, other = index[place], rng.choice(self._partners[index[place]])
            first, second = np.exp(rng.uniform(np.log(_SCALES[0]), np.log(_SCALES[1]), size=2))
            if other == one:
                second = 0.0
            sum_ = first * rows.truth[one] + second * rows.truth[other]
            present = sum_[sum_ > 0]
            within = (present >= MIN_CONCENTRATION) & (present <= MAX_CONCENTRATION)
            if not (within.all() and present.size <= MAX_DEFECTS and sum_.sum() <= _MOST_DOPANTS):
                continue
            change = first * (rows.sample[one] - rows.reference[one])
            change = change + second * (rows.sample[other] - rows.reference[other])
            shares = np.maximum(rows.reference[one] + change, 0.0)
            sample[place], truth[place], mixed[place] = shares / shares.sum(), sum_, True
        return sample, truth, mixed

    def as_neutrons(
        self, index: NDArray[np.intp], chosen: NDArray[np.bool_], sample: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """The `sample`s of rows `index` and their references, the `chosen` ones weighted, and which were.

        The table holds the pristine crystal's total alone: its elements' shares are those of the least doped spectrum.
        """
        rows = self.rows
        reference = rows.reference[index].copy()
        sample = sample.copy()
        done = chosen & self._neutron_known[index] & self._neutron_known[self._nearest[index]]
        for place in np.flatnonzero(done):
            one, near = index[place], self._nearest[index[place]]
            weighted = self._weights[one] @ rows.partial[one].astype(np.float32)
            sample[place] = weighted / weighted.sum()
            if rows.has_reference[one]:
                elements = rows.partial_element[near]
                pristine = (elements >= 0) & (rows.host[one][elements] > 0)
                own = rows.partial[near][pristine].astype(np.float32)
                factor = self._weights[near][pristine] @ own / np.maximum(own.sum(axis=0), 1e-6)
                weighted = rows.reference[one] * factor
                reference[place] = weighted / weighted.sum()
        return sample, reference, done


def _weight(symbol: str) -> float:
    """Cross-section over mass, barn/u; NaN where it was never measured."""
    try:
        return neutron_weight(symbol)
    except CompositionError:
        return float("nan")
