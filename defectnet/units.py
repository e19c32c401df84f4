"""Frequency units. Everything inside DefectNet is in THz; other units are converted once, at the edge."""

from enum import StrEnum

from defectnet.errors import UnitError

__all__ = ["FrequencyUnit", "parse_unit", "thz_per"]


class FrequencyUnit(StrEnum):
    """A unit in which a spectrum's axis may be given."""

    THZ = "THz"
    MEV = "meV"
    INVERSE_CM = "cm-1"


# CODATA 2018, exact by the SI definition: h = 4.135667696923859e-12 meV s and c = 29979245800 cm/s.
_THZ_PER: dict[FrequencyUnit, float] = {
    FrequencyUnit.THZ: 1.0,
    FrequencyUnit.MEV: 1.0 / 4.135667696923859,
    FrequencyUnit.INVERSE_CM: 0.0299792458,
}

_SPELLINGS = {
    "thz": FrequencyUnit.THZ,
    "mev": FrequencyUnit.MEV,
    "cm-1": FrequencyUnit.INVERSE_CM,
    "cm^-1": FrequencyUnit.INVERSE_CM,
    "cm⁻¹": FrequencyUnit.INVERSE_CM,
    "1/cm": FrequencyUnit.INVERSE_CM,
}


def parse_unit(text: str) -> FrequencyUnit:
    """Read a unit's name, whatever its case; raises `UnitError` naming the choices."""
    try:
        return _SPELLINGS[text.strip().lower()]
    except (KeyError, AttributeError):
        raise UnitError(f"unknown unit {text!r}", fix="use THz, meV or cm-1", field="unit") from None


def thz_per(unit: FrequencyUnit | str) -> float:
    """How many THz one of `unit` is."""
    return _THZ_PER[parse_unit(unit)]
