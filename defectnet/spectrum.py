"""A phonon density of states on a frequency axis.

Conventions that hold everywhere in DefectNet:

- frequencies are in THz and increase; a dynamical instability (an imaginary mode) is a negative frequency;
- a density is per THz; a *normalised* density of states integrates to 3, the modes of one atom;
- a width is always named: `fwhm_thz` or `sigma_thz`, never just "width" (FWHM = 2.3548 sigma for a Gaussian).
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from defectnet.errors import SpectrumError
from defectnet.units import FrequencyUnit, thz_per

__all__ = ["FWHM_PER_SIGMA", "HIGHEST_THZ", "LOWEST_TOP_THZ", "MODES_PER_ATOM", "Spectrum", "bin_centres_thz"]

MODES_PER_ATOM = 3.0
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))

# A measured density may dip below zero by noise after background subtraction; more than this share of its largest value
# is a mistake in the data (a difference spectrum, a wrong column), not noise.
_NEGATIVE_TOLERANCE = 0.05
_MIN_POINTS = 8
# The fastest phonon known is the H2 stretch at 125 THz; an axis far beyond it is in another unit than was said.
HIGHEST_THZ = 200.0
# The softest crystals (solid xenon, caesium) reach above 1 THz; an axis that ends below this is in another unit.
LOWEST_TOP_THZ = 0.5
# More imaginary modes than this no crystal has: the axis has energy gain and loss the wrong way round.
_MAX_NEGATIVE_SHARE = 0.5


def bin_centres_thz(n_bins: int, step_thz: float) -> NDArray[np.float64]:
    """Centres of `n_bins` bins of width `step_thz` that start at 0 THz, shape (n_bins,)."""
    return np.asarray((np.arange(n_bins) + 0.5) * step_thz, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A density of states, checked when it is made.

    Attributes:
        frequency_thz: shape (n,), strictly increasing, THz.
        dos: shape (n,), density per THz, not negative beyond noise; its scale is arbitrary until `normalised`.

    Raises:
        SpectrumError: empty or too short, unequal lengths, a value that is not finite, a frequency axis that does not
            increase or does not end at a plausible frequency, a negative density, a density that is zero throughout or
            lies mostly at negative frequencies.
    """

    frequency_thz: NDArray[np.float64]
    dos: NDArray[np.float64]

    def __post_init__(self) -> None:
        self._keep(_as_floats(self.frequency_thz, "frequency"), _as_floats(self.dos, "dos"))

    def _keep(self, frequency: NDArray[np.float64], dos: NDArray[np.float64]) -> None:
        """Check two arrays of finite numbers that nobody else holds, and keep them."""
        if frequency.size != dos.size:
            raise SpectrumError(
                f"{dos.size} densities for {frequency.size} frequencies", fix="give one density per point", field="dos"
            )
        if frequency.size < _MIN_POINTS:
            raise SpectrumError(
                f"{frequency.size} points are too few for a spectrum", fix=f"give at least {_MIN_POINTS}", field="dos"
            )
        if not (frequency[1:] > frequency[:-1]).all():
            where = int(np.argmax(np.diff(frequency) <= 0)) + 1
            raise SpectrumError(
                f"not increasing at point {where}", fix="sort the points and remove doubles", field="frequency"
            )
        if frequency[-1] <= 0 or frequency[-1] > HIGHEST_THZ:
            raise SpectrumError(
                f"the axis ends at {frequency[-1]:.4g} THz",
                fix=f"give phonon frequencies between 0 and {HIGHEST_THZ:.0f} THz and check the unit",
                field="frequency",
            )
        top = float(dos.max())
        if top <= 0:
            raise SpectrumError("no density above zero", fix="check that the right column was read", field="dos")
        if dos.min() < -_NEGATIVE_TOLERANCE * top:
            where = int(dos.argmin())
            raise SpectrumError(
                f"negative density {dos[where]:.3g} at point {where} ({frequency[where]:.4g} THz)",
                fix="give a density of states, not a difference, and subtract less background",
                field="dos",
            )
        if frequency[0] < 0:
            _check_side(frequency, dos)
        for name, array in (("frequency_thz", frequency), ("dos", dos)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_unit(cls, frequency: ArrayLike, dos: ArrayLike, unit: FrequencyUnit | str) -> "Spectrum":
        """Make a spectrum from an axis in `unit` (THz, meV or cm-1) and a density per that unit."""
        factor = thz_per(unit)
        axis, density = _as_floats(frequency, "frequency"), _as_floats(dos, "dos")
        # What is in THz is as finite as it was.
        return cls._of(axis, density) if factor == 1.0 else cls(axis * factor, density / factor)

    @classmethod
    def _of(cls, frequency: NDArray[np.float64], dos: NDArray[np.float64]) -> "Spectrum":
        """A spectrum of two arrays of finite numbers, without a copy: a service makes two for each question."""
        made = object.__new__(cls)
        made._keep(frequency, dos)
        return made

    @classmethod
    def from_bins(cls, dos: ArrayLike, step_thz: float) -> "Spectrum":
        """Make a spectrum from bins of width `step_thz` that start at 0 THz, as the spectra table stores them."""
        density = _as_floats(dos, "dos")
        if not (np.isfinite(step_thz) and step_thz > 0):
            raise SpectrumError(
                f"{step_thz!r} is no bin width", fix="give a positive number", field="frequency_step_thz"
            )
        centres = bin_centres_thz(density.size, step_thz)
        return cls._of(centres, density) if centres.size and np.isfinite(centres[-1]) else cls(centres, density)

    def in_unit(self, unit: FrequencyUnit | str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The axis in `unit` and the density per that unit."""
        factor = thz_per(unit)
        return self.frequency_thz / factor, self.dos * factor

    @property
    def modes(self) -> float:
        """Integral of the density over positive frequencies: 3 when normalised to modes per atom."""
        return float(self.cumulative(np.array([0.0, np.inf]))[1])

    def cumulative(self, edges_thz: ArrayLike) -> NDArray[np.float64]:
        """Modes below each edge, counted from 0 THz; each point's density holds over its own cell (midpoint rule).

        Args:
            edges_thz: shape (m,), THz, not decreasing.

        Returns:
            shape (m,): the integral of the density from 0 to each edge; edges below 0 give 0.
        """
        return _cumulated(self._borders_thz(), self.dos, edges_thz)

    def _borders_thz(self) -> NDArray[np.float64]:
        """Where the points' cells begin and end, shape (n + 1,): half-way between them."""
        f = self.frequency_thz
        inner = 0.5 * (f[1:] + f[:-1])
        return np.concatenate([[f[0] - (inner[0] - f[0])], inner, [f[-1] + (f[-1] - inner[-1])]])

    def normalised(self) -> "Spectrum":
        """The same spectrum with negative densities set to zero and 3 modes above 0 THz."""
        clipped = Spectrum(self.frequency_thz, np.maximum(self.dos, 0.0))
        modes = clipped.modes
        if modes <= 0:
            raise SpectrumError("no density above 0 THz", fix="check the axis and its unit", field="dos")
        return Spectrum(self.frequency_thz, clipped.dos * (MODES_PER_ATOM / modes))

    def resampled(self, step_thz: float, n_bins: int | None = None) -> "Spectrum":
        """Re-bin onto bins of `step_thz` from 0 THz, keeping the number of modes in each stretch of the axis.

        `n_bins` defaults to what reaches the end of the axis. Density beyond the last bin is lost.
        """
        if n_bins is None:
            end_thz = 1.5 * self.frequency_thz[-1] - 0.5 * self.frequency_thz[-2]  # of the last point's cell
            n_bins = max(int(np.ceil(end_thz / step_thz - 1e-9)), _MIN_POINTS)
        counts = np.diff(self.cumulative(np.arange(n_bins + 1) * step_thz))
        return Spectrum.from_bins(counts / step_thz, step_thz)

    def resampled_error(self, error: NDArray[np.float64], step_thz: float, n_bins: int) -> NDArray[np.float64]:
        """Standard errors of the densities that `resampled` gives.

        Points are independent of each other. The variance of one is spread evenly over its cell, so that what a stretch
        of whole cells holds is as uncertain as it was, however fine or coarse the bins are.

        Args:
            error: shape (n,), standard error of each of `dos`; NaN where there is none.

        Returns:
            shape (n_bins,), per THz; NaN where no point has one.
        """
        borders = self._borders_thz()
        edges = np.arange(n_bins + 1) * step_thz
        # Of the number of modes in a cell, for each THz of it.
        variance = np.nan_to_num(error) ** 2 * np.diff(borders)
        found = np.sqrt(np.diff(_cumulated(borders, variance, edges)).clip(0.0)) / step_thz
        return np.where(found > 0, found, np.nan)

    def broadened(self, *, fwhm_thz: float | None = None, sigma_thz: float | None = None) -> "Spectrum":
        """Convolve with a Gaussian given by exactly one of FWHM or sigma; the axis must be evenly spaced.

        Density that would leak below the first point is reflected, so that no mode is lost at 0 THz.
        """
        if (fwhm_thz is None) == (sigma_thz is None):
            raise TypeError("give exactly one of fwhm_thz and sigma_thz")
        sigma = sigma_thz if sigma_thz is not None else float(fwhm_thz or 0.0) / FWHM_PER_SIGMA
        if not (np.isfinite(sigma) and sigma >= 0):
            raise SpectrumError(f"{sigma!r} THz is no width", fix="give a width of zero or more", field="sigma_thz")
        steps = np.diff(self.frequency_thz)
        if not np.allclose(steps, steps[0], rtol=1e-3):
            raise SpectrumError("the axis is not evenly spaced", fix="resample it first", field="frequency")
        if sigma < 0.1 * steps[0]:
            return self  # five sigma reach no neighbour, and the kernel of a vanishing width is not a number
        smooth = gaussian_filter1d(self.dos, sigma / steps[0], mode="reflect", truncate=5.0)
        return Spectrum(self.frequency_thz, smooth)

    def _repr_html_(self) -> str:
        # By name: how a spectrum is drawn stands above what it is, and a plain import would close a circle.
        shown: str = import_module("defectnet.pages.jupyter").spectrum_html(self)
        return shown

    def top_thz(self, tolerance: float = 1e-3) -> float:
        """The frequency below which all modes but the share `tolerance` lie."""
        total = np.cumsum(np.maximum(self.dos, 0.0))
        return float(self.frequency_thz[int(np.searchsorted(total, (1.0 - tolerance) * total[-1]))])


def _cumulated(borders: NDArray[np.float64], density: NDArray[np.float64], edges: ArrayLike) -> NDArray[np.float64]:
    """Integral from 0 to each edge of a density, shape (n,), that is even in each cell between `borders`, (n + 1,)."""
    total = np.concatenate([[0.0], np.cumsum(density * np.diff(borders))])
    at = np.interp(np.maximum(np.asarray(edges, dtype=float), 0.0), borders, total)
    return np.asarray(at - np.interp(0.0, borders, total))


def _check_side(frequency: NDArray[np.float64], dos: NDArray[np.float64]) -> None:
    weight = np.maximum(dos, 0.0) * np.gradient(frequency)
    share = float(weight[frequency < 0].sum() / weight.sum())
    if share > _MAX_NEGATIVE_SHARE:
        raise SpectrumError(
            f"{share:.0%} of the density is at negative frequencies",
            fix="give the side of energy loss, with positive energies (or turn the sign of the axis)",
            field="frequency",
        )


def _as_floats(values: Any, field: str) -> NDArray[np.float64]:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise SpectrumError("not a list of numbers", fix="give plain numbers", field=field) from None
    if array.ndim != 1:
        raise SpectrumError(f"has {array.ndim} dimensions", fix="give one flat list", field=field)
    bad = ~np.isfinite(array)
    if bad.any():
        raise SpectrumError(
            f"value {array[bad][0]} at point {int(np.argmax(bad))}", fix="remove or repair it", field=field
        )
    return array
