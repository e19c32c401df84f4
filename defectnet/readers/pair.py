"""Whether a sample's spectrum and its pristine reference can be compared: what both files say of themselves counts.

A difference of weighting, of smoothing or of resolution is read as doping. A known one is made good (a density with its
parts is weighted, the sharper spectrum is broadened) and said; one that cannot be made good is refused; one that shows
in the spectra alone is warned of.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError
from defectnet.neutron import Resolution, neutron_weighted, resolved
from defectnet.readers.broadening import unequal_broadening, widened
from defectnet.readers.reading import Broadening, Reading
from defectnet.spectrum import FWHM_PER_SIGMA

__all__ = ["Pair", "compatible"]

Array = NDArray[np.float64]

# Widths that differ by less than this share of the top frequency change less than the width of a bin does.
_SAME_WIDTH = 1e-3
# A Gaussian alone explains 12 % of the difference that doping makes (median of 752 samples of the released dataset;
# 47 % at most in 98 % of them, 64 % in any), and 52 to 99 % of the difference between two broadenings of one crystal.
_EXPLAINED = 0.48
# A fifth of the atoms exchanged moves the middle of a spectrum by less; a wrong unit by a factor of four.
_FAR_APART = 1.5
# Below this share of moved modes nothing is read from a difference.
_DIFFERENCE = 0.004


@dataclass(frozen=True, eq=False)
class Pair:
    """A sample and its reference, made comparable.

    Attributes:
        sample, reference: the readings, broadened or weighted where that was needed; no reference is None.
        kind: of both: "vibrational" or "neutron".
        notes: what was done, and what the user should doubt.
    """

    sample: Reading
    reference: Reading | None
    kind: str
    notes: tuple[str, ...]


def compatible(
    sample: Reading,
    reference: Reading | None,
    *,
    kind: str | None = None,
    n_elements: int = 2,
    resolution: Resolution | None = None,
    resolution_used: bool = False,
    names: tuple[str, str] = ("the sample", "the reference"),
) -> Pair:
    """Make a sample and its reference comparable, or refuse.

    Args:
        sample: as read from its file.
        reference: the pristine host's, from a file or computed; None where there is none.
        kind: the caller's; by default what the sample's file says, else "vibrational".
        n_elements: how many elements the host has; one alone is weighted by its cross-section as a whole.
        resolution: the caller's, to be applied to a reference that was computed.
        resolution_used: whether the resolution has another use than the reference (a check by simulation).
        names: of the two, for messages.

    Raises:
        InputError: they are weighted in different ways, or a resolution that has nothing to be applied to.
    """
    notes: list[str] = []
    chosen = _kind(sample, kind, names, notes)
    if reference is None:
        if resolution is not None and not resolution_used:
            raise InputError("has nothing to be applied to", fix="give a computed reference too", field="resolution")
        return Pair(sample, None, chosen, tuple(notes))
    reference = _weighted(sample, reference, chosen, kind, n_elements, names, notes)
    if resolution is not None and _takes_resolution(reference, resolution_used, names[1]):
        reference = replace(reference, spectrum=resolved(reference.spectrum, resolution), broadening=None)
        notes.append(f"the resolution was applied to {names[1]}")
    else:
        sample, reference = _matched(sample, reference, names, notes)
    notes += _apart(sample, reference, names) or _unequal(sample, reference, names)
    return Pair(sample, reference, chosen, tuple(notes))


def _kind(sample: Reading, given: str | None, names: tuple[str, str], notes: list[str]) -> str:
    if given is not None and sample.kind is not None and given != sample.kind:
        what = "is weighted by neutron cross-sections" if sample.kind == "neutron" else "is not weighted"
        notes.append(f"{names[0]} says that it {what}, but was read as {given}")
    return given or sample.kind or "vibrational"


def _weighted(
    sample: Reading,
    reference: Reading,
    kind: str,
    given: str | None,
    n_elements: int,
    names: tuple[str, str],
    notes: list[str],
) -> Reading:
    """The reference weighted as the sample is."""
    if reference.kind == kind or n_elements == 1:
        return reference
    words = f" ({reference.weighting})" if reference.weighting else ""
    if reference.kind is None:
        if kind == "neutron" and given is None:
            notes.append(f"{names[1]} does not say how it is weighted; it was taken to be weighted as {names[0]} is")
        return reference
    if kind == "neutron":
        if reference.partial:
            notes.append(f"{names[1]} was weighted by neutron cross-sections, as {names[0]} is")
            weighted = neutron_weighted(reference.partial, reference.spectrum.frequency_thz)
            return replace(reference, spectrum=weighted, kind="neutron", error=None)
        raise InputError(
            f"{names[1]} is not weighted by neutron cross-sections, and {names[0]} is",
            fix="give one that holds the elements' parts (phonopy.yaml), or one that is weighted",
            field="reference",
        )
    silent = given is None and sample.kind is None
    raise InputError(
        f"{names[1]} is weighted by neutron cross-sections{words}, and {names[0]} "
        + ("does not say that it is" if silent else "is not"),
        fix="give --kind neutron if it is, or a reference that is not weighted" if silent else "give one that is not",
        field="reference",
    )


def _takes_resolution(reference: Reading, used: bool, name: str) -> bool:
    if reference.origin == "measured" and not used:
        raise InputError(
            f"does nothing to {name}, which was measured",
            fix="leave it out, or give a computed one",
            field="resolution",
        )
    return reference.origin == "computed" or (reference.origin is None and not used)


def _matched(sample: Reading, reference: Reading, names: tuple[str, str], notes: list[str]) -> tuple[Reading, Reading]:
    """The sharper of two spectra broadened to the other's width, where both files say theirs."""
    widths = [None if reading.broadening is None else reading.broadening.sigma_thz for reading in (sample, reference)]
    if widths[0] is None or widths[1] is None:
        return sample, reference
    extra = float(np.sqrt(abs(widths[0] ** 2 - widths[1] ** 2)))
    if extra <= _SAME_WIDTH * reference.spectrum.top_thz():
        return sample, reference
    wide = max(widths[0], widths[1])
    which = 0 if widths[0] < widths[1] else 1
    fwhm = FWHM_PER_SIGMA * wide
    notes.append(
        f"{names[which]} is sharper than {names[1 - which]} and was broadened to its FWHM of {fwhm:.3g} THz; what is "
        "left of unequal smoothing is read as doping: take an equally made reference if you can"
    )
    if which == 0:
        return _broadened(sample, extra, wide), reference
    return sample, _broadened(reference, extra, wide)


def _broadened(reading: Reading, extra_thz: float, sigma_thz: float) -> Reading:
    spectrum = widened(reading.spectrum, extra_thz)
    error = reading.error
    if error is not None and spectrum.frequency_thz.size != error.size:
        error = np.interp(spectrum.frequency_thz, reading.spectrum.frequency_thz, error)
    return replace(reading, spectrum=spectrum, error=error, partial={}, broadening=Broadening("Gaussian", sigma_thz))


def _apart(sample: Reading, reference: Reading, names: tuple[str, str]) -> list[str]:
    """Half of the modes of two spectra of one host lie below nearly the same frequency, whatever sits in it."""
    middle = [reading.spectrum.top_thz(0.5) for reading in (sample, reference)]
    if max(middle) <= _FAR_APART * min(middle):
        return []
    return [
        f"half of the modes of {names[0]} lie below {middle[0]:.3g} THz, of {names[1]} below {middle[1]:.3g} THz: "
        "check that both are of this host, and their units"
    ]


def _unequal(sample: Reading, reference: Reading, names: tuple[str, str]) -> list[str]:
    found = unequal_broadening(sample.spectrum, reference.spectrum)
    if found.explained < _EXPLAINED or found.difference < _DIFFERENCE:
        return []
    broad, sharp = (names[0], names[1]) if found.sharper == "reference" else (names[1], names[0])
    return [
        f"{broad} looks like {sharp} broadened by a FWHM of {found.fwhm_thz:.2g} THz, which explains "
        f"{found.explained:.0%} of their difference: unequal resolution or smearing is read as doping; broaden {sharp} "
        "alike"
    ]
