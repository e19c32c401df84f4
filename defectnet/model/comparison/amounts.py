"""Which of the elements that were found stay, and with what amounts, once the fit to the change has been heard.

Shapes: B spectra, P elements.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.amount_fits import Fits, Fittable, fitted_amounts
from defectnet.model.comparison.calibration import logit_of, of_logit

__all__ = ["POSSIBLE", "Settled", "completed", "exchanged", "settled", "supported"]

Array = NDArray[np.float64]

# Where found elements explain less than this share of a small change, nothing is there but what measuring makes: noise
# of 2 %, or a computed reference, moves pristine validation crystals by a norm of 0.01, at most of 0.05. With a list
# something was found in 4.5 and 8.5 % of these at a share of 0.05, in 1.5 and 6 % at this one, for F1 of 0.00 and 0.01.
_LEAST_EXPLAINED, _SMALL = 0.25, 0.05
# An answer that leaves more than so much is exchanged for one of no more elements, of no lower logit than this, that
# leaves less than a third of it: of 14 such answers on validation hosts 4 are right to the last element, instead of 1.
_DOUBTED, POSSIBLE, _CLEARLY_BETTER = 0.1, -1.0, 0.33
_LARGEST_EXCHANGED = 3
_BARELY = 0.1
# Where found elements leave more than so much, one that is possible joins them if it at least halves what is left and
# the fit outweighs its odds. On validation hosts F1 without a list rises from 0.76 to 0.77 (0.69 to 0.72 where all true
# dopants have end members), and lists of one source stay within 0.002.
_INCOMPLETE, _HALVED = 0.03, 0.5
_MOST_FOUND = 6


@dataclass(frozen=True, eq=False)
class Settled:
    """What is found in B spectra once the fit has been heard.

    Attributes:
        there: shape (B, P).
        logit, log_mean, log_spread: shape (B, P), of the probability, and of the fraction of all atoms.
        explained: shape (B,), share of each change that what is there explains.
    """

    there: NDArray[np.bool_]
    logit: Array
    log_mean: Array
    log_spread: Array
    explained: Array


def settled(given: Fittable, there: NDArray[np.bool_], logit: Array, log_mean: Array, log_spread: Array) -> Settled:
    """Keep of what was found what the fit bears out, and fit its amounts.

    Where that explains less than a quarter of a change that is no larger than what measuring makes, nothing is found:
    it is then as likely as not that only the measuring moved anything, and each probability is halved.

    Args:
        there, logit, log_mean, log_spread: shape (B, P), by the calibrated network; of an empty place the logit is
            below `POSSIBLE`.
    """
    network = log_mean, log_spread
    found = exchanged(given, *supported(given, there, logit, *network), *network)
    stays, odds, fits = completed(given, *found, *network)
    void = ((fits.explained < _LEAST_EXPLAINED) & (given.size < _SMALL**2))[:, None] & stays
    return Settled(
        stays & ~void,
        np.where(void, logit_of(0.5 * of_logit(odds)), odds),
        np.where(void, log_mean, fits.log_mean),
        np.where(void, log_spread, fits.log_spread),
        np.where(void.any(axis=1), 0.0, fits.explained),
    )


def supported(
    given: Fittable, there: NDArray[np.bool_], logit: Array, log_mean: Array, log_spread: Array
) -> tuple[NDArray[np.bool_], Array, Fits]:
    """Of sets of elements that were found, those that the fit bears out beside each other.

    The network judges candidates one by one: of two that explain one change alike it may find both, which together
    explain less than either. One after the other those are left out whose odds do not outweigh how much better the fit
    is without them.

    Args:
        there: shape (B, P), what was found; where that is one element alone it stays.
        logit: shape (B, P), of its calibrated probability.

    Returns:
        what stays, and the logits, those of what is left out with what the fit says: both (B, P); and the fits.
    """
    there, logit = there.copy(), logit.copy()
    rows, n = np.flatnonzero(there.sum(axis=1) > 1), len(there)
    row, slot, fewer = _one_fewer(there[rows])
    # What stays is mostly what was found: it is fitted with the first that may be left out.
    every = np.concatenate([np.arange(n), rows[row]])
    fits = fitted_amounts(given.of_rows(every), np.concatenate([there, fewer]), log_mean[every], log_spread[every])
    found, less = fits.of_rows(slice(n)), fits.of_rows(slice(n, None))
    while rows.size:
        of = rows[row]
        borne_out = np.full((rows.size, there.shape[1]), np.inf)
        borne_out[row, slot] = logit[of, slot] + 0.5 * (less.cost - found.cost[of])
        worst = borne_out.argmin(axis=1)
        least = borne_out[np.arange(rows.size), worst]
        out = least < 0.0
        there[rows[out], worst[out]] = False
        logit[rows[out], worst[out]] = least[out]
        found.put(rows[out], less.of_rows(np.flatnonzero(out[row] & (slot == worst[row]))))
        rows = rows[out & (there[rows].sum(axis=1) > 1)]
        if rows.size:
            row, slot, fewer = _one_fewer(there[rows])
            of = rows[row]
            less = fitted_amounts(given.of_rows(of), fewer, log_mean[of], log_spread[of])
    return there, logit, found


def _one_fewer(there: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Each set without each of its elements: whose set, which element, and what is left of it, (n, P)."""
    row, slot = np.nonzero(there)
    fewer = there[row]
    fewer[np.arange(row.size), slot] = False
    return row, slot, fewer


def exchanged(
    given: Fittable, there: NDArray[np.bool_], logit: Array, fits: Fits, log_mean: Array, log_spread: Array
) -> tuple[NDArray[np.bool_], Array, Fits]:
    """Of sets of elements that leave much, those that are clearly worse than another of no more elements, exchanged.

    The network reads a response before it knows how much of it there is, and may take it for two others.

    Args:
        there: shape (B, P), what was found.
        logit: shape (B, P), of its calibrated probability.
        fits: of what was found.

    Returns:
        what is found, and the logits: of what came or went with what the fit says, both (B, P); and the fits.
    """
    possible = there | (logit > POSSIBLE)
    doubted = there.any(axis=1) & (1.0 - fits.explained > _DOUBTED)
    rows = np.flatnonzero(doubted & (possible & ~there).any(axis=1))
    if not rows.size:
        return there, logit, fits
    sets = [_no_more(there[row], possible[row]) for row in rows.tolist()]
    there, logit = there.copy(), logit.copy()
    row = np.repeat(rows, [len(one) for one in sets])
    others = fitted_amounts(given.of_rows(row), np.concatenate(sets), log_mean[row], log_spread[row])
    for at, tried in zip(rows.tolist(), sets, strict=True):
        (places,) = np.nonzero(row == at)
        cost, now = others.cost[places], fits.cost[at]
        better = 1.0 - others.explained[places] < _CLEARLY_BETTER * (1.0 - fits.explained[at])
        if better.any():
            chosen = int(np.where(better, tried @ logit[at] - 0.5 * cost, -np.inf).argmax())
            came, went = tried[chosen] & ~there[at], there[at] & ~tried[chosen]
            gain = 0.5 * (now - cost[chosen])
            logit[at, came] = np.maximum(logit[at, came] + gain, _BARELY)
            logit[at, went] = np.minimum(logit[at, went] - gain, -_BARELY)
            there[at] = tried[chosen]
            fits.put(np.array([at]), others.of_rows(places[[chosen]]))
    return there, logit, fits


def _no_more(there: NDArray[np.bool_], possible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """All sets of no more elements than are `there` that are `possible`, all of shape (P,): (n, P)."""
    most = min(int(there.sum()), _LARGEST_EXCHANGED)
    members = np.flatnonzero(possible).tolist()
    others = [chosen for size in range(1, most + 1) for chosen in combinations(members, size)]
    sets = np.zeros((len(others), there.size), dtype=bool)
    for at, chosen in enumerate(others):
        sets[at, list(chosen)] = True
    return sets


def completed(
    given: Fittable, there: NDArray[np.bool_], logit: Array, fits: Fits, log_mean: Array, log_spread: Array
) -> tuple[NDArray[np.bool_], Array, Fits]:
    """Sets of elements that leave something, with each further one without which the change is not explained.

    The network judges candidates one by one, and hesitates between several that are alike: none of them is then found,
    although the change has a part that only one of them explains.

    Args:
        there, logit, fits: as in `exchanged`, which returns the same.
    """
    there, logit = there.copy(), logit.copy()
    rows = np.flatnonzero(there.any(axis=1))
    while rows.size:
        left = 1.0 - fits.explained[rows]
        rows = rows[(left > _INCOMPLETE) & (there[rows].sum(axis=1) < _MOST_FOUND)]
        place, slot = np.nonzero((logit[rows] > POSSIBLE) & ~there[rows])
        if not place.size:
            break
        row = rows[place]
        more = there[row]
        more[np.arange(row.size), slot] = True
        fuller = fitted_amounts(given.of_rows(row), more, log_mean[row], log_spread[row])
        odds = np.full((rows.size, there.shape[1]), -np.inf)
        odds[place, slot] = logit[row, slot] + 0.5 * (fits.cost[row] - fuller.cost)
        odds[place, slot] -= np.where(1.0 - fuller.explained < _HALVED * (1.0 - fits.explained[row]), 0.0, np.inf)
        best = odds.argmax(axis=1)
        most = odds[np.arange(rows.size), best]
        joins = most > 0.0
        there[rows[joins], best[joins]] = True
        logit[rows[joins], best[joins]] = np.maximum(most[joins], _BARELY)
        fits.put(rows[joins], fuller.of_rows(np.flatnonzero(joins[place] & (slot == best[place]))))
        rows = rows[joins]
    return there, logit, fits
