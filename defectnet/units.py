"""Frequency units. Everything inside DefectNet is in THz; other units are converted once, at the edge.

A caller names one of three units (`FrequencyUnit`). Files name more, and in many spellings: `find_unit` reads those,
and knows angular frequencies, which are named and refused rather than taken for THz.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from defectnet.errors import UnitError

__all__ = ["FrequencyUnit", "SaidUnit", "find_unit", "parse_unit", "refuse_multiple", "thz_per", "unit_named"]


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


@dataclass(frozen=True)
class SaidUnit:
    """A unit as a file names it.

    Attributes:
        name: for people, "THz", "meV" or "cm-1" where it is one of those.
        thz: THz in one of it; None for an angular frequency and for what is no frequency at all.
        why_not: what is wrong with a unit that has no `thz`, and what to do about it.
    """

    name: str
    thz: float | None
    why_not: str = ""


_MEV = _THZ_PER[FrequencyUnit.MEV]
# CODATA 2018: the Hartree energy is 27.211386245988 eV, the Rydberg half of it.
_HARTREE_MEV = 27211.386245988
_ANGULAR = "divide the axis by 2π (rad/ps to THz) and say THz"
_WAVELENGTH = "give an energy or a frequency, in THz, meV or cm-1"
# Every unit that a header may name, the longer spelling before the shorter that it contains. The sign before "cm" in
# "1/cm" and the exponent after it are part of the unit, and no letter may touch it: "Gamma(meV)" but not "someVolume".
_KNOWN: tuple[tuple[str, SaidUnit], ...] = (
    (
        r"rads?\s*(?:/|\s|\*|·)\s*(?:ps|fs|s|thz)\b|rad(?:ian)?s? per (?:pico)?second"
        r"|(?:ps|fs)\s*\^?\s*\(?[-−]1\)?\s*rad"
        r"|rad\s*(?:ps|s)\^?[-−⁻]\s*[1¹]|2\s*\*?\s*(?:pi|π)\s*\*?[\s/·]*thz|thz\s*[/*·]?\s*\(?2\s*\*?\s*(?:pi|π)\)?"
        r"|thz\s*[*·]?\s*rad|\brads?\b|\bangular\b|kreisfrequenz",
        SaidUnit("an angular frequency", None, _ANGULAR),
    ),
    (
        r"cm\s*\^?\s*[({]?\s*[-−–]\s*1\s*[)}]?|cm\s*\*\*\s*\(?\s*[-−–]1\s*\)?|cm\s*⁻\s*¹|1\s*/\s*cm|\bkaysers?\b"
        r"|1\s*/\s*cent[ie]m(?:et(?:er|re))|reciprocal cent[ie]met(?:er|re)s?|inverse cent[ie]met(?:er|re)s?"
        r"|(?<![a-z])(?:cm_?inv|cm1|icm|invcm)",
        SaidUnit("cm-1", _THZ_PER[FrequencyUnit.INVERSE_CM]),
    ),
    (r"milli[ -_]?electron[ _-]?volts?|(?<![a-zµμ])mev", SaidUnit("meV", _MEV)),
    (r"micro[ -_]?electron[ _-]?volts?|(?<![a-z])[uµμ]ev", SaidUnit("µeV", _MEV * 1e-3)),
    (r"electron[ _-]?volts?|(?<![a-zµμ])ev", SaidUnit("eV", _MEV * 1e3)),
    (r"tera[ -_]?h(?:ert)?z|(?<![a-z])thz", SaidUnit("THz", 1.0)),
    (r"giga[ -_]?h(?:ert)?z|(?<![a-z])ghz", SaidUnit("GHz", 1e-3)),
    (r"hartrees?|(?<![a-z])ha|(?<![a-z])e_?h", SaidUnit("Ha", _HARTREE_MEV * _MEV)),
    (r"rydbergs?|(?<![a-z])ry", SaidUnit("Ry", 0.5 * _HARTREE_MEV * _MEV)),
    (r"(?<![a-z])h(?:ert)?z", SaidUnit("Hz", 1e-12)),
    # The molar units by the Avogadro constant, the kelvin by Boltzmann's: both exact in the SI.
    (r"kj\s*/\s*mol|kj\s*mol\^?-1", SaidUnit("kJ/mol", 2.5060692531)),
    (r"kcal\s*/\s*mol|kcal\s*mol\^?-1", SaidUnit("kcal/mol", 10.4853937549)),
    (r"[(\[]\s*k(?:elvin)?\s*[)\]]", SaidUnit("K", 0.02083661912)),
    (r"(?<![a-z])nm|nanomet(?:er|re)s?|(?<![a-z])[µμ]m|wavelength", SaidUnit("a wavelength", None, _WAVELENGTH)),
)
_PATTERNS = tuple((re.compile(f"(?:{words})(?![a-z0-9])", re.IGNORECASE), unit) for words, unit in _KNOWN)


_MULTIPLE = re.compile(
    r"(?<![\w.])(?:10\s*(?:\^|\*\*)?\s*[{(]?[-−+]?\d*[)}]?|1e[+-]?\d+|10[⁰¹²³⁴-⁹⁻]+)\s*[x×*·]?\s*$", re.IGNORECASE
)


def parse_unit(text: str) -> FrequencyUnit:
    """Read a unit's name, whatever its case; raises `UnitError` naming the choices."""
    try:
        return _SPELLINGS[text.strip().lower()]
    except (KeyError, AttributeError):
        raise UnitError(f"unknown unit {text!r}", fix="use THz, meV or cm-1", field="unit") from None


def thz_per(unit: FrequencyUnit | str) -> float:
    """How many THz one of `unit` is."""
    return _THZ_PER[parse_unit(unit)]


def unit_named(unit: FrequencyUnit | str) -> SaidUnit:
    """One of the three units that a caller may name; raises `UnitError` for any other."""
    chosen = parse_unit(unit)
    return SaidUnit(str(chosen), _THZ_PER[chosen])


def refuse_multiple(text: str) -> None:
    """Raise `UnitError` where a name speaks of a multiple of a unit, such as "Energy (10 meV)" or "10^12 Hz"."""
    for pattern, unit in _PATTERNS:
        match = pattern.search(text)
        if match and _MULTIPLE.search(text[: match.start()]):
            raise UnitError(
                f"{text.strip()!r} names a multiple of {unit.name}",
                fix="give the axis in the unit itself",
                field="unit",
            )


def find_unit(text: str) -> SaidUnit | None:
    """The unit that a column's name or an attribute of a file speaks of: "Energy (meV)", "1 / cm", "TeraHz".

    An angular frequency goes before the unit that it contains. Returns None where there is none.

    Raises:
        UnitError: two units that contradict each other.
    """
    found: dict[str, SaidUnit] = {}
    rest = text.replace("$", "")  # of TeX
    for pattern, unit in _PATTERNS:
        rest, n_found = pattern.subn(" ", rest)
        if n_found:
            if unit.name == "an angular frequency":
                return unit
            found[unit.name] = unit
    if len(found) > 1:
        raise UnitError(f"{text!r} names {' and '.join(sorted(found))}", fix="name one unit", field="unit")
    return next(iter(found.values()), None)
