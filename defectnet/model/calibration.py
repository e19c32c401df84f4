"""Honest figures: presence probabilities that mean what they say, and intervals that cover what they promise.

- Presence: a logit and the chemical prior are mapped by logistic regression, fitted on spectra of hosts that were not
  trained on. There the prior counts for more than the network has learned, for it knows its training hosts by heart.
  One map each with and without a candidate list, with and without the chemical prior.
- Concentration: split conformal prediction. The network gives a mean and a spread of log c; the score of a known dopant
  is |log c − mean| / spread, and the interval is mean ± q * spread, where q is the score's finite-sample 90 % quantile
  among dopants of similar predicted concentration (Vovk et al.; Angelopoulos and Bates, arXiv:2107.07511).
- Out of distribution: a distance to the training spectra, mapped so that its 99 % quantile on unseen hosts gives 0.5.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize

from defectnet.model.prior import EXPECTED_COLUMNS
from defectnet.settings import Settings

__all__ = [
    "COVERAGE",
    "OOD_LIMIT",
    "THRESHOLD_BOUNDS",
    "Calibration",
    "ModeCalibration",
    "PresenceMap",
    "conformal_quantile",
    "expected_calibration_error",
    "fit_intervals",
    "fit_presence",
    "interval_factor",
    "intervals",
    "ood_score",
    "probabilities",
]

Floats = NDArray[np.float64]

COVERAGE = 0.90
# Borders between the bands of *predicted* concentration (fractions) that have an interval factor of their own: the
# bands in which results are reported.
BAND_EDGES = (0.005, 0.02, 0.08)
# A 90 % quantile of fewer scores than this is mostly luck; such a band takes the factor of all dopants together.
_MIN_SCORES = 50
# Keeps the sharpest verdicts finite: no data set here could support 1 in 10^6.
_LOGIT_LIMIT = 13.8
# Scores above this, which 1 % of the spectra of unseen hosts exceed, come with a warning; `ood_score` is made so.
OOD_LIMIT = 0.5
# How steeply the out-of-distribution score rises: at half the 99 % distance it is 0.04.
_OOD_POWER = 4.0
_N_CALIBRATION_BINS = 15
# Pulls the prior's weights to zero where the rows say little of them; worth a hundredth of a dopant each.
_PENALTY = 0.01
# These keep "present" in keeping with the probability beside it: what is 5 % likely is not called present.
THRESHOLD_BOUNDS = (0.2, 0.8)


class PresenceMap(Settings):
    """p = sigmoid(slope * logit + prior_weights · expected + offset); an element is called present from `threshold` up.

    `expected` are the columns of `defectnet.model.prior.expectations`, zeros where the prior is switched off.
    """

    slope: float = 1.0
    offset: float = 0.0
    prior_weights: tuple[float, ...] = (0.0,) * len(EXPECTED_COLUMNS)
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)


class ModeCalibration(Settings):
    """What was fitted after training, on hosts that were not trained on.

    Attributes:
        with_candidates, guess_free: presence maps with and without the user's candidate list.
        with_candidates_no_prior, guess_free_no_prior: the same where the chemical prior is switched off.
        interval_factors: multiples of the spread that cover 90 %, one for each band of predicted concentration.
        ood_distance: distance that 1 % of the calibration spectra exceed, without unit.
    """

    with_candidates: PresenceMap = PresenceMap()
    guess_free: PresenceMap = PresenceMap()
    with_candidates_no_prior: PresenceMap = PresenceMap()
    guess_free_no_prior: PresenceMap = PresenceMap()
    interval_factors: tuple[float, ...] = (1.645,) * (len(BAND_EDGES) + 1)  # a Gaussian's own 90 %
    ood_distance: float = Field(default=1.0, gt=0.0)

    def presence(self, *, candidates: bool, prior: bool) -> PresenceMap:
        """The presence map of a query with or without a candidate list, with or without the chemical prior."""
        if candidates:
            return self.with_candidates if prior else self.with_candidates_no_prior
        return self.guess_free if prior else self.guess_free_no_prior


class Calibration(Settings):
    """One calibration for spectra that come with their pristine reference, another for those that do not."""

    with_reference: ModeCalibration = ModeCalibration()
    without_reference: ModeCalibration = ModeCalibration()


def probabilities(logits: Floats, presence: PresenceMap, expected: Floats) -> Floats:
    """Calibrated probabilities; a logit of −inf (not a candidate) gives exactly 0.

    Args:
        logits: any shape.
        expected: the same shape with the columns of the prior as a last dimension.
    """
    logits = np.asarray(logits, dtype=np.float64)
    asked = np.isfinite(logits)
    mapped = presence.slope * np.where(asked, logits, 0.0) + expected @ np.array(presence.prior_weights)
    p = 1.0 / (1.0 + np.exp(-np.clip(mapped + presence.offset, -_LOGIT_LIMIT, _LOGIT_LIMIT)))
    return np.where(asked, p, 0.0)


def fit_presence(
    logits: Floats,
    present: NDArray[np.bool_],
    expected: Floats,
    *,
    threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS,
) -> PresenceMap:
    """Fit a presence map to the logits of elements whose presence is known, and the threshold of the best F1.

    Args:
        logits: any shape; entries of −inf are left out.
        present: the same shape.
        expected: the same shape with the columns of the prior as a last dimension.
        threshold_bounds: where the threshold may lie.
    """
    asked = np.isfinite(logits)
    x, y = np.asarray(logits, dtype=np.float64)[asked], np.asarray(present)[asked].astype(np.float64)
    chemistry = np.asarray(expected, dtype=np.float64)[asked]
    if y.size == 0 or y.min() == y.max():
        return PresenceMap()  # nothing to learn from a single class

    def loss(parameters: Floats) -> tuple[float, Floats]:
        slope, offset, weights = np.exp(parameters[0]), parameters[1], parameters[2:]
        z = slope * x + offset + chemistry @ weights  # the slope stays positive: the ranking is the network's
        p = 1.0 / (1.0 + np.exp(-np.clip(z, -40, 40)))
        value = np.mean(np.logaddexp(0.0, z) - y * z) + _PENALTY / y.sum() * np.square(weights).sum()
        gradient = np.concatenate([[np.mean((p - y) * slope * x), np.mean(p - y)], chemistry.T @ (p - y) / y.size])
        gradient[2:] += 2.0 * _PENALTY / y.sum() * weights
        return float(value), gradient

    start = np.zeros(2 + chemistry.shape[1])
    bounds = [(-3.0, 3.0), (-10.0, 10.0)] + [(-10.0, 10.0)] * chemistry.shape[1]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = tuple(round(float(weight), 6) for weight in found[2:])
    scaled = PresenceMap(slope=float(np.exp(found[0])), offset=float(found[1]), prior_weights=weights)
    p = probabilities(x, scaled, chemistry)
    return scaled.model_copy(update={"threshold": _best_threshold(p, y > 0.5, threshold_bounds)})


def _best_threshold(p: Floats, present: NDArray[np.bool_], bounds: tuple[float, float]) -> float:
    """The threshold of the highest F1, halfway between two probabilities, kept within bounds."""
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum(present[order])
    f1 = 2.0 * hits / (np.arange(1, p.size + 1) + present.sum())
    best = int(np.argmax(f1))
    below = p[order[best + 1]] if best + 1 < p.size else 0.0
    return float(np.clip((p[order[best]] + below) / 2.0, *bounds))


def conformal_quantile(scores: Floats, coverage: float = COVERAGE) -> float:
    """The ceil((n + 1) * coverage)-th smallest score: covers a new exchangeable sample at least that often."""
    scores = np.sort(np.asarray(scores, dtype=np.float64))
    rank = min(int(np.ceil((scores.size + 1) * coverage)), scores.size)
    return float(scores[rank - 1])


def fit_intervals(log_true: Floats, log_mean: Floats, log_spread: Floats) -> tuple[float, ...]:
    """Interval factors by band of predicted concentration, from dopants whose concentration is known; all (n,)."""
    if log_true.size == 0:
        return ModeCalibration().interval_factors
    scores = np.abs(log_true - log_mean) / np.exp(log_spread)
    bands = np.digitize(np.exp(log_mean), BAND_EDGES)
    overall = conformal_quantile(scores)
    return tuple(
        conformal_quantile(scores[bands == band]) if np.sum(bands == band) >= _MIN_SCORES else overall
        for band in range(len(BAND_EDGES) + 1)
    )


def interval_factor(log_mean: Floats, calibration: ModeCalibration) -> Floats:
    """The factor of each prediction's band, in the shape of `log_mean`."""
    return np.asarray(calibration.interval_factors)[np.digitize(np.exp(log_mean), BAND_EDGES)]


def intervals(
    log_concentration: Floats, log_spread: Floats | NDArray[np.float32], mode: ModeCalibration
) -> tuple[Floats, Floats, Floats]:
    """Concentrations with their 90 % intervals, from what the network says.

    Args:
        log_concentration: any shape, natural log of the fraction of all atoms.
        log_spread: the same shape, natural log of the standard deviation of `log_concentration`.
        mode: the calibration of spectra with or without a reference.

    Returns:
        Value, low and high, each in that shape, fractions of all atoms; `high` is at most 1.
    """
    # In the network's own precision, so that outputs kept as float64 give the predictor's figures to the last digit.
    spread = torch.from_numpy(np.asarray(log_spread, dtype=np.float32)).exp().double().numpy()
    margin = spread * interval_factor(log_concentration, mode)
    high = np.minimum(np.exp(log_concentration + margin), 1.0)
    return np.exp(log_concentration), np.exp(log_concentration - margin), high


def expected_calibration_error(p: Floats, present: NDArray[np.bool_], n_bins: int = _N_CALIBRATION_BINS) -> float:
    """Mean gap between stated probability and observed share over bins of equal width, weighted by their counts."""
    p, present = np.asarray(p, dtype=np.float64), np.asarray(present, dtype=np.float64)
    if p.size == 0:
        return 0.0
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    gaps = np.abs(np.bincount(bins, p, n_bins) - np.bincount(bins, present, n_bins))
    return float(gaps.sum() / counts.sum())


def ood_score(distance: Floats, calibration: ModeCalibration) -> Floats:
    """0 like the training spectra … 1 unlike any; 0.5 at the distance that 1 % of unseen hosts exceed."""
    ratio = np.asarray(distance, dtype=np.float64) / calibration.ood_distance
    return np.asarray(1.0 - np.exp2(-(np.minimum(ratio, 100.0) ** _OOD_POWER)))
