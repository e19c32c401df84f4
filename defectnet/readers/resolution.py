"""A spectrometer's resolution from a file of two columns."""

from pathlib import Path

import numpy as np

from defectnet.errors import InputError, SpectrumError
from defectnet.neutron import Resolution
from defectnet.readers.text import parse_curve
from defectnet.units import FrequencyUnit

__all__ = ["read_resolution"]


def read_resolution(path: str | Path, unit: FrequencyUnit | str | None = None) -> Resolution:
    """Read a resolution curve: two columns of text, energy transfer and FWHM, both in the file's unit.

    Between the points the width is interpolated, beyond them it stays as at the ends.

    Raises:
        InputError, UnitError, SpectrumError: no such file, no unit, or no curve of widths.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"cannot read {path} as text", fix="check the path", field="resolution") from None
    frequency, width = (np.array(column) for column in parse_curve(text, unit, where=str(path)))
    if not (np.isfinite(width).all() and (width >= 0).all() and (np.diff(frequency) > 0).all()):
        raise SpectrumError(
            f"{path} is no resolution curve", fix="give FWHMs over increasing energies", field="resolution"
        )
    return lambda frequency_thz: np.asarray(np.interp(frequency_thz, frequency, width))
