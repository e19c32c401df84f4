"""What was fitted after training, on hosts that were not trained on, so that probabilities and intervals are true."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from defectnet.settings import Settings

__all__ = [
    "FOUND",
    "MOST_TOGETHER",
    "ComparisonCalibration",
    "LogitMap",
    "any_of",
    "any_of_each",
    "interval",
    "logit_of",
    "of_logit",
    "strangeness",
]

Floats = NDArray[np.float64]

# An element is found where its calibrated probability is at least this.
FOUND = 0.5
_LOGIT_LIMIT = 13.8
_STRANGENESS_POWER = 4.0
# Most that the dopants of a training sample hold together, fraction of all atoms; no amount is answered beyond it.
MOST_TOGETHER = 0.4
# A Gaussian's own 90 %.
_GAUSSIAN_FACTOR = 1.645


def of_logit(mapped: Floats) -> Floats:
    """Probabilities of calibrated logits, in their shape; none is quite 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.minimum(np.maximum(mapped, -_LOGIT_LIMIT), _LOGIT_LIMIT))))


def logit_of(probability: Floats) -> Floats:
    """Logits of probabilities, in their shape, held as `of_logit` holds them."""
    with np.errstate(divide="ignore"):
        found = np.log(probability) - np.log1p(-probability)
    return np.asarray(np.clip(found, -_LOGIT_LIMIT, _LOGIT_LIMIT))


class LogitMap(Settings):
    """p = sigmoid(slope · logit + offset)."""

    slope: float = 1.0
    offset: float = 0.0

    def probability(self, logit: Floats) -> Floats:
        """Calibrated probabilities, in the shape of `logit`."""
        return of_logit(self.slope * logit + self.offset)


class ComparisonCalibration(Settings):
    """Calibration of the network that compares.

    Attributes:
        with_candidates, guess_free: maps of the logits, by class of the response's source, with a list and without.
        log_shifts: what is added to the log concentration, by class of the response's source: one whose curves are not
            quite the sample's leads to amounts that are too small in the median.
        interval_factors: multiples of the spread that cover 90 %, by class of the response's source.
        unexplained: share of a change that all candidates together leave, which 1 % of the calibration rows exceed.
    """

    with_candidates: dict[str, LogitMap] = Field(default_factory=dict)
    guess_free: dict[str, LogitMap] = Field(default_factory=dict)
    log_shifts: dict[str, float] = Field(default_factory=dict)
    interval_factors: dict[str, float] = Field(default_factory=dict)
    unexplained: float = Field(default=1.0, gt=0.0)

    def map_of(self, source: str, *, candidates: bool) -> LogitMap:
        """The map of a response's class of source."""
        maps: Mapping[str, LogitMap] = self.with_candidates if candidates else self.guess_free
        return maps.get(source, LogitMap())

    def shift_of(self, source: str) -> float:
        """What is added to the log concentration by a response's class of source."""
        return self.log_shifts.get(source, 0.0)

    def factor_of(self, source: str) -> float:
        """The interval factor of a response's class of source."""
        return self.interval_factors.get(source, _GAUSSIAN_FACTOR)


def any_of(logits: Floats) -> float:
    """The logit that at least one of several sites holds the element, from the sites' logits, shape (n,), n > 0."""
    return float(any_of_each(logits, np.zeros(1, dtype=np.int64))[0])


def any_of_each(logits: Floats, starts: NDArray[np.int64]) -> Floats:
    """`any_of` of each of several elements whose sites lie side by side; `starts`: where each one's begin."""
    absent = np.add.reduceat(-np.logaddexp(0.0, logits), starts)  # log of the probability that none does
    return np.asarray(np.log(-np.expm1(np.minimum(absent, -1e-12))) - absent)


def interval(log_mean: Floats, log_spread: Floats, factor: Floats | float) -> tuple[Floats, Floats, Floats]:
    """A concentration and the ends of its interval, fractions of all atoms, each in the shape of `log_mean`.

    Args:
        log_mean: natural log of the concentration, held below `MOST_TOGETHER`.
        log_spread: natural log of the standard deviation of `log_mean`.
        factor: multiple of it that covers 90 %.
    """
    log_mean = np.minimum(log_mean, np.log(MOST_TOGETHER))
    margin = np.exp(log_spread) * factor
    low, high = np.exp(log_mean - margin), np.exp(log_mean + margin)
    return np.exp(log_mean), low, np.minimum(high, 1.0)


def strangeness(unexplained: float, calibration: ComparisonCalibration) -> float:
    """0 for a change that the candidates explain, 0.5 where 1 % of unseen hosts' rows are stranger, 1 unlike any."""
    ratio = min(unexplained / calibration.unexplained, 100.0)
    return float(1.0 - np.exp2(-(ratio**_STRANGENESS_POWER)))
