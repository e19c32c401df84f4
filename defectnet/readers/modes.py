"""From modes on a mesh of q-points to a density of states, binned and smoothed as the training spectra are."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from defectnet.binning import BINS_TO_TOP, IMAGINARY_THZ, SIGMA_BINS
from defectnet.errors import SpectrumError
from defectnet.readers.reading import AxisUnit, Broadening, Reading
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["density_of_modes"]

Array = NDArray[np.float64]

# Fewer modes than this leave gaps between the bins' widths: a mesh far too coarse, or single q-points.
_MIN_MODES = 1000
# Share of imaginary modes from which the crystal is not the one that was measured.
_MAX_IMAGINARY = 0.05


def density_of_modes(
    frequency_thz: Array,
    weight: Array,
    shares: Mapping[str, Array] | None,
    where: str,
    what: str,
    *,
    unit: AxisUnit,
    n_points: int | None = None,
) -> Reading:
    """Bin modes into a density of states of 3 modes per atom.

    Args:
        frequency_thz: shape (n_q, n_modes), THz; imaginary modes are negative.
        weight: shape (n_q,), how many q-points of the full mesh each stands for.
        shares: element → shape (n_q, n_modes), its share of each mode, all summing to 1; None where not known.
        where: the file's name.
        what: the format, for people.
        unit: the axis's unit as it was in the file.
        n_points: how many q-points the full mesh has; by default as many as the least weight is contained in the sum.

    Raises:
        SpectrumError: too few modes for a density, or too many imaginary ones.
    """
    if not (np.isfinite(frequency_thz).all() and np.isfinite(weight).all() and weight.sum() > 0):
        raise SpectrumError(f"{where} holds modes without a frequency or weight", fix="write it again", field="file")
    # A mesh reduced by symmetry counts in full.
    n_modes = frequency_thz.shape[1] * (n_points or weight.sum() / weight[weight > 0].min())
    if n_modes < _MIN_MODES:
        raise SpectrumError(
            f"{where} holds {n_modes:.0f} modes, too few for a density", fix="give a denser mesh", field="file"
        )
    weight = weight / weight.sum() / frequency_thz.shape[1] * MODES_PER_ATOM
    modes = np.broadcast_to(weight[:, None], frequency_thz.shape)
    imaginary = float(modes[frequency_thz < IMAGINARY_THZ].sum()) / MODES_PER_ATOM
    if imaginary > _MAX_IMAGINARY:
        raise SpectrumError(
            f"{imaginary:.0%} of the modes in {where} are imaginary", fix="give a stable crystal", field="file"
        )
    step = float(frequency_thz.max()) / BINS_TO_TOP
    if not step > 0:
        raise SpectrumError(f"{where} has no mode above 0 THz", fix="check the calculation", field="file")
    index = (np.maximum(frequency_thz, 0.0) / step).astype(int)
    n_bins = BINS_TO_TOP + int(np.ceil(6 * SIGMA_BINS))
    real = frequency_thz >= IMAGINARY_THZ

    def binned(share: Array) -> Array:
        counts = np.bincount(index[real], weights=(modes * share)[real], minlength=n_bins) / step
        return np.asarray(gaussian_filter1d(counts, SIGMA_BINS, mode="reflect", truncate=5.0))

    spectrum = Spectrum.from_bins(binned(np.ones_like(frequency_thz)), step)
    partial = {} if shares is None else {element: binned(share) for element, share in sorted(shares.items())}
    return Reading(
        spectrum,
        partial=partial,
        kind="vibrational",
        format=what,
        unit=unit,
        broadening=Broadening("Gaussian of the modes' bins", SIGMA_BINS * step),
        origin="computed",
        notes=unit.notes,
    )
