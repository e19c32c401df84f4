"""What a reader finds in a file: the spectrum and whatever else the file says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import SpectrumError, UnitError
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit

__all__ = ["Reading", "known_unit", "located", "unit_for", "usable_error"]

_NOTHING: Mapping[str, NDArray[np.float64]] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Reading:
    """A spectrum as its file gives it.

    Attributes:
        spectrum: the density of states.
        error: shape (n,), standard error of each density, in the unit of `spectrum.dos`; NaN where the file has none
            for a point, None where it has none at all. "No error" is not zero.
        partial: element → shape (n,), its part of the density, where the file tells the elements apart.
        kind: "neutron" where the file says that its density is weighted by scattering cross-sections; else None.
        format: what the file is, for people.
    """

    spectrum: Spectrum
    error: NDArray[np.float64] | None = None
    partial: Mapping[str, NDArray[np.float64]] = field(default_factory=lambda: _NOTHING)
    kind: str | None = None
    format: str = "text"


def known_unit(said: FrequencyUnit, given: FrequencyUnit | str | None, where: str) -> FrequencyUnit:
    """The unit that the file says; raises `UnitError` where the caller says another."""
    if given is not None and parse_unit(given) != said:
        raise UnitError(f"{where} is in {said}, not in {parse_unit(given)}", fix="leave the unit out", field="unit")
    return said


def unit_for(given: FrequencyUnit | str | None, where: str, usual: str = "") -> FrequencyUnit:
    """The caller's unit, for formats that do not say theirs; `usual` is what the writing program's manual says.

    Raises:
        UnitError: the caller gave none: it is asked for, never guessed.
    """
    if given is None:
        hint = f" ({usual})" if usual else ""
        raise UnitError(f"{where} does not say its unit{hint}", fix="say THz, meV or cm-1", field="unit")
    return parse_unit(given)


def usable_error(error: Sequence[float], factor_thz: float, where: str) -> NDArray[np.float64] | None:
    """Standard errors per THz; a zero or a missing value is no error, and a column of nothing else is no column.

    Args:
        error: shape (n,), in the unit of the file's densities.
        factor_thz: THz in one unit of the file's axis.

    Raises:
        SpectrumError: a negative error.
    """
    values = np.array(error, dtype=np.float64)
    negative = values < 0
    if negative.any():
        raise SpectrumError(
            f"negative error {values[negative][0]:.3g} at point {int(np.argmax(negative))} in {where}",
            fix="give standard errors, or leave the column out",
            field="error",
        )
    values[~np.isfinite(values) | (values == 0)] = np.nan
    return None if np.isnan(values).all() else values / factor_thz


def located(error: SpectrumError, where: str) -> SpectrumError:
    """The same error with the file's name in its sentence."""
    return SpectrumError(f"{error.message} in {where}", fix=error.fix, field=error.field)
