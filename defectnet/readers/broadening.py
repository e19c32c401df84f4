"""Whether one spectrum is the other, broadened: what unequal smoothing or resolution does is read as doping."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from defectnet.spectrum import FWHM_PER_SIGMA, Spectrum, bin_centres_thz

__all__ = ["Unequal", "unequal_broadening", "widened"]

Array = NDArray[np.float64]

_BINS = 512
# Bins reach so far, in shares of the top frequency.
_REACH = 1.15
# Widths that are tried, in shares of the top frequency.
_SIGMAS = np.concatenate([[0.0], np.geomspace(0.002, 0.08, 24)])
# Points of an axis that is broadened: so many within a sigma, and no more than so many in all.
_STEPS_PER_SIGMA, _MOST_POINTS = 10, 20_000


@dataclass(frozen=True)
class Unequal:
    """The broadening that explains the difference between two spectra best.

    Attributes:
        sharper: "sample" or "reference": which of them, broadened, comes nearest to the other.
        fwhm_thz: by how much.
        explained: share of the difference (L1) that goes away with it.
        difference: half the L1 distance of the two, in shares of all modes.
    """

    sharper: str
    fwhm_thz: float
    explained: float
    difference: float


def unequal_broadening(sample: Spectrum, reference: Spectrum) -> Unequal:
    """Broaden each of two spectra by Gaussians until it comes nearest to the other, and keep the better of the two."""
    top = max(sample.top_thz(), reference.top_thz())
    step = top / _BINS
    a, b = (_on_bins(s.normalised(), step, int(_REACH * _BINS)) for s in (sample, reference))
    at_zero = float(np.abs(a - b).sum())
    best = Unequal("reference", 0.0, 0.0, 0.5 * at_zero * step / 3.0)
    if at_zero == 0:
        return best
    for sharper, one, other in (("reference", b, a), ("sample", a, b)):
        for share in _SIGMAS[1:]:
            left = float(np.abs(gaussian_filter1d(one, share * _BINS, mode="reflect", truncate=5.0) - other).sum())
            explained = 1.0 - left / at_zero
            if explained > best.explained:
                best = Unequal(sharper, FWHM_PER_SIGMA * share * top, explained, best.difference)
    return best


def _on_bins(spectrum: Spectrum, step_thz: float, n_bins: int) -> Array:
    """The density in bins from 0 THz, shape (n_bins,).

    Between the points of a coarse axis it is interpolated: in steps, it would look sharper than any broadened curve.
    """
    if np.median(np.diff(spectrum.frequency_thz)) <= step_thz:
        return spectrum.resampled(step_thz, n_bins).dos
    centres = bin_centres_thz(n_bins, step_thz)
    return np.asarray(np.interp(centres, spectrum.frequency_thz, np.maximum(spectrum.dos, 0.0), right=0.0))


def widened(spectrum: Spectrum, sigma_thz: float) -> Spectrum:
    """The spectrum broadened by a Gaussian, on an even axis that is fine beside the Gaussian's width.

    On an axis as coarse as phonopy's own 0.1 THz a Gaussian of 0.3 THz is not the one that phonopy adds up from modes.
    """
    steps = np.diff(spectrum.frequency_thz)
    step = float(steps[0])
    if not np.allclose(steps, step, rtol=1e-3) or step > sigma_thz / _STEPS_PER_SIGMA:
        span = float(spectrum.frequency_thz[-1])
        step = max(min(float(np.median(steps)), sigma_thz / _STEPS_PER_SIGMA), span / _MOST_POINTS)
        n_bins = int(np.ceil((span + 4.0 * sigma_thz) / step))
        spectrum = spectrum.resampled(step, n_bins)
    return spectrum.broadened(sigma_thz=sigma_thz)
