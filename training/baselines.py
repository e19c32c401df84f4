"""What the network must beat, on the same rows: each baseline answers as the network does, through an `Answerer`.

- *constant*: how often each element was a dopant, and its median concentration; no spectrum.
- *prior*: the chemical prior of the host; no spectrum either.
- *ridge*: linear regression of every element's concentration on the binned change.
- *boosting*: gradient-boosted trees that weigh one element at a time, from the binned change, the element's descriptors
  and how they differ from the host's.
- *neighbour*: the training spectra of the most similar change vote.

The binned change is the difference between the sample and its reference over the reference's own frequency range, in
mode shares; without a reference, the sample's own shares stand in for it.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from defectnet.elements import VOCABULARY, descriptors
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import LOG_CONCENTRATION_BOUNDS
from defectnet.model.prior import EXPECTED_COLUMNS
from training.candidates import all_candidates
from training.dataset import SpectraArrays, dopant_mask
from training.inference import Answerer, Answers

__all__ = [
    "BASELINES",
    "Fitter",
    "boosting",
    "constant",
    "from_regression",
    "neighbour",
    "prior",
    "relative_shares",
    "ridge",
]

Floats = NDArray[np.float64]
# Fits a baseline to training rows; the validation rows choose what has to be chosen.
Fitter = Callable[[SpectraArrays, SpectraArrays, FrequencyGrid], Answerer]

_N_BINS = 128
# Local modes of light dopants lie above the host's band; twice its top holds nearly all of them.
_REACH = 2.0
_TOP_SHARE = 0.999  # of the modes lies below what is taken for the top of the host's band
_RIDGE_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
_NEIGHBOURS = (1, 3, 5, 10, 20)
_ABSENT_PER_ROW = 12  # absent elements of each spectrum that the trees learn from; all would be ten times as many
_LEAST_CONCENTRATION = 1e-4  # what a regression says of an element that it finds absent, so that its log is finite
_TREES = {"max_iter": 150, "learning_rate": 0.06, "max_leaf_nodes": 15, "min_samples_leaf": 40}


def constant(train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid) -> Answerer:
    """What one knows without a spectrum and without chemistry."""
    present = train.truth > 0
    possible = np.maximum((train.host <= 0).sum(axis=0), 1)
    frequency = np.clip(present.sum(axis=0) / possible, 1e-4, 1 - 1e-4)
    median, spread = _medians(train)

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return _answers(asked, np.broadcast_to(_logit(frequency), asked.shape), median, spread)

    return answer


def prior(train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid) -> Answerer:
    """What a chemist knows without a spectrum: the weight of the chemical prior as odds."""
    median, spread = _medians(train)

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        log_weight, expected, _, log_share, _ = np.moveaxis(data.expected.astype(np.float64), 2, 0)
        logit = np.where(expected > 0, log_share + 0.5 * log_weight, 2.0 * LOG_CONCENTRATION_BOUNDS[0])
        return _answers(asked, logit, median, spread)

    return answer


def ridge(train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid) -> Answerer:
    """Ridge regression of all concentrations at once; the penalty is the validation rows' choice."""
    features, held_out = _change(train, grid), _change(validation, grid)
    models = [Ridge(alpha=penalty).fit(features, train.truth) for penalty in _RIDGE_PENALTIES]
    best = min(models, key=lambda model: float(np.square(model.predict(held_out) - validation.truth).mean()))
    return from_regression(lambda data, asked: best.predict(_change(data, grid)), train)


def neighbour(train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid) -> Answerer:
    """Mean dopants of the k training rows whose change is most like the sample's; k is the validation rows' choice."""
    features = _change(train, grid)

    def predict(data: SpectraArrays, k: int) -> Floats:
        asked = _change(data, grid)
        squared = np.square(asked).sum(1)[:, None] + np.square(features).sum(1)[None] - 2.0 * asked @ features.T
        nearest = np.argsort(squared, axis=1)[:, :k]
        found: Floats = train.truth[nearest].astype(np.float64).mean(axis=1)
        return found

    errors = {k: float(np.square(predict(validation, k) - validation.truth).mean()) for k in _NEIGHBOURS}
    best = min(errors, key=errors.__getitem__)
    return from_regression(lambda data, asked: predict(data, best), train)


def boosting(train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid) -> Answerer:
    """Trees over pairs of a spectrum and an element: one forest says whether it is present, another how much of it."""
    rng = np.random.default_rng(0)
    present, known = train.truth > 0, dopant_mask(train)
    keys = np.where(all_candidates(train.host, known) & ~present, rng.random(present.shape), np.inf)
    absent = (keys.argsort(axis=1).argsort(axis=1) < _ABSENT_PER_ROW) & np.isfinite(keys)
    rows, elements = np.nonzero(present | absent)
    x, y = _pairs(train, grid, rows, elements), present[rows, elements]
    is_there = HistGradientBoostingClassifier(**_TREES, random_state=0).fit(x, y)
    log_truth = np.log(train.truth[rows, elements][y].astype(np.float64))
    how_much = HistGradientBoostingRegressor(**_TREES, random_state=0).fit(x[y], log_truth)
    spread = float(np.std(log_truth - how_much.predict(x[y]))) or 1.0

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        asked = asked & (data.host <= 0)
        rows, elements = np.nonzero(asked)
        pairs = _pairs(data, grid, rows, elements)
        logit, mean = np.zeros(asked.shape), np.zeros(asked.shape)
        logit[rows, elements] = is_there.decision_function(pairs)
        mean[rows, elements] = how_much.predict(pairs)
        return _answers(asked, logit, mean, np.full(len(VOCABULARY), spread))

    return answer


BASELINES: dict[str, Fitter] = {
    "constant": constant,
    "prior": prior,
    "ridge": ridge,
    "boosting": boosting,
    "neighbour": neighbour,
}


def relative_shares(
    shares: NDArray[np.float32], like: NDArray[np.float32], grid: FrequencyGrid, n_bins: int, reach: float = 1.0
) -> Floats:
    """Re-bin mode shares onto `n_bins` equal bins from 0 to `reach` times the top of each row's `like`.

    Args:
        shares, like: shape (rows, bins of `grid`).

    Returns:
        shape (rows, n_bins).
    """
    below = np.cumsum(like, axis=1) < _TOP_SHARE * like.sum(axis=1, keepdims=True)
    top = grid.edges_thz[1:][np.minimum(below.sum(axis=1), grid.n_bins - 1)]
    cumulative = np.pad(np.cumsum(shares, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    ends = np.linspace(0.0, reach, n_bins + 1)
    rows = [np.diff(np.interp(ends * t, grid.edges_thz, total)) for t, total in zip(top, cumulative, strict=True)]
    return np.array(rows)


def _change(data: SpectraArrays, grid: FrequencyGrid) -> Floats:
    """The binned change of each row, shape (n, 128), scaled to order one."""
    like = np.where(data.has_reference[:, None], data.reference, data.sample)
    return 10.0 * relative_shares(data.sample - data.reference, like, grid, _N_BINS, _REACH)


def _pairs(
    data: SpectraArrays, grid: FrequencyGrid, rows: NDArray[np.intp], elements: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Features of pairs of a row and an element: the change, its size, the element, and the element beside the host."""
    change = _change(data, grid)
    size = np.log(np.abs(change).sum(axis=1) + 1e-3)
    table = descriptors()
    mean = data.host @ table
    n_host = (data.host > 0).sum(axis=1)
    parts = [change[rows], size[rows, None], table[elements], table[elements] - mean[rows], n_host[rows, None]]
    return np.concatenate(parts, axis=1).astype(np.float32)


def from_regression(predict: Callable[[SpectraArrays, NDArray[np.bool_]], Floats], train: SpectraArrays) -> Answerer:
    """A regression of concentrations as an answerer: the more it finds of an element, the surer it is of it."""
    known = dopant_mask(train)
    found = np.clip(predict(train, all_candidates(train.host, known)), _LEAST_CONCENTRATION, 1.0)
    present = train.truth > 0
    residual = np.log(train.truth[present].astype(np.float64)) - np.log(found[present])
    spread = np.full(len(VOCABULARY), max(float(residual.std()), 1e-3))

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        found = predict(data, asked)
        return _answers(asked, 100.0 * found, np.log(np.clip(found, _LEAST_CONCENTRATION, 1.0)), spread)

    return answer


def _medians(train: SpectraArrays) -> tuple[Floats, Floats]:
    """Median and standard deviation of the log concentration of each element, both (94,)."""
    present = train.truth > 0
    log_all = np.log(train.truth[present].astype(np.float64))
    median, spread = np.full(len(VOCABULARY), np.median(log_all)), np.full(len(VOCABULARY), max(log_all.std(), 1e-3))
    for element in np.flatnonzero(present.any(axis=0)):
        median[element] = np.median(np.log(train.truth[present[:, element], element].astype(np.float64)))
    return median, spread


def _answers(asked: NDArray[np.bool_], logit: Floats, mean: Floats, spread: Floats) -> Answers:
    return Answers(
        presence_logit=np.where(asked, logit, -np.inf),
        log_concentration=np.where(asked, mean, LOG_CONCENTRATION_BOUNDS[0]),
        log_spread=np.broadcast_to(np.log(spread), asked.shape),
        pooled=np.zeros((asked.shape[0], 1)),
        signature=np.zeros((asked.shape[0], 1)),
        expected=np.zeros((*asked.shape, len(EXPECTED_COLUMNS))),
    )


def _logit(p: Floats) -> Floats:
    return np.log(p / (1.0 - p))
