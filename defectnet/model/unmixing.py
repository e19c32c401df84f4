"""A measured change as a sum of responses: which few elements explain it, how much of each, and what else nearly does.

Nothing here is learned. The change d of the density is compared with Σ c_k R_k over small sets of candidates, amounts
c_k ≥ 0 by least squares. A set of m elements is weighed by Bayes's rule with an unknown scale of the error,

    ln p(set | d) = −(n / 2) ln(RSS + floor) − m · penalty + Σ ln prior_k + constant,

n being the number of independent bins. Sets are searched by a beam: the best of m − 1 elements, each extended by every
candidate. Sets with a negative amount are left out, for the same without that element is among the smaller ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExplainingSet", "Unmixed", "unmix"]

Array = NDArray[np.float64]

# Sets of each size that are kept and extended.
_BEAM = 24
# ln p that each further element costs: an element more must explain more than chance would.
_PENALTY = 2.0
# Error of a response relative to itself, as a share of the change that it explains: two cells of one source differ so.
_RESPONSE_ERROR = 0.1
# Of a mixture's elements; more is beyond what the project answers.
_MOST_ELEMENTS = 6
_LEAST = 1e-12


@dataclass(frozen=True)
class ExplainingSet:
    """Some candidates that together explain a change.

    Attributes:
        members: their places among the candidates.
        amounts: concentration of each, fraction of all atoms.
        explained: share of the change's square that they explain, 0 … 1.
        log_weight: logarithm of the set's weight among all sets, up to a constant.
    """

    members: tuple[int, ...]
    amounts: tuple[float, ...]
    explained: float
    log_weight: float


@dataclass(frozen=True, eq=False)
class Unmixed:
    """The answer for one change.

    Attributes:
        presence: shape (K,), weight of all sets with each candidate, 0 … 1.
        amount: shape (K,), concentration of each candidate where it is present, mean over those sets.
        spread: shape (K,), standard deviation of ln amount over those sets and by the error of the fit.
        sets: the best sets, best first.
    """

    presence: Array
    amount: Array
    spread: Array
    sets: tuple[ExplainingSet, ...]


def unmix(
    change: Array,
    responses: Array,
    *,
    weight: Array | None = None,
    log_prior: Array | None = None,
    independent: float = 30.0,
    floor: float = 0.0,
    most: int = _MOST_ELEMENTS,
) -> Unmixed:
    """Find the sets of candidates that explain a change.

    Args:
        change: shape (N,), the measured change.
        responses: shape (K, N), each candidate's change for a unit concentration.
        weight: shape (N,), weights of the bins, such as inverse variances relative to their mean; None for equal ones.
        log_prior: shape (K,), natural logarithm of each candidate's odds before the spectrum; None for equal ones.
        independent: number of independent bins.
        floor: square sum of the change that noise alone would make.
        most: greatest number of elements in a set.
    """
    k = len(responses)
    weighted = responses if weight is None else responses * weight
    gram = weighted @ responses.T
    overlap = weighted @ change
    total = float(change @ (change if weight is None else change * weight))
    error = floor + _RESPONSE_ERROR**2 * total + _LEAST
    prior = np.zeros(k) if log_prior is None else log_prior

    def weigh(left: Array, members: NDArray[np.int64]) -> Array:
        return np.asarray(
            -0.5 * independent * np.log(left + error) - _PENALTY * members.shape[1] + prior[members].sum(axis=1)
        )

    sets: list[tuple[NDArray[np.int64], Array, Array, Array]] = []  # members, amounts, left, weights of each size
    none = np.zeros((1, 0), dtype=np.int64)
    sets.append((none, np.zeros((1, 0)), np.array([total]), weigh(np.array([total]), none)))
    beam = none
    for _ in range(min(most, k)):
        grown = _extended(beam, k)
        if not len(grown):
            break
        amounts, left = _fitted(gram, overlap, total, grown)
        good = (amounts > 0).all(axis=1) & np.isfinite(left)
        if not good.any():
            break
        members, amounts, left = grown[good], amounts[good], left[good]
        logs = weigh(left, members)
        order = np.argsort(-logs)[:_BEAM]
        sets.append((members, amounts, left, logs))
        beam = members[order]
    return _gathered(sets, gram, total, k, independent, error)


def _extended(beam: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Each set with each further candidate, sorted, without doubles; shape (n, m + 1)."""
    grown = np.concatenate([np.repeat(beam, k, axis=0), np.tile(np.arange(k), len(beam))[:, None]], axis=1)
    new = (grown[:, :-1] != grown[:, -1:]).all(axis=1)
    return np.unique(np.sort(grown[new], axis=1), axis=0)


def _fitted(gram: Array, overlap: Array, total: float, members: NDArray[np.int64]) -> tuple[Array, Array]:
    """Amounts (n, m) by least squares and the square sums left (n,) of many sets at once."""
    inner = gram[members[:, :, None], members[:, None, :]]
    m = members.shape[1]
    inner = inner + np.eye(m) * (1e-9 * np.trace(gram) / len(gram) + _LEAST)
    right = overlap[members]
    amounts = np.linalg.solve(inner, right[..., None])[..., 0]
    left = np.maximum(total - (amounts * right).sum(axis=1), 0.0)
    return amounts, left


def _gathered(
    sets: list[tuple[NDArray[np.int64], Array, Array, Array]],
    gram: Array,
    total: float,
    k: int,
    independent: float,
    error: float,
) -> Unmixed:
    highest = max(float(logs.max()) for *_, logs in sets)
    mass = sum(float(np.exp(logs - highest).sum()) for *_, logs in sets)
    presence, first, second = np.zeros(k), np.zeros(k), np.zeros(k)
    for members, amounts, left, logs in sets:
        if not members.shape[1]:
            continue
        share = np.exp(logs - highest) / mass
        deviation = np.sqrt((left + error) / independent)[:, None] / np.sqrt(np.maximum(gram[members, members], _LEAST))
        log_amount = np.log(np.maximum(amounts, _LEAST))
        spread = deviation / np.maximum(amounts, _LEAST)
        np.add.at(presence, members, share[:, None])
        np.add.at(first, members, share[:, None] * log_amount)
        np.add.at(second, members, share[:, None] * (log_amount**2 + np.minimum(spread, 3.0) ** 2))
    seen = np.maximum(presence, _LEAST)
    mean = np.where(presence > 0, first / seen, np.log(_LEAST))
    variance = np.where(presence > 0, second / seen - mean**2, 0.0)
    best = [
        ExplainingSet(
            tuple(int(i) for i in members[row]),
            tuple(float(c) for c in amounts[row]),
            float(1.0 - left[row] / max(total, _LEAST)),
            float(logs[row] - highest),
        )
        for members, amounts, left, logs in sets
        for row in np.argsort(-logs)[:_BEAM].tolist()
    ]
    best.sort(key=lambda one: -one.log_weight)
    return Unmixed(presence, np.exp(mean), np.sqrt(np.maximum(variance, 0.0)), tuple(best[:_BEAM]))
