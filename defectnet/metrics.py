"""How good answers are, on rows whose dopants are known.

Conventions: concentrations are fractions of all atoms, errors are given in per cent of all atoms (absolute). An element
that was called absent has the estimate 0, so that missing a dopant costs its whole concentration. Presence counts pairs
of a spectrum and a candidate element. A hit or a miss belongs to the band of the true concentration; what is not there
has none, so that false alarms are shared out among the bands in proportion to their dopants. (Were an alarm to count in
the band of the concentration it claims, whoever calls everything present at next to nothing would be right at 0.5 %.)
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from defectnet.model.calibration import expected_calibration_error

__all__ = ["BANDS_PERCENT", "HEADLINE_PERCENT", "RECALL_AT", "Judged", "score_answers", "score_range"]

# Bands of the true concentration, per cent of all atoms; the lowest is where one dopant sits in 200 to 500 atoms.
BANDS_PERCENT = ((0.2, 0.5), (0.5, 2.0), (2.0, 8.0), (8.0, 25.0))
# Above this the signal is well beyond the scatter between random configurations (0.003 in L1 at 1 %).
HEADLINE_PERCENT = 0.5
RECALL_AT = (3, 5, 10)
# Spectra by how many dopants they hold; the last group is "so many or more".
_COUNTS = (1, 2, 3, 4)
# Band edges are printed values: one atom in 200 is 0.5 % and belongs to the upper band whatever its last binary digit.
_EDGE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Judged:
    """Answers beside the truth, all of shape (n spectra, n elements).

    Attributes:
        asked: which elements were weighed.
        truth: true concentration, fraction of all atoms, 0 where absent.
        probability: calibrated probability of presence.
        present: the verdict.
        concentration, low, high: estimate and interval if present, fractions of all atoms.
    """

    asked: NDArray[np.bool_]
    truth: NDArray[np.float64]
    probability: NDArray[np.float64]
    present: NDArray[np.bool_]
    concentration: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "Judged":
        """The chosen spectra."""
        return Judged(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def score_answers(judged: Judged) -> dict[str, object]:
    """All figures: over all dopants, over those of at least 0.5 % ("headline"), by band and by number of dopants.

    Returns:
        Keys `n_spectra`, `n_dopants`, `ece`, and the figures of `_figures` for all; the same figures under `headline`,
        under `bands` by name such as "0.5-2", and under `by_dopants` (of at least 0.5 %) by number. A figure that has
        nothing to stand on is None.
    """
    held = np.minimum((judged.truth > 0).sum(axis=1), _COUNTS[-1])
    top = 100.0 + _EDGE_TOLERANCE
    asked_p, asked_truth = judged.probability[judged.asked], judged.truth[judged.asked] > 0
    return {
        "n_spectra": int(judged.truth.shape[0]),
        **score_range(judged, 0.0, top),
        "ece": _rounded(expected_calibration_error(asked_p, asked_truth)),
        "headline": score_range(judged, HEADLINE_PERCENT, top),
        "bands": {f"{low:g}-{high:g}": score_range(judged, low, high) for low, high in BANDS_PERCENT},
        "by_dopants": {
            f"{n}" + ("+" if n == _COUNTS[-1] else ""): score_range(judged.where(held == n), HEADLINE_PERCENT, top)
            for n in _COUNTS
        },
    }


def score_range(judged: Judged, low_percent: float, high_percent: float) -> dict[str, float | int | None]:
    """Presence, concentration, coverage and ranking of the dopants from `low_percent` up to `high_percent`."""
    true_percent, claimed_percent = 100.0 * judged.truth, 100.0 * judged.concentration

    def within(percent: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (percent >= low_percent - _EDGE_TOLERANCE) & (percent < high_percent - _EDGE_TOLERANCE)

    dopant = (judged.truth > 0) & within(true_percent)  # one that was not asked about is missed
    hits, misses = int((dopant & judged.present).sum()), int((dopant & ~judged.present).sum())
    alarms = float((judged.asked & (judged.truth <= 0) & judged.present).sum())
    alarms *= (hits + misses) / max(int((judged.truth > 0).sum()), 1)
    figures: dict[str, float | int | None] = {
        "n_dopants": hits + misses,
        "f1": _ratio(2 * hits, 2 * hits + misses + alarms),
        "precision": _ratio(hits, hits + alarms),
        "recall": _ratio(hits, hits + misses),
    }
    truth = true_percent[dopant]
    estimate = np.where(judged.present, claimed_percent, 0.0)[dopant]
    figures["mae_pct"] = _rounded(float(np.abs(estimate - truth).mean())) if truth.size else None
    figures["r2"] = _r2(truth, estimate)
    covered = (judged.low <= judged.truth) & (judged.truth <= judged.high)
    figures["coverage_90"] = _ratio(int(covered[dopant].sum()), truth.size)
    # Rank 0 is the most probable element; elements that were not asked rank last.
    order = np.argsort(np.where(judged.asked, -judged.probability, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None, :], axis=1)
    for k in RECALL_AT:
        figures[f"recall_at_{k}"] = _ratio(int((rank[dopant] < k).sum()), truth.size)
    return figures


def _r2(truth: NDArray[np.float64], estimate: NDArray[np.float64]) -> float | None:
    if truth.size < 2:
        return None
    total = float(np.square(truth - truth.mean()).sum())
    return None if total == 0 else _rounded(1.0 - float(np.square(truth - estimate).sum()) / total)


def _ratio(part: float, whole: float) -> float | None:
    return _rounded(part / whole) if whole else None


def _rounded(value: float) -> float:
    return round(value, 4)
