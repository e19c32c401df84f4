"""What a neutron spectrometer makes of a density of states: cross-sections, resolution, counting noise.

- The generalised density is each element's partial density times σ/m, its scattering cross-section over its mass
  (tabulated bound cross-sections, coherent plus incoherent, by way of `periodictable`), normalised like any other.
- Resolution is a Gaussian whose FWHM depends on the energy transfer: a curve from a file, or a chopper spectrometer's.
- Multiphonon scattering, background and the Debye–Waller factor belong to the reduction software and are not here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf

from defectnet.errors import CompositionError
from defectnet.spectrum import FWHM_PER_SIGMA, Spectrum
from defectnet.units import FrequencyUnit, thz_per

__all__ = [
    "ARCS",
    "ChopperSpectrometer",
    "Resolution",
    "as_measured",
    "counted",
    "neutron_weight",
    "neutron_weighted",
    "resolved",
]

Array = NDArray[np.float64]
# FWHM in THz of each frequency in THz, both of shape (n,).
Resolution = Callable[[Array], Array]

# A neutron's energy in meV from its speed in m/s: m v² / 2 (CODATA 2018 mass and elementary charge).
_MEV_PER_SPEED_SQUARED = 1.67492749804e-27 / 2.0 / 1.602176634e-22


def neutron_weight(element: str) -> float:
    """Bound scattering cross-section (coherent plus incoherent) over mass, barn/u.

    Raises:
        CompositionError: no cross-section of the element is known.
    """
    import periodictable

    entry = periodictable.elements.symbol(element)
    if entry.neutron is None or entry.neutron.total is None:
        raise CompositionError(
            f"no scattering cross-section of {element} is tabulated",
            fix="treat the density as vibrational",
            field="kind",
        )
    return float(entry.neutron.total) / float(entry.mass)


def neutron_weighted(partial: Mapping[str, ArrayLike], frequency_thz: ArrayLike) -> Spectrum:
    """The generalised density of states, 3 modes per atom.

    Args:
        partial: element → shape (n,), its part of the density of states, in modes per atom of the crystal and THz.
        frequency_thz: shape (n,), THz.

    Raises:
        CompositionError: no element, or one without a tabulated cross-section.
    """
    if not partial:
        raise CompositionError(
            "the elements' parts of the density are not known", fix="give a file that holds them", field="kind"
        )
    weighted = np.sum([neutron_weight(e) * np.asarray(d, dtype=float) for e, d in partial.items()], axis=0)
    return Spectrum(np.asarray(frequency_thz, dtype=float), weighted).normalised()


@dataclass(frozen=True)
class ChopperSpectrometer:
    """A direct-geometry time-of-flight spectrometer.

    The two largest contributions to its resolution, the chopper's burst and the moderator's pulse, as flight times
    propagate them (C. G. Windsor, Pulsed Neutron Scattering, 1981; D. L. Abernathy et al., Rev. Sci. Instrum. 83,
    015114, 2012, for ARCS). Sample size and detector depth are left out.

    Attributes:
        moderator_chopper_m, chopper_sample_m, sample_detector_m: flight paths, m.
        chopper_fwhm_us, moderator_fwhm_us: FWHM of burst and pulse, µs.
        incident_mev: incident energy, meV.
    """

    moderator_chopper_m: float
    chopper_sample_m: float
    sample_detector_m: float
    chopper_fwhm_us: float
    moderator_fwhm_us: float
    incident_mev: float

    def fwhm_mev(self, transfer_mev: ArrayLike) -> Array:
        """FWHM in meV at energy transfers in meV, shape (n,); beyond the incident energy, that at the end."""
        transfer = np.clip(np.asarray(transfer_mev, dtype=float), 0.0, 0.98 * self.incident_mev)
        speed = np.sqrt(self.incident_mev / _MEV_PER_SPEED_SQUARED)
        at_chopper_us = self.moderator_chopper_m / speed * 1e6
        after = (1.0 - transfer / self.incident_mev) ** 1.5 / self.sample_detector_m
        to_sample = self.moderator_chopper_m + self.chopper_sample_m
        burst = self.chopper_fwhm_us / at_chopper_us * (1.0 + to_sample * after)
        pulse = self.moderator_fwhm_us / at_chopper_us * (1.0 + self.chopper_sample_m * after)
        return np.asarray(2.0 * self.incident_mev * np.hypot(burst, pulse))

    def __call__(self, frequency_thz: Array) -> Array:
        """FWHM in THz at each frequency in THz."""
        factor = thz_per(FrequencyUnit.MEV)
        return self.fwhm_mev(frequency_thz / factor) * factor


# ARCS at the SNS with incident neutrons of 100 meV: flight paths as in the instrument's description for PyChop
# (Mantid); a slit package of 1.5 mm in a chopper of 50 mm radius at 480 Hz opens for 5 µs; the decoupled water
# moderator's pulse is about 10 µs long at this energy.
ARCS = ChopperSpectrometer(11.61, 2.0, 3.0, 5.0, 10.0, 100.0)


def resolved(spectrum: Spectrum, resolution: Resolution) -> Spectrum:
    """The spectrum as an instrument of this resolution sees it; no mode is lost at 0 THz or at the end.

    Every point's modes are spread over a Gaussian of its own width; the axis is kept.
    """
    f = spectrum.frequency_thz
    inner = 0.5 * (f[1:] + f[:-1])
    edges = np.concatenate([[f[0] - (inner[0] - f[0])], inner, [f[-1] + (f[-1] - inner[-1])]])
    sigma = np.maximum(resolution(f), 1e-9) / FWHM_PER_SIGMA
    below = 0.5 * (1.0 + erf((edges[None, :] - f[:, None]) / (np.sqrt(2.0) * sigma[:, None])))
    spread = np.diff(below, axis=1)  # (from, to)
    spread /= np.maximum(spread.sum(axis=1, keepdims=True), 1e-12)
    cells = np.diff(edges)
    return Spectrum(f, (spectrum.dos * cells) @ spread / cells)


def as_measured(
    spectrum: Spectrum, partial: Mapping[str, ArrayLike], kind: str, resolution: Resolution | None = None
) -> Spectrum:
    """A computed density as the sample's measurement would show it: its weights and its resolution.

    Args:
        spectrum: the vibrational density.
        partial: element → shape (n,), its part of the density on the same axis.
        kind: "neutron" weighs the elements' parts by their cross-sections, "vibrational" does not.
        resolution: the spectrometer's; None leaves the density as it is.

    Raises:
        CompositionError: a neutron density is asked for, and an element has no tabulated cross-section.
    """
    if kind == "neutron":
        spectrum = neutron_weighted(partial, spectrum.frequency_thz)
    return spectrum if resolution is None else resolved(spectrum, resolution)


def counted(spectrum: Spectrum, relative_error: float, rng: np.random.Generator) -> tuple[Spectrum, Array]:
    """The spectrum with Poisson noise.

    Args:
        relative_error: standard error of a point of mean density (over the points with density) as a share of it.

    Returns:
        the noisy spectrum, and the standard error of each density, shape (n,), NaN where nothing was counted.
    """
    dos = np.maximum(spectrum.dos, 0.0)
    mean = float(dos[dos > 1e-3 * dos.max()].mean())
    counts_per_density = 1.0 / (mean * relative_error**2)
    counts = rng.poisson(dos * counts_per_density)
    error = np.where(counts > 0, np.sqrt(counts), np.nan) / counts_per_density
    return Spectrum(spectrum.frequency_thz, counts / counts_per_density), error
