"""Which elements are there, and with what amounts, once the fit to the change has been heard.

The network judges candidates one by one, each at an amount that it does not know yet: of two that explain one change
alike it may find both or neither. So sets of elements are weighed: each has the network's odds for prior, and how well
it explains the change at the amounts that suit it best for likelihood (`amount_fits`). An element's probability is that
of all the sets that hold it (Bayesian model averaging: A. E. Raftery et al., J. Am. Stat. Assoc. 92, 179 (1997)).

Each set is weighed twice: with the sample on its reference's axis, and off it, which is improbable beforehand and may
make a part of the change. A spectrometer whose energy scale drifts makes a change that springs imitate.

Shapes: B spectra, P elements, S sets.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.amount_fits import Fittable, fitted_amounts
from defectnet.model.comparison.calibration import FOUND, logit_of, of_logit

__all__ = ["MOST_WEIGHED", "POSSIBLE", "Settled", "settled"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Sets hold every element whose logit is greater, and any of the most probable ones down to POSSIBLE: with wider limits
# (-4 and 5, seven elements) F1 of validation hosts is the same within 0.004, at nine times the sets.
_SURE, POSSIBLE, _MOST_OPEN = 3.0, -2.0, 5
_MOST_FOUND = 6
# Elements of one spectrum that are worth a place.
MOST_WEIGHED = 8
# No set is so sure, or so improbable, that nothing speaks against it: logit of the probability.
_CERTAIN = 6.0
# Where found elements explain less than this share of a small change, nothing is there but what measuring makes: noise
# of 2 %, or a computed reference, moves pristine validation crystals by a norm of 0.01, at most of 0.05. With a list
# something was found in 4.5 and 8.5 % of these at a share of 0.05, in 1.5 and 6 % at this one, for F1 of 0.00 and 0.01.
_LEAST_EXPLAINED, _SMALL = 0.25, 0.05
# What speaks against a sample off the axis of a measured reference before anything is seen, a log of odds. Of pristine
# validation crystals on an axis that is off by half a per cent something is found in 4 % with a list and 3 % without (3
# and 2 % at 3.0; 7 and 8 where no axis is thought off), and F1 of doped ones without a list is 0.75 (0.76; 0.71). What
# lies on one axis costs this 0.002 of F1 (0.003 at 3.0).
_OFF_AXIS = 4.0


@dataclass(frozen=True, eq=False)
class Settled:
    """What is found in B spectra once the fit has been heard.

    Attributes:
        there: shape (B, P).
        logit, log_mean, log_spread: shape (B, P), of the probability, and of the fraction of all atoms.
        explained: shape (B,), share of each change that what is there explains, less what the axis makes where that is
            more probable.
        off_axis: shape (B,), probability that the sample is off its reference's axis.
    """

    there: Flags
    logit: Array
    log_mean: Array
    log_spread: Array
    explained: Array
    off_axis: Array


def settled(given: Fittable, logit: Array, log_mean: Array, log_spread: Array) -> Settled:
    """Weigh sets of elements by the fit, and fit the amounts of what is found.

    Nothing is found where that explains less than a quarter of a change that is no larger than what measuring makes.
    Where sample and reference are `apart` measuring makes larger ones too, and in so small a change what the network
    alone does not find is not found. It is then as likely as not that only the measuring moved anything, and each
    probability is halved.

    Args:
        logit, log_mean, log_spread: shape (B, P), by the calibrated network; of an empty place the logit is below
            `POSSIBLE`.
    """
    b, apart = len(logit), given.apart
    open_ones = _open(logit)
    row, sets = _sets(logit > _SURE, open_ones)
    prior = np.where(sets, logit[row], 0.0).sum(axis=1)
    on = np.flatnonzero(~apart[row])
    fits = fitted_amounts(given.of_rows(row[on]), sets[on], log_mean[row[on]], log_spread[row[on]])
    score = prior[on] - 0.5 * fits.cost
    # Off the axis no set is looked at that would be less probable than the likeliest on it if it explained everything.
    at_best = prior - 0.5 * given.least_cost[row] - _OFF_AXIS
    off = np.flatnonzero(at_best > _greatest(score, row[on], b)[row])
    aside = given.off_axis() if off.size else given
    others = fitted_amounts(aside.of_rows(row[off]), sets[off], log_mean[row[off]], log_spread[row[off]])
    fits, score = fits.and_of(others), np.append(score, prior[off] - 0.5 * others.cost - _OFF_AXIS)
    off_axis = np.arange(score.size) >= on.size
    row, sets = (np.concatenate([values[on], values[off]]) for values in (row, sets))
    weight = np.exp(score - _greatest(score, row, b)[row])
    chance = np.zeros_like(logit)
    np.add.at(chance, row, weight[:, None] * sets)
    whole = np.bincount(row, weight, b)
    chance /= whole[:, None]
    # That of the elements that are more probable than not was weighed, unless it holds too many: then the likeliest.
    score += np.where((sets == (chance >= FOUND)[row]).all(axis=1), 1e9, 0.0)
    chosen = np.lexsort((score, row))[np.cumsum(np.bincount(row, minlength=b)) - 1]
    stays, fits = sets[chosen], fits.of_rows(chosen)
    odds = np.where(open_ones, np.clip(logit_of(chance), -_CERTAIN, _CERTAIN), logit)
    # Nothing is there where measuring may have made the change.
    small = np.where(apart, aside.size, given.size) < _SMALL**2
    void = (small | apart) & (fits.explained < _LEAST_EXPLAINED)
    void |= small & apart & ~(logit > 0.0).any(axis=1)
    void = void[:, None] & stays
    return Settled(
        stays & ~void,
        np.where(void, logit_of(0.5 * of_logit(odds)), odds),
        np.where(void, log_mean, fits.log_mean),
        np.where(void, log_spread, fits.log_spread),
        np.where(void.any(axis=1), 0.0, fits.explained),
        np.bincount(row, weight * off_axis, b) / whole,
    )


def _greatest(values: Array, row: NDArray[np.int64], b: int) -> Array:
    """The greatest of each row's values, shape (b,); −inf where it has none."""
    most = np.full(b, -np.inf)
    np.maximum.at(most, row, values)
    return most


def _open(logit: Array) -> Flags:
    """Elements that may be there or not, shape (B, P): of those between the limits the most probable few."""
    between = (logit > POSSIBLE) & (logit <= _SURE)
    rank = np.where(between, -logit, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return between & (rank < _MOST_OPEN)


def _sets(sure: Flags, open_ones: Flags) -> tuple[NDArray[np.int64], Flags]:
    """The sets that are weighed: whose each is, shape (S,), and what it holds, shape (S, P)."""
    counts = open_ones.sum(axis=1)
    rows, sets = [], []
    for count in np.unique(counts).tolist():
        (of,) = np.nonzero(counts == count)
        chosen = _subsets(count)
        some = np.repeat(sure[of, None], len(chosen), axis=1)
        some[np.broadcast_to(open_ones[of, None], some.shape)] = np.tile(chosen.ravel(), of.size)
        rows.append(np.repeat(of, len(chosen)))
        sets.append(some.reshape(-1, sure.shape[1]))
    row, every = np.concatenate(rows), np.concatenate(sets)
    few = every.sum(axis=1) <= np.maximum(_MOST_FOUND, sure.sum(axis=1))[row]
    return row[few], every[few]


@cache
def _subsets(n: int) -> Flags:
    """All subsets of n things, shape (2ⁿ, n)."""
    return np.asarray((np.arange(1 << n)[:, None] >> np.arange(n)) & 1, dtype=bool)
