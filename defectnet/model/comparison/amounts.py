"""The amounts of the elements that were found, fitted to the change with what the network says of them as prior.

The network reads every candidate's response at an amount that it does not know yet, and a response hangs on its amount:
at 20 % it has another shape and half the size than at 1 %. Once it is known which elements are there, few enough are
left to fit all amounts at once, each response read at its own:

    n log(u / (1 + u / u₀)) + w u² + Σ (log aₖ − μₖ)² / sₖ²   is least,   u = |d − Σ aₖ rₖ(aₖ)|² / |d|²,

where μ and s are the network's log concentrations and their standard deviations. What no amounts explain, a share u of
the change, is an error of the responses and of elements that were not found, and as such no noise: the change counts
as few independent measurements n, each of a variance that is not known but from u, and less trusted beyond u₀.
Where responses explain everything the fit decides; where they do not, the network. u is never taken for less than what
configurations of one alloy differ by.

Where the reference is a calculation, or of another instrument, sample and reference lie apart by what a wrong axis
makes (`coarse_directions`): no dopant's, it is taken out of the change and of the responses before anything is fitted.

Shapes: B spectra, P elements, 3 concentrations, N bins.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.calibration import MOST_TOGETHER, logit_of, of_logit

__all__ = [
    "POSSIBLE",
    "Fittable",
    "Settled",
    "exchanged",
    "fitted_amounts",
    "settled",
    "supported",
    "weights_at",
    "without",
]

Array = NDArray[np.float64]

# So far beyond the highest concentration a response goes on as it changed below it.
_BEYOND = 2.0
# Concentrations that are nearer are one.
_APART = 1e-6
# As so many measurements a change counts: of 0 (the network alone), 3, 6, 10 and 16 that which made the amounts of
# validation hosts better in every regime.
_INDEPENDENT = 3.0
# Fewer where part of it was taken out: so many that intervals of validation hosts are wide enough.
_INDEPENDENT_WITHOUT = 1.0
# Where found elements explain less than this share of a change, as good as nothing is there but what measuring it made.
_LEAST_EXPLAINED = 0.05
# An answer that leaves more than so much is exchanged for one of no more elements, of no lower logit than this, that
# leaves less than a third of it: of 14 such answers on validation hosts 4 are right to the last element, instead of 1.
_DOUBTED, POSSIBLE, _CLEARLY_BETTER = 0.1, -0.5, 0.33
_LARGEST_EXCHANGED = 3
_BARELY = 0.1
# Least unexplained share, and that at which what is unexplained begins to count double.
_LEAST_LEFT, _DOUBTFUL = 0.005, 0.1
# Right sets seldom leave half of a change and never more than all of it, as amounts do that each explain it alone.
_WRONG = 3.0
_MOST = float(np.log(MOST_TOGETHER))
# Beside the network's amounts half and twice of them are where a fit may begin: what is least has several valleys.
_STARTS = (0.0, -0.7, 0.7)
_STEPS, _LONGEST_STEP, _ENOUGH = 8, 0.5, 0.01


@dataclass(frozen=True, eq=False)
class Fittable:
    """What a fit of B changes needs of at most P responses each; of a place that is empty all are 0.

    Attributes:
        size: shape (B,), the square of the change's norm.
        overlap: shape (B, P, 3), products of the change and the responses at three concentrations.
        gram: shape (B, P, 3, P, 3), products of the responses.
        concentrations: shape (B, P, 3), ascending; equal where there is one response only.
        independent: shape (B,), as how many measurements the change counts.
    """

    size: Array
    overlap: Array
    gram: Array
    concentrations: Array
    independent: Array

    @classmethod
    def of(
        cls,
        changes: NDArray[np.floating],
        nodes: NDArray[np.floating],
        concentrations: Array,
        directions: NDArray[np.floating] | None = None,
    ) -> "Fittable":
        """Of changes (B, N) and responses (B, P, 3, N), coarsely smoothed and weighted.

        Args:
            directions: shape (B, M, N), orthonormal, what is taken out of both; 0 where nothing is.
        """
        independent = np.full(len(changes), _INDEPENDENT)
        b, p = nodes.shape[:2]
        flat = nodes.reshape(b, 3 * p, -1)
        if directions is not None and (apart := directions.any(axis=(1, 2))).any():
            flat, changes = without(directions, flat), without(directions, changes[:, None])[:, 0]
            independent[apart] = _INDEPENDENT_WITHOUT
        gram = (flat @ flat.swapaxes(1, 2)).reshape(b, p, 3, p, 3)
        overlap = (flat @ changes[..., None])[..., 0].reshape(b, p, 3)
        return cls(np.square(changes).sum(axis=1), overlap, gram, concentrations, independent)

    def of_rows(self, rows: NDArray[np.int64]) -> "Fittable":
        """The chosen changes."""
        return Fittable(*(values[rows] for values in vars(self).values()))


def without(directions: NDArray[np.floating], curves: NDArray[np.floating]) -> NDArray[np.floating]:
    """Curves, shape (B, n, N), less their part along orthonormal `directions`, shape (B, M, N)."""
    return curves - (curves @ directions.swapaxes(1, 2)) @ directions


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

    Where that explains less than a twentieth of the change, nothing is found: it is then as likely as not that only the
    measuring moved anything, and each probability is halved.

    Args:
        there, logit, log_mean, log_spread: shape (B, P), by the calibrated network; of an empty place the logit is
            below `POSSIBLE`.
    """
    stays, odds = exchanged(given, *supported(given, there, logit, log_mean, log_spread), log_mean, log_spread)
    mean, spread, explained = fitted_amounts(given, stays, log_mean, log_spread)
    void = (explained < _LEAST_EXPLAINED)[:, None] & stays
    return Settled(
        stays & ~void,
        np.where(void, logit_of(0.5 * of_logit(odds)), odds),
        np.where(void, log_mean, mean),
        np.where(void, log_spread, spread),
        np.where(void.any(axis=1), 0.0, explained),
    )


def weights_at(concentrations: Array, amounts: Array) -> tuple[Array, Array]:
    """How a response at `amounts` (...) is made of those at three `concentrations` (..., 3), and its slope.

    It is interpolated, held below the first concentration, and goes on beyond the last, to twice that.

    Returns:
        the weights of the three, shape (..., 3), and their derivatives by the amount, same shape.
    """
    gaps = concentrations[..., 1:] - concentrations[..., :-1]
    rates = (gaps > _APART) / np.maximum(gaps, _APART)
    most = np.ones_like(rates)
    most[..., 1] = (_BEYOND * concentrations[..., 2] - concentrations[..., 1]) * rates[..., 1]
    parts = (amounts[..., None] - concentrations[..., :-1]) * rates  # how far from one to the next
    rates = rates * ((parts > 0.0) & (parts < most))
    parts = np.minimum(np.maximum(parts, 0.0), most)
    weights, slopes = np.empty((2, *concentrations.shape))
    weights[..., 0] = 1.0 - parts[..., 0]
    weights[..., 1] = parts[..., 0] - parts[..., 1]
    weights[..., 2] = parts[..., 1]
    slopes[..., 0] = -rates[..., 0]
    slopes[..., 1] = rates[..., 0] - rates[..., 1]
    slopes[..., 2] = rates[..., 1]
    return weights, slopes


def fitted_amounts(
    given: Fittable, there: NDArray[np.bool_], log_mean: Array, log_spread: Array
) -> tuple[Array, Array, Array]:
    """Fit the amounts of the elements that are `there`, shape (B, P).

    Args:
        log_mean, log_spread: shape (B, P), natural logs of the fraction of all atoms and of the former's standard
            deviation, by the network.

    Returns:
        both anew, shape (B, P), as they were where nothing is there; and the share of each change that is explained,
        shape (B,).
    """
    best, inverse = _fitted(given, there, log_mean, log_spread)
    spread = 0.5 * np.log(np.diagonal(inverse, axis1=1, axis2=2))
    explained = np.where(there.any(axis=1), 1.0 - best.left, 0.0)
    return np.where(there, best.log_amount, log_mean), np.where(there, spread, log_spread), explained


def supported(
    given: Fittable, there: NDArray[np.bool_], logit: Array, log_mean: Array, log_spread: Array
) -> tuple[NDArray[np.bool_], Array]:
    """Of sets of elements that were found, those that the fit bears out beside each other.

    The network judges candidates one by one: of two that explain one change alike it may find both, which together
    explain less than either. One after the other those are left out whose odds do not outweigh how much better the fit
    is without them.

    Args:
        there: shape (B, P), what was found; where that is one element alone it stays.
        logit: shape (B, P), of its calibrated probability.

    Returns:
        what stays, and the logits, those of what is left out with what the fit says: both (B, P).
    """
    there, logit = there.copy(), logit.copy()
    for _ in range(there.shape[1] - 1):
        rows = np.flatnonzero(there.sum(axis=1) > 1)
        if not rows.size:
            break
        row, slot = np.nonzero(there[rows])
        fewer = there[rows][row]
        fewer[np.arange(row.size), slot] = False
        several = rows[np.concatenate([np.arange(rows.size), row])]
        costs = _fitted(
            given.of_rows(several), np.concatenate([there[rows], fewer]), log_mean[several], log_spread[several]
        )[0].cost
        borne_out = np.full((rows.size, there.shape[1]), np.inf)
        borne_out[row, slot] = logit[rows][row, slot] + 0.5 * (costs[rows.size :] - costs[row])
        worst = borne_out.argmin(axis=1)
        least = borne_out[np.arange(rows.size), worst]
        out = least < 0.0
        if not out.any():
            break
        there[rows[out], worst[out]] = False
        logit[rows[out], worst[out]] = least[out]
    return there, logit


def exchanged(
    given: Fittable, there: NDArray[np.bool_], logit: Array, log_mean: Array, log_spread: Array
) -> tuple[NDArray[np.bool_], Array]:
    """Of sets of elements that leave much, those that are clearly worse than another of no more elements, exchanged.

    The network reads a response before it knows how much of it there is, and may take it for two others.

    Args:
        there: shape (B, P), what was found.
        logit: shape (B, P), of its calibrated probability.

    Returns:
        what is found, and the logits: of what came or went with what the fit says, both (B, P).
    """
    possible = there | (logit > POSSIBLE)
    rows = np.flatnonzero(there.any(axis=1) & (possible & ~there).any(axis=1))
    if not rows.size:
        return there, logit
    sets = [_no_more(there[row], possible[row]) for row in rows.tolist()]
    there, logit = there.copy(), logit.copy()
    row = np.repeat(rows, [len(one) for one in sets])
    best = _fitted(given.of_rows(row), np.concatenate(sets), log_mean[row], log_spread[row])[0]
    for at, tried in zip(rows.tolist(), sets, strict=True):
        left, cost = best.left[row == at], best.cost[row == at]
        better = (left < _CLEARLY_BETTER * left[0]) & (left[0] > _DOUBTED)
        if better.any():
            chosen = int(np.where(better, tried @ logit[at] - 0.5 * cost, -np.inf).argmax())
            came, went = tried[chosen] & ~there[at], there[at] & ~tried[chosen]
            gain = 0.5 * (cost[0] - cost[chosen])
            logit[at, came] = np.maximum(logit[at, came] + gain, _BARELY)
            logit[at, went] = np.minimum(logit[at, went] - gain, -_BARELY)
            there[at] = tried[chosen]
    return there, logit


def _no_more(there: NDArray[np.bool_], possible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is `there`, and all other sets of no more elements that are `possible`, all of shape (P,): (n, P)."""
    most = min(int(there.sum()), _LARGEST_EXCHANGED)
    members = np.flatnonzero(possible).tolist()
    others = [chosen for size in range(1, most + 1) for chosen in combinations(members, size)]
    sets = np.zeros((1 + len(others), there.size), dtype=bool)
    sets[0] = there
    for at, chosen in enumerate(others, 1):
        sets[at, list(chosen)] = True
    return sets


def _fitted(given: Fittable, there: NDArray[np.bool_], log_mean: Array, log_spread: Array) -> tuple["_Tried", Array]:
    """The amounts that cost least, and the covariance of their logarithms, shape (B, P, P)."""
    trust = np.where(there, np.exp(-2.0 * log_spread), 1.0)
    prior = np.where(there, np.minimum(log_mean, _MOST), 0.0)
    best = _started(given, there, prior, trust)
    inverse = best.inverse_curvature(given, trust)
    move = best.step(inverse)
    for _ in range(_STEPS):
        tried = _Tried.at(given, there, np.minimum(best.log_amount + move, _MOST), prior, trust)
        better = (tried.cost < best.cost)[:, None]
        best = best.or_better(tried)
        inverse = best.inverse_curvature(given, trust)
        # Where a step went too far, half of it is tried.
        move = np.where(better, best.step(inverse), 0.5 * move)
        if np.abs(move).max(initial=0.0) < _ENOUGH:
            break
    return best, inverse


def _started(given: Fittable, there: NDArray[np.bool_], prior: Array, trust: Array) -> "_Tried":
    """Of some places to begin at the best."""
    n = len(prior)
    rows = np.tile(np.arange(n), len(_STARTS))
    begun = np.minimum(prior[rows] + np.repeat(_STARTS, n)[:, None], _MOST)
    tried = _Tried.at(given.of_rows(rows), there[rows], begun, prior[rows], trust[rows])
    best = tried.cost.reshape(len(_STARTS), n).argmin(axis=0) * n + np.arange(n)
    return _Tried(*(values[best] for values in vars(tried).values()))


@dataclass(frozen=True, eq=False)
class _Tried:
    """Amounts that were tried.

    Attributes:
        log_amount: shape (B, P).
        cost: shape (B,), what is to be least.
        left: shape (B,), share of the change that they leave.
        rates: shape (B, P, 3), how the parts of the three responses grow with the log amount.
        downhill: shape (B, P), minus half the cost's derivative by it.
    """

    log_amount: Array
    cost: Array
    left: Array
    rates: Array
    downhill: Array

    @classmethod
    def at(cls, given: Fittable, there: NDArray[np.bool_], log_amount: Array, prior: Array, trust: Array) -> "_Tried":
        amounts = np.where(there, np.exp(log_amount), 0.0)
        weights, slopes = weights_at(given.concentrations, amounts)
        amounts = amounts[..., None]
        parts, rates = amounts * weights, amounts * (weights + amounts * slopes)
        b, n = len(parts), parts[0].size
        seen = (given.gram.reshape(b, n, n) @ parts.reshape(b, n, 1)).reshape(parts.shape)
        size = np.maximum(given.size, 1e-12)
        left = (given.size + ((seen - 2.0 * given.overlap) * parts).sum(axis=(1, 2))) / size
        away = np.where(there, log_amount - prior, 0.0)
        known = np.maximum(left, _LEAST_LEFT)
        cost = given.independent * np.log(known / (1.0 + known / _DOUBTFUL)) + _WRONG * known * known
        cost += (away * away * trust).sum(axis=1)
        downhill = ((given.overlap - seen) * rates).sum(axis=2) * _precision(given, left)[:, None] - away * trust
        return cls(log_amount, cost, left, rates, downhill)

    def or_better(self, other: "_Tried") -> "_Tried":
        """Of each spectrum the amounts that cost less."""
        better = other.cost < self.cost
        if better.all():
            return other
        if not better.any():
            return self
        chosen = {
            name: np.where(better.reshape(-1, *[1] * (values.ndim - 1)), getattr(other, name), values)
            for name, values in vars(self).items()
        }
        return _Tried(**chosen)

    def inverse_curvature(self, given: Fittable, trust: Array) -> Array:
        """The covariance of the log amounts, shape (B, P, P), by Gauss and Newton."""
        b, p = self.log_amount.shape
        mixed = (self.rates[:, :, None] @ given.gram.reshape(b, p, 3, 3 * p)).reshape(b, p, p, 3)
        curvature = (mixed * self.rates[:, None]).sum(axis=3) * _precision(given, self.left)[:, None, None]
        curvature[:, np.arange(p), np.arange(p)] += trust
        return np.linalg.inv(curvature)

    def step(self, inverse: Array) -> Array:
        """The step downhill, shape (B, P)."""
        return np.clip((inverse @ self.downhill[..., None])[..., 0], -_LONGEST_STEP, _LONGEST_STEP)


def _precision(given: Fittable, left: Array) -> Array:
    """Of one of the measurements that the change counts as, shape (B,), where a share of it is `left`."""
    known = np.maximum(left, _LEAST_LEFT)
    slope = given.independent / (known * (1.0 + known / _DOUBTFUL)) + 2.0 * _WRONG * known
    return np.asarray(slope / np.maximum(given.size, 1e-12))
