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

Sample and reference may lie apart by what a wrong axis makes (`coarse_directions`). That is no dopant's, and is taken
out of the change and of the responses before anything is fitted (`Fittable.off_axis`): where the reference is a
calculation, or of another instrument, always, and else as one of two things that may be.

Shapes: B spectra, P elements, 3 concentrations, N bins, M directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.calibration import MOST_TOGETHER

__all__ = ["Fits", "Fittable", "fitted_amounts", "weights_at"]

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Places, or whether each is meant.
Rows = NDArray[np.int64] | Flags

# So far beyond the highest concentration a response goes on as it changed below it.
_BEYOND = 2.0
# Concentrations that are nearer are one.
_APART = 1e-6
# As so many measurements a change counts: of 0 (the network alone), 3, 6, 10 and 16 that which made the amounts of
# validation hosts better in every regime.
_INDEPENDENT = 3.0
# Fewer where sample and reference have axes of their own: so many that intervals of validation hosts are wide enough.
_INDEPENDENT_APART = 1.0
# Least square of a norm that something is a share of.
_LEAST_SIZE = 1e-12
# Least unexplained share, and that at which what is unexplained begins to count double.
_LEAST_LEFT, _DOUBTFUL = 0.005, 0.2
# Right sets seldom leave half of a change and never more than all of it, as amounts do that each explain it alone.
_WRONG = 3.0
_MOST = float(np.log(MOST_TOGETHER))
# Beside the network's amounts half and twice of them are where a fit may begin: what is least has several valleys.
_STARTS = np.array([0.0, -0.7, 0.7])[:, None, None]
_STEPS, _LONGEST_STEP, _ENOUGH = 8, 0.5, 0.0015

# Of more changes than these those that have ended are left behind.
_FEW = 16


@dataclass(frozen=True, eq=False)
class Fittable:
    """What a fit of B changes needs of at most P responses each; of a place that is empty all are 0.

    Attributes:
        size: shape (B,), the square of the change's norm.
        overlap: shape (B, P, 3), products of the change and the responses at three concentrations.
        gram: shape (B, P, 3, P, 3), products of the responses.
        concentrations: shape (B, P, 3), ascending; equal where there is one response only.
        change_along: shape (B, M), products of the change and what a wrong axis makes.
        along: shape (B, P, 3, M), those of the responses.
        apart: shape (B,), whether sample and reference have axes of their own in any case.
        whole: shape (B,), the square of the norm of which what is left is a share: `size`, and a greater one where the
            axis may have made the rest.
        independent: shape (B,), as how many measurements the change counts.
    """

    size: Array
    overlap: Array
    gram: Array
    concentrations: Array
    change_along: Array
    along: Array
    apart: Flags
    whole: Array
    independent: Array

    @classmethod
    def of(
        cls,
        changes: NDArray[np.floating],
        nodes: NDArray[np.floating],
        concentrations: Array,
        directions: NDArray[np.floating],
        apart: Flags,
    ) -> "Fittable":
        """Of changes (B, N) and responses (B, P, 3, N), coarsely smoothed and weighted, and as `apart` says.

        Args:
            directions: shape (B, M, N), orthonormal, what a wrong axis makes.
        """
        b, p = nodes.shape[:2]
        flat = nodes.reshape(b, 3 * p, -1)
        gram = (flat @ flat.swapaxes(1, 2)).reshape(b, p, 3, p, 3)
        overlap = (flat @ changes[..., None])[..., 0].reshape(b, p, 3)
        along = (flat @ directions.swapaxes(1, 2)).reshape(b, p, 3, -1)
        size, change_along = np.square(changes).sum(axis=1), (directions @ changes[..., None])[..., 0]
        independent = np.where(apart, _INDEPENDENT_APART, _INDEPENDENT)
        return cls(size, overlap, gram, concentrations, change_along, along, apart, size, independent)

    @property
    def least_cost(self) -> Array:
        """What a perfect fit costs, shape (B,)."""
        return _misfit(self.independent, np.full(len(self.size), _LEAST_LEFT))

    def off_axis(self) -> "Fittable":
        """The same with what a wrong axis makes taken out."""
        b, p = self.along.shape[:2]
        flat = self.along.reshape(b, 3 * p, -1)
        size = np.maximum(self.size - np.square(self.change_along).sum(axis=1), 0.0)
        return replace(
            self,
            size=size,
            gram=self.gram - (flat @ flat.swapaxes(1, 2)).reshape(self.gram.shape),
            overlap=self.overlap - (flat @ self.change_along[..., None])[..., 0].reshape(self.overlap.shape),
            change_along=np.zeros_like(self.change_along),
            along=np.zeros_like(self.along),
            whole=np.where(self.apart, size, self.size),
        )

    @classmethod
    def joined(cls, parts: Sequence["Fittable"]) -> "Fittable":
        """The changes of all of them, one after another."""
        return cls(*(np.concatenate(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))

    def of_rows(self, rows: Rows) -> "Fittable":
        """The chosen changes."""
        return Fittable(*(values[rows] for values in vars(self).values()))


class Fits(NamedTuple):
    """Amounts of sets of elements, one set of each of B changes, that cost least.

    Attributes:
        log_mean, log_spread: shape (B, P), natural logs of the fraction of all atoms and of the former's standard
            deviation.
        explained: shape (B,), the share of each change's `size` that the set explains.
        cost: shape (B,), what was to be least.
    """

    log_mean: Array
    log_spread: Array
    explained: Array
    cost: Array

    def of_rows(self, rows: Rows | slice) -> "Fits":
        """The chosen ones."""
        return Fits(*(values[rows] for values in self))

    def and_of(self, others: "Fits") -> "Fits":
        """These, and after them others."""
        return Fits(*(np.concatenate(pair) for pair in zip(self, others, strict=True)))

    def put(self, rows: Rows, others: "Fits") -> None:
        """Put others into some rows."""
        for values, new in zip(self, others, strict=True):
            values[rows] = new


def fitted_amounts(given: Fittable, there: Flags, log_mean: Array, log_spread: Array) -> Fits:
    """Fit the amounts of the elements that are `there`, shape (B, P).

    Each change takes steps of its own: what is fitted beside it changes nothing.

    Args:
        log_mean, log_spread: shape (B, P), as in `Fits`, by the network; they stay where nothing is there.
    """
    trust = np.where(there, np.exp(-2.0 * log_spread), 1.0)
    # Of what is not there no amount but the most is tried, which counts for nothing.
    prior = np.where(there, np.minimum(log_mean, _MOST), _MOST)
    asked = _Asked(given, _Between.of(given.concentrations), there, prior, trust)
    found = Fits(*np.empty((2, *there.shape)), *np.empty((2, len(there))))
    rows, best = np.arange(len(there)), asked.started()
    inverse = asked.covariance(best)
    move = best.step(inverse)
    last = np.zeros_like(move)
    for step in range(_STEPS + 1):
        going = np.abs(move).max(axis=1) >= _ENOUGH
        # A short step is the last, and is taken without another look.
        last += np.where(going[:, None], 0.0, move)
        move *= going[:, None]
        n = np.count_nonzero(going)
        if not n or step == _STEPS:
            found.put(rows, best.fits(inverse, last))
            break
        if 2 * n < rows.size > _FEW:
            found.put(rows, best.fits(inverse, last))
            rows, asked, best, move = rows[going], asked.of_rows(going), best.of_rows(going), move[going]
            last = np.zeros_like(move)
        tried = asked.at(np.minimum(best.log_amount + move, _MOST))
        better = (tried.cost < best.cost)[:, None]
        best = best.or_better(tried)
        inverse = asked.covariance(best)
        # Where a step went too far, half of it is tried.
        move = np.where(better, best.step(inverse), 0.5 * move)
    left = (1.0 - found.explained) * given.whole / np.maximum(given.size, _LEAST_SIZE)
    return found._replace(
        explained=np.where(there.any(axis=1), 1.0 - left, 0.0),
        log_mean=np.where(there, found.log_mean, log_mean),
        log_spread=np.where(there, found.log_spread, log_spread),
    )


def weights_at(concentrations: Array, amounts: Array) -> tuple[Array, Array]:
    """How a response at `amounts` (...) is made of those at three `concentrations` (..., 3), and its slope.

    It is interpolated, held below the first concentration, and goes on beyond the last, to twice that.

    Returns:
        the weights of the three, shape (..., 3), and their derivatives by the amount, same shape.
    """
    return _Between.of(concentrations).weights_at(amounts)


class _Between(NamedTuple):
    """Between three concentrations: the lower ones, one over the gaps and the most that counts: each (..., 2)."""

    low: Array
    rates: Array
    most: Array

    @classmethod
    def of(cls, concentrations: Array) -> "_Between":
        """Between `concentrations`, (..., 3); of equal ones all is 0."""
        low = concentrations[..., :-1]
        gaps = concentrations[..., 1:] - low
        rates = (gaps > _APART) / np.maximum(gaps, _APART)
        most = np.ones_like(rates)
        most[..., 1] = (_BEYOND * concentrations[..., 2] - concentrations[..., 1]) * rates[..., 1]
        return cls(low, rates, most)

    def of_rows(self, rows: Rows) -> "_Between":
        """Those of the chosen changes."""
        return _Between(self.low[rows], self.rates[rows], self.most[rows])

    def weights_at(self, amounts: Array) -> tuple[Array, Array]:
        """As the function of this name."""
        parts = amounts[..., None] - self.low
        parts *= self.rates  # how far from one to the next
        rates = self.rates * ((parts > 0.0) & (parts < self.most))
        np.minimum(np.maximum(parts, 0.0, out=parts), self.most, out=parts)
        weights, slopes = np.zeros((2, *parts.shape[:-1], 3))
        weights[..., 1:] = parts
        weights[..., 0] = 1.0
        weights[..., :2] -= parts
        slopes[..., 1:] = rates
        slopes[..., :2] -= rates
        return weights, slopes


def _trusted(left: Array) -> Array:
    """By how much less a change counts of which a share is left."""
    return 1.0 + left * (1.0 / _DOUBTFUL)


def _misfit(independent: Array, left: Array) -> Array:
    """What a share costs that is left of a change of so many measurements."""
    return independent * np.log(left / _trusted(left)) + _WRONG * np.square(left)


class _Asked(NamedTuple):
    """What amounts are sought of: see `_fitted`; `prior` and `trust` are the network's, (B, P)."""

    given: Fittable
    between: _Between
    there: Flags
    prior: Array
    trust: Array

    def of_rows(self, rows: Rows) -> "_Asked":
        """The chosen ones."""
        given, between = self.given.of_rows(rows), self.between.of_rows(rows)
        return _Asked(given, between, self.there[rows], self.prior[rows], self.trust[rows])

    def started(self) -> "_Tried":
        """Of some places to begin at the best."""
        tried = self.at(np.minimum(self.prior + _STARTS * self.there, _MOST))
        best = tried.cost.argmin(axis=0)
        return tried.of_rows((best, np.arange(best.size)))

    def at(self, log_amount: Array) -> "_Tried":
        """What these log amounts cost, shape (B, P), or several of each, (n, B, P)."""
        given = self.given
        amounts = np.exp(log_amount) * self.there
        weights, rates = self.between.weights_at(amounts)
        amounts = amounts[..., None]
        rates *= amounts
        rates += weights
        rates *= amounts
        parts = np.multiply(weights, amounts, out=weights)
        n = parts.shape[-2] * 3
        seen = (given.gram.reshape(-1, n, n) @ parts.reshape(*parts.shape[:-2], n, 1)).reshape(parts.shape)
        rest = np.subtract(given.overlap, seen, out=seen)
        size = np.maximum(given.whole, _LEAST_SIZE)
        left = (given.size - ((rest + given.overlap) * parts).sum(axis=(-2, -1))) / size
        known = np.maximum(left, _LEAST_LEFT)
        away = log_amount - self.prior
        pull = away * self.trust
        cost = _misfit(given.independent, known) + (away * pull).sum(axis=-1)
        precision = (given.independent / (known * _trusted(known)) + 2.0 * _WRONG * known) / size
        downhill = (rest * rates).sum(axis=-1) * precision[..., None] - pull
        return _Tried(log_amount, cost, left, rates, downhill, precision)

    def covariance(self, tried: "_Tried") -> Array:
        """Of the log amounts, shape (B, P, P), by Gauss and Newton: the inverse of the cost's curvature."""
        b, p = tried.log_amount.shape
        mixed = (tried.rates[:, :, None] @ self.given.gram.reshape(b, p, 3, 3 * p)).reshape(b, p, p, 3)
        curvature = (mixed * tried.rates[:, None]).sum(axis=3) * tried.precision[:, None, None]
        curvature[:, np.arange(p), np.arange(p)] += self.trust
        return np.linalg.inv(curvature)


@dataclass(frozen=True, eq=False)
class _Tried:
    """Amounts that were tried.

    Attributes:
        log_amount: shape (B, P).
        cost: shape (B,), what is to be least.
        left: shape (B,), share of the change that they leave.
        rates: shape (B, P, 3), how the parts of the three responses grow with the log amount.
        downhill: shape (B, P), minus half the cost's derivative by it.
        precision: shape (B,), of one of the measurements that the change counts as.
    """

    log_amount: Array
    cost: Array
    left: Array
    rates: Array
    downhill: Array
    precision: Array

    def of_rows(self, rows: Rows | tuple[NDArray[np.int64], ...]) -> "_Tried":
        """The chosen ones."""
        return _Tried(*(values[rows] for values in vars(self).values()))

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

    def step(self, inverse: Array) -> Array:
        """The step downhill, shape (B, P)."""
        return np.clip((inverse @ self.downhill[..., None])[..., 0], -_LONGEST_STEP, _LONGEST_STEP)

    def fits(self, inverse: Array, last: Array) -> Fits:
        """What they are after a `last` step, (B, P), by the covariance."""
        spread = 0.5 * np.log(np.diagonal(inverse, axis1=1, axis2=2))
        return Fits(np.minimum(self.log_amount + last, _MOST), spread, 1.0 - self.left, self.cost)
