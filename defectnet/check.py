"""The check by simulation: if the answer is right, simulating it gives the measured change of the spectrum.

What is compared is the *change*, doped less pristine, each normalised to 3 modes per atom and smoothed alike: the
errors that the pristine host's simulation shares with the doped one's cancel. Concentrations are refined by least
squares with the simulated change that each dopant makes alone, within a factor of the answer's: a fit that is free to
drop an element would let the others explain what a wrong answer leaves over. The refined answer is simulated again.

An answer can be wrong and still explain a good part, so it is also held against its rivals: each of its elements is
exchanged for each rival, both at a free concentration, and whoever explains clearly more is named.

This module knows nothing of the simulator: the caller passes in what it simulated.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import lsq_linear

from defectnet.errors import SimulationError
from defectnet.host import MAX_CONCENTRATION, MIN_CONCENTRATION
from defectnet.prediction import MOST_UNEXPLAINED
from defectnet.spectrum import MODES_PER_ATOM, Spectrum, bin_centres_thz

__all__ = ["LIMIT", "RIVAL_LIMIT", "Check", "Refined", "Rival", "Simulate", "Simulated", "check_answer", "misfit_of"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Simulated:
    """One simulated configuration: doped and pristine density, and the concentrations that its cell has room for."""

    doped: Spectrum
    pristine: Spectrum
    concentrations: Mapping[str, float]


# Concentrations wished for, fractions of all atoms, and how many configurations.
Simulate = Callable[[Mapping[str, float], int], list[Simulated]]

# Bins to the top of the spectrum and the smoothing (sigma, in bins) under which changes are compared: 3 % of the top
# frequency, so that the scatter between random configurations, which is narrow, averages out.
_BINS = 256
_SIGMA_BINS = 8.0
# Configurations of a whole answer: their mean is compared, their difference is the scatter.
_CONFIGURATIONS = 2
_WINDOWS = 16
# How far, as a factor, the fit may leave the answer's concentrations: about the half-width of the model's intervals.
_MOST_FACTOR = 2.5
# Refined concentrations all within this factor of the answer's need no simulation of their own: the change is linear.
_CLOSE_FACTOR = 1.2

# An answer is supported where it leaves at most `MOST_UNEXPLAINED` beyond what two configurations differ by.
# Above the limit an answer is doubted; between, the check can say neither. What an exchange of one element leaves
# unexplained, as a share of what the answer leaves: below the second limit the rival is named. On the calibration hosts
# of `make bench-check` 2.5 % of the right answers exceed the first, and 5 % either; on its other hosts 5 % of the right
# and 91 % of the wrong ones do.
LIMIT = 0.67
RIVAL_LIMIT = 0.79


@dataclass(frozen=True)
class Refined:
    """A dopant's concentration, fraction of all atoms, as answered and as fitted, with the fit's standard error."""

    element: str
    answered: float
    fitted: float
    error: float


@dataclass(frozen=True)
class Rival:
    """An element that explains the change better than one of the answer's.

    Attributes:
        element: the rival.
        replaces: the answer's element that it was exchanged for.
        ratio: what the exchange leaves unexplained, as a share of what the answer leaves.
    """

    element: str
    replaces: str
    ratio: float


@dataclass(frozen=True, eq=False)
class Check:
    """What the simulation of an answer says of it.

    Attributes:
        frequency_thz: shape (n,), THz.
        measured, answered, refined: shape (n,), the change of the density (modes per atom and THz) as measured, as
            simulated for the answer, and as simulated for the refined concentrations.
        concentrations: of each dopant of the answer.
        misfit: share of the measured change that the refined simulation leaves unexplained: 0 explains all of it, 1 or
            more nothing.
        misfit_answered: the same for the concentrations of the answer.
        scatter: the same share between two configurations of one answer: what cannot be told from chance.
        change: half the L1 distance between the doped and the pristine spectrum: the size of the signal.
        worst: up to three windows (low, high in THz, share of the misfit) in which most of the misfit lies.
        rival: whoever explains the change best in place of one of the answer's elements; None where none was tried.
    """

    frequency_thz: Array
    measured: Array
    answered: Array
    refined: Array
    concentrations: tuple[Refined, ...]
    misfit: float
    misfit_answered: float
    scatter: float
    change: float
    worst: tuple[tuple[float, float, float], ...]
    rival: Rival | None = None

    @property
    def agrees(self) -> bool:
        """Whether the simulation supports the answer: little is left beyond chance, and no rival is better."""
        return self.misfit <= MOST_UNEXPLAINED + self.scatter and not self.beaten

    @property
    def doubted(self) -> bool:
        """Whether the simulation contradicts the answer; where it neither does nor agrees, it cannot tell."""
        return self.misfit > LIMIT or self.beaten

    @property
    def beaten(self) -> bool:
        """Whether a rival explains clearly more than one of the answer's elements."""
        return self.rival is not None and self.rival.ratio < RIVAL_LIMIT

    @property
    def sentence(self) -> str:
        """The result in words."""
        explained = f"simulating the answer leaves {self.misfit:.0%} of the spectrum's change unexplained"
        fitted = ", ".join(f"{r.element} {100 * r.fitted:.2f} ± {100 * r.error:.2f} at.%" for r in self.concentrations)
        fitted = f"; fitted to it: {fitted}" if fitted else ""
        if self.agrees:
            return f"check: {explained}: it agrees{fitted}"
        where = ", ".join(f"{low:.1f}–{high:.1f} THz" for low, high, _ in self.worst)
        if not self.doubted:
            return f"check: {explained}: too much to say that it agrees; they differ at {where}{fitted}"
        limit = f"(limit {LIMIT:.0%})"
        better = ""
        if self.beaten and self.rival is not None:
            better = f"; {self.rival.element} in place of {self.rival.replaces} would explain more"
        return f"check: {explained} {limit}: do not rely on the answer{better}; they differ at {where}{fitted}"

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values for JSON, without the curves."""
        return {
            "agrees": self.agrees,
            "doubted": self.doubted,
            "misfit": round(self.misfit, 4),
            "misfit_answered": round(self.misfit_answered, 4),
            "threshold": LIMIT,
            "scatter": round(self.scatter, 4),
            "change": round(self.change, 5),
            "refined": [vars(refined) for refined in self.concentrations],
            "worst_thz": [list(window) for window in self.worst],
            "rival": None if self.rival is None else vars(self.rival),
            "sentence": self.sentence,
        }


def check_answer(
    sample: Spectrum,
    reference: Spectrum,
    concentrations: Mapping[str, float],
    simulate: Simulate,
    rivals: Sequence[str] = (),
    uncertainty: Array | None = None,
) -> Check:
    """Compare a measured change with the simulated change of an answer, and refine its concentrations.

    Args:
        sample, reference: the measured spectrum and its pristine host's.
        concentrations: the answer, fractions of all atoms; empty where nothing was found.
        simulate: called with the whole answer, and with each of its dopants and of the rivals alone.
        rivals: other elements that might be there, such as the next most probable; one that cannot be simulated is
            passed over.
        uncertainty: shape (n,), standard error of each of the sample's densities, NaN where there is none: where it is
            large the fit looks less closely.
    """
    step = 1.05 * max(sample.top_thz(), reference.top_thz()) / _BINS
    measured = _change(sample, reference, step)
    answered = np.zeros_like(measured)
    best, scatter, fitted = answered, 0.0, dict(concentrations)
    errors = dict.fromkeys(concentrations, np.nan)
    rival = None
    if concentrations:
        each = {e: _per_atom(simulate({e: c}, 1)[0], e, step) for e, c in concentrations.items()}
        answered, scatter = _at(simulate(concentrations, _CONFIGURATIONS), concentrations, each, step, measured)
        weights = np.ones_like(measured) if uncertainty is None else _weights(sample, uncertainty, step, measured.size)
        scales, deviations = _fit(measured, [each[e] * c for e, c in concentrations.items()], answered, weights)
        fitted = {
            e: float(np.clip(c * s, MIN_CONCENTRATION / 2, MAX_CONCENTRATION))
            for (e, c), s in zip(concentrations.items(), scales, strict=True)
        }
        errors = {e: c * d for (e, c), d in zip(concentrations.items(), deviations, strict=True)}
        best = answered + sum((fitted[e] - concentrations[e]) * each[e] for e in fitted)
        if max(np.abs(np.log(scales))) > np.log(_CLOSE_FACTOR):
            best, scatter = _at(simulate(fitted, _CONFIGURATIONS), fitted, each, step, measured)
        if misfit_of(measured, best) >= misfit_of(measured, answered):
            best, fitted = answered, dict(concentrations)
        main = max(concentrations.values())
        others: dict[str, Array] = {}
        for element in rivals:
            if element in concentrations:
                continue
            with suppress(SimulationError):
                others[element] = _per_atom(simulate({element: main}, 1)[0], element, step)
        rival = _best_rival(measured, concentrations, each, others)
    return Check(
        frequency_thz=bin_centres_thz(measured.size, step),
        measured=measured,
        answered=answered,
        refined=best,
        concentrations=tuple(Refined(e, c, fitted[e], errors[e]) for e, c in concentrations.items()),
        misfit=misfit_of(measured, best),
        misfit_answered=misfit_of(measured, answered),
        scatter=scatter,
        change=0.5 * float(np.abs(measured).sum()) * step / MODES_PER_ATOM,
        worst=_worst(measured - best, step),
        rival=rival,
    )


def misfit_of(measured: Array, simulated: Array) -> float:
    """Share of a change, both of shape (n,), that another leaves unexplained, by absolute differences."""
    return float(np.abs(measured - simulated).sum() / max(np.abs(measured).sum(), 1e-12))


def _change(doped: Spectrum, pristine: Spectrum, step: float) -> Array:
    n = int(np.ceil(_BINS * 1.6))  # room for local modes above the host's bands
    one, other = (spectrum.normalised().resampled(step, n).dos for spectrum in (doped, pristine))
    return np.asarray(gaussian_filter1d(one - other, _SIGMA_BINS, mode="reflect"))


def _per_atom(simulated: Simulated, element: str, step: float) -> Array:
    """The change that one element makes alone, for each unit of its concentration."""
    return _change(simulated.doped, simulated.pristine, step) / simulated.concentrations[element]


def _at(
    simulated: list[Simulated], wished: Mapping[str, float], each: Mapping[str, Array], step: float, measured: Array
) -> tuple[Array, float]:
    """The mean change at the concentrations wished for; the scatter between configurations as a share of `measured`.

    A cell holds whole atoms; what it has too many or too few of is corrected with the change that each makes alone.
    """
    changes = [
        _change(one.doped, one.pristine, step)
        + sum((wished[e] - one.concentrations.get(e, 0.0)) * each[e] for e in wished)
        for one in simulated
    ]
    scatter = misfit_of(measured, measured + changes[0] - changes[-1])
    return np.asarray(np.mean(changes, axis=0)), scatter


def _weights(sample: Spectrum, uncertainty: Array, step: float, n_bins: int) -> Array:
    """How much each bin of a change counts in a fit, shape (n_bins,), by the measurement's standard errors; mean 1.

    Half of the variance is the measurement's, the other half the simulation's, which is not known and taken to be the
    same everywhere: no bin counts for more than its neighbours by its small error alone.
    """
    known = np.isfinite(uncertainty)
    variance = np.where(known, uncertainty, np.nanmedian(uncertainty)) ** 2
    centres = bin_centres_thz(n_bins, step)
    variance = gaussian_filter1d(np.interp(centres, sample.frequency_thz, variance), _SIGMA_BINS, mode="reflect")
    weights = 1.0 / np.sqrt(variance + variance.mean())
    return np.asarray(weights / weights.mean())


def _fit(measured: Array, alone: list[Array], together: Array, weights: Array) -> tuple[Array, Array]:
    """Factors of the dopants' concentrations and their standard errors, from the changes that each makes alone.

    What the dopants together do beyond the sum of what each does alone is held fixed. `weights`, shape (n,), are those
    of the bins' residuals.
    """
    columns = np.stack(alone, axis=1)  # (n, dopants)
    target = weights * (measured - (together - columns.sum(axis=1)))
    columns = weights[:, None] * columns
    scales = lsq_linear(columns, target, bounds=(1.0 / _MOST_FACTOR, _MOST_FACTOR)).x
    residual = target - columns @ scales
    # Neighbouring bins are not independent after smoothing: 2 √π sigma of them count as one.
    independent = max(measured.size / (2 * np.sqrt(np.pi) * _SIGMA_BINS) - len(alone), 1.0)
    variance = float(residual @ residual) / measured.size * (measured.size / independent)
    covariance = variance * np.linalg.pinv(columns.T @ columns)
    return scales, np.sqrt(np.maximum(np.diag(covariance), 0.0))


def _best_rival(
    measured: Array, answer: Mapping[str, float], each: Mapping[str, Array], others: Mapping[str, Array]
) -> Rival | None:
    """The exchange of one element of the answer that leaves least, beside what that element itself leaves.

    Both are given the same freedom: any concentration for the one that is exchanged, the usual factor for the rest.
    """

    def left(replaced: str, alone: Array) -> float:
        rest = [e for e in answer if e != replaced]
        columns = np.stack([alone, *(each[e] for e in rest)], axis=1)
        low = [MIN_CONCENTRATION / 2, *(answer[e] / _MOST_FACTOR for e in rest)]
        high = [MAX_CONCENTRATION, *(answer[e] * _MOST_FACTOR for e in rest)]
        found = lsq_linear(columns, measured, bounds=(low, high)).x
        return misfit_of(measured, columns @ found)

    own = {replaced: max(left(replaced, each[replaced]), 1e-12) for replaced in answer}
    exchanges = [
        Rival(element, replaced, left(replaced, alone) / own[replaced])
        for element, alone in others.items()
        for replaced in answer
    ]
    return min(exchanges, key=lambda rival: rival.ratio, default=None)


def _worst(residual: Array, step: float) -> tuple[tuple[float, float, float], ...]:
    width = -(-residual.size // _WINDOWS)
    shares = np.array([np.abs(residual[i : i + width]).sum() for i in range(0, residual.size, width)])
    shares /= max(shares.sum(), 1e-12)
    order = np.argsort(-shares)[:3]
    return tuple((i * width * step, (i + 1) * width * step, float(shares[i])) for i in sorted(order.tolist()))
