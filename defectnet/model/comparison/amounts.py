"""Which elements are there, and with what amounts, once the fit to the change has been heard.

The network judges candidates one by one, each at an amount that it does not know yet: of two that explain one change
alike it may find both or neither. So sets of elements are weighed: each has the network's odds for prior, and how well
it explains the change at the amounts that suit it best for likelihood (`amount_fits`). An element's probability is that
of all the sets that hold it (Bayesian model averaging: A. E. Raftery et al., J. Am. Stat. Assoc. 92, 179 (1997)).

Shapes: B spectra, P elements, S sets.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.amount_fits import Fits, Fittable, fitted_amounts
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
# What the network alone does not find the fit must explain so well, and in no small change. Of pristine validation
# crystals on another axis something is then found in 7 % with a list and 8 % without, instead of 13.5 and 16; by a
# computed reference in 5.5 and 0 %, instead of 9 and 7. F1 without a list is 0.79 instead of 0.80; with one it stays.
_EXPLAINED_ALONE = 0.6


@dataclass(frozen=True, eq=False)
class Settled:
    """What is found in B spectra once the fit has been heard.

    Attributes:
        there: shape (B, P).
        logit, log_mean, log_spread: shape (B, P), of the probability, and of the fraction of all atoms.
        explained: shape (B,), share of each change that what is there explains.
    """

    there: Flags
    logit: Array
    log_mean: Array
    log_spread: Array
    explained: Array


def settled(given: Fittable, logit: Array, log_mean: Array, log_spread: Array) -> Settled:
    """Weigh sets of elements by the fit, and fit the amounts of what is found.

    Nothing is found where that explains less than a quarter of a change that is no larger than what measuring makes,
    and where the network alone finds nothing and the change is so small, or not well explained: it is then as likely
    as not that only the measuring moved anything, and each probability is halved.

    Args:
        logit, log_mean, log_spread: shape (B, P), by the calibrated network; of an empty place the logit is below
            `POSSIBLE`.
    """
    open_ones = _open(logit)
    row, sets = _weighed(logit > _SURE, open_ones)
    found = fitted_amounts(given.of_rows(row), sets, log_mean[row], log_spread[row])
    score = np.where(sets, logit[row], 0.0).sum(axis=1) - 0.5 * found.cost
    most = np.full(len(logit), -np.inf)
    np.maximum.at(most, row, score)
    weight = np.exp(score - most[row])
    chance = np.zeros_like(logit)
    np.add.at(chance, row, weight[:, None] * sets)
    chance /= np.bincount(row, weight, len(logit))[:, None]
    # That of the elements that are more probable than not was weighed, unless it holds too many: then the likeliest.
    score += np.where((sets == (chance >= FOUND)[row]).all(axis=1), 1e9, 0.0)
    chosen = np.lexsort((score, row))[np.cumsum(np.bincount(row, minlength=len(logit))) - 1]
    stays, fits = sets[chosen], found.of_rows(chosen)
    odds = np.where(open_ones, np.clip(logit_of(chance), -_CERTAIN, _CERTAIN), logit)
    alone = np.asarray((logit > 0.0).any(axis=1))
    return _without_void(given, alone, stays, odds, fits, log_mean, log_spread)


def _without_void(
    given: Fittable, alone: Flags, stays: Flags, odds: Array, fits: Fits, log_mean: Array, log_spread: Array
) -> Settled:
    """Nothing found where measuring may have made the change; `alone`, (B,): whether the network finds something."""
    small = given.size < _SMALL**2
    void = small & (fits.explained < _LEAST_EXPLAINED)
    void |= ~alone & (small | (fits.explained < _EXPLAINED_ALONE))
    void = void[:, None] & stays
    return Settled(
        stays & ~void,
        np.where(void, logit_of(0.5 * of_logit(odds)), odds),
        np.where(void, log_mean, fits.log_mean),
        np.where(void, log_spread, fits.log_spread),
        np.where(void.any(axis=1), 0.0, fits.explained),
    )


def _open(logit: Array) -> Flags:
    """Elements that may be there or not, shape (B, P): of those between the limits the most probable few."""
    between = (logit > POSSIBLE) & (logit <= _SURE)
    rank = np.where(between, -logit, np.inf).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return between & (rank < _MOST_OPEN)


def _weighed(sure: Flags, open_ones: Flags) -> tuple[NDArray[np.int64], Flags]:
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
