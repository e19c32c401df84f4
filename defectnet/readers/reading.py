"""What a reader finds in a file: the spectrum and whatever else the file says of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import SpectrumError, UnitError
from defectnet.readers.content import Wish
from defectnet.spectrum import FWHM_PER_SIGMA, Spectrum
from defectnet.units import SaidUnit, find_unit, unit_named

__all__ = [
    "AxisUnit",
    "Broadening",
    "Column",
    "Reading",
    "located",
    "said_units",
    "settle_unit",
    "unit_words",
    "usable_error",
]

_NOTHING: Mapping[str, NDArray[np.float64]] = MappingProxyType({})
_CHOICES = "say THz, meV or cm-1"


@dataclass(frozen=True)
class AxisUnit:
    """The unit of a file's axis: its name, THz in one of it, and who said it.

    Attributes:
        overruled: what the file says instead, where the caller knew better; else empty.
    """

    name: str
    thz: float
    said_by: str
    overruled: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of it."""
        if not self.overruled:
            return ()
        return (f"it says {self.overruled}, but was read in {self.name} because the caller said so",)


@dataclass(frozen=True)
class Column:
    """A column of a file as it was understood: its number from 1 on, its name where it has one, and its part."""

    number: int
    name: str
    role: str


@dataclass(frozen=True)
class Broadening:
    """How a density was smoothed, as far as its file says.

    Attributes:
        method: in words, such as "Gaussian" or "tetrahedron method".
        sigma_thz: standard deviation of the Gaussian, THz; 0 where nothing was smoothed, None where it is not known.
    """

    method: str
    sigma_thz: float | None = None

    def __str__(self) -> str:
        if not self.sigma_thz:
            return self.method
        return f"{self.method}, FWHM {FWHM_PER_SIGMA * self.sigma_thz:.3g} THz"


@dataclass(frozen=True, eq=False)
class Reading:
    """A spectrum as its file gives it.

    Attributes:
        spectrum: the density of states.
        error: shape (n,), standard error of each density, in the unit of `spectrum.dos`; NaN where the file has none
            for a point, None where it has none at all. "No error" is not zero.
        partial: element → shape (n,), its part of the density, where the file tells the elements apart.
        kind: "neutron" where the file says that its density is weighted by scattering cross-sections, "vibrational"
            where it says, or its format means, that every mode counts once; None where nothing is known.
        format: what the file is, for people.
        unit: the axis's unit as it was in the file, and who said it.
        columns: the columns of a table; empty for other formats.
        weighting: the file's own words for `kind`, where it has any.
        broadening: how the density was smoothed, where the file says.
        origin: "computed" or "measured" where the format tells; None where it does not.
        modes: integral of the file's density over positive frequencies; 3 for a density of states per atom.
        notes: what the user should know of how the file was read.
    """

    spectrum: Spectrum
    error: NDArray[np.float64] | None = None
    partial: Mapping[str, NDArray[np.float64]] = field(default_factory=lambda: _NOTHING)
    kind: str | None = None
    format: str = "text"
    unit: AxisUnit = AxisUnit("THz", 1.0, "the format")
    columns: tuple[Column, ...] = ()
    weighting: str = ""
    broadening: Broadening | None = None
    origin: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def modes(self) -> float:
        """Integral of the density over positive frequencies."""
        return self.spectrum.modes

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Names and values for people: what was understood, and who said it."""
        f = self.spectrum.frequency_thz
        known = 0 if self.error is None else int(np.isfinite(self.error).sum())
        columns = [f"{column.number} {column.name!r}: {column.role}" for column in self.columns]
        kind = self.kind or "not said (read as vibrational, without --kind)"
        rows = [
            ("format", self.format),
            ("axis", f"{self.unit.name}, says {self.unit.said_by}"),
            ("columns", ", ".join(columns)),
            ("points", f"{f.size}, from {f[0]:.4g} to {f[-1]:.4g} THz"),
            ("top", f"{self.spectrum.top_thz():.4g} THz, below which all but a thousandth of the density lies"),
            ("modes", f"{self.modes:.4g} above 0 THz (3 for each atom, where it is scaled so)"),
            ("errors", f"for {known} of {f.size} points" if known else "none"),
            ("weighting", f"{kind} ({self.weighting})" if self.weighting else kind),
            ("broadening", str(self.broadening) if self.broadening else "not said"),
            ("elements", ", ".join(self.partial)),
            ("origin", self.origin or ""),
        ]
        return [(name, value) for name, value in rows if value]

    @property
    def summary(self) -> str:
        """One sentence for people: what was understood."""
        parts = [self.format, f"axis in {self.unit.name} (says {self.unit.said_by})"]
        for role in ("density", "error"):
            used = [repr(c.name) if c.name else f"column {c.number}" for c in self.columns if c.role == role]
            parts += [f"{role} {' + '.join(used)}"] if used else []
        parts.append(f"{self.spectrum.frequency_thz.size} points to {self.spectrum.frequency_thz[-1]:.4g} THz")
        parts.append(f"{self.modes:.4g} modes")
        if self.kind:
            parts.append(f"{self.kind} ({self.weighting})" if self.weighting else self.kind)
        if self.broadening:
            parts.append(str(self.broadening))
        if self.partial:
            parts.append(f"parts of {', '.join(self.partial)}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values for JSON, without the curves."""
        f = self.spectrum.frequency_thz
        known = None if self.error is None else int(np.isfinite(self.error).sum())
        return {
            "format": self.format,
            "unit": self.unit.name,
            "unit_said_by": self.unit.said_by,
            "columns": [vars(column) for column in self.columns],
            "points": int(f.size),
            "from_thz": float(f[0]),
            "to_thz": float(f[-1]),
            "top_thz": self.spectrum.top_thz(),
            "modes": self.modes,
            "points_with_error": known,
            "elements": list(self.partial),
            "kind": self.kind,
            "weighting": self.weighting,
            "broadening": None if self.broadening is None else vars(self.broadening),
            "origin": self.origin,
            "notes": list(self.notes),
        }


def settle_unit(said: Sequence[tuple[SaidUnit, str]], wish: Wish, where: str, usual: str = "") -> AxisUnit:
    """The one unit of an axis, from what the file and the caller say.

    Args:
        said: units that the file names, each with what named it, the nearest to the axis first.
        wish: the caller's, with his unit, and whether it holds against the file's.
        where: the file's name.
        usual: what the writing program's manual says, for formats that do not say their unit.

    Raises:
        UnitError: nobody says it (it is asked for, never guessed), an angular frequency, or a contradiction.
    """
    given = None if wish.unit is None else unit_named(wish.unit)
    if given is not None and given.thz is not None and wish.override_unit:
        others = [f"{unit.name} ({by})" for unit, by in said if unit.name != given.name]
        return AxisUnit(given.name, given.thz, "the caller", overruled=" and ".join(others))
    known = [*said, *([(given, "the caller")] if given is not None else [])]
    for unit, by in known:
        if unit.thz is None:
            raise UnitError(f"{where} has {unit.name} on its axis ({by} says so)", fix=unit.why_not, field="unit")
    names = {unit.name for unit, _ in known}
    if len(names) > 1:
        fix = "make them agree, or add --override-unit if the file is wrong" if given else "make them agree"
        raise UnitError(f"{where} is said to be in {' and in '.join(sorted(names))}", fix=fix, field="unit")
    if not known:
        hint = f" ({usual})" if usual else ""
        raise UnitError(f"{where} does not say its unit{hint}", fix=_CHOICES, field="unit")
    unit, by = known[0]
    assert unit.thz is not None
    return AxisUnit(unit.name, unit.thz, by)


def said_units(look: Callable[[], Sequence[tuple[SaidUnit, str]]], wish: Wish) -> Sequence[tuple[SaidUnit, str]]:
    """The units that `look` finds in a file; words that are no unit are refused, unless the caller overrides them."""
    try:
        return look()
    except UnitError as error:
        if not wish.override_unit:
            raise
        return [(SaidUnit("what is no unit of a frequency", None), error.message)]


def unit_words(words: str, wish: Wish, where: str, by: str, usual: str = "") -> AxisUnit:
    """The unit of an axis whose file names it in an attribute or header; empty words are none.

    Raises:
        UnitError: as `settle_unit`, and where the words are no unit of a frequency.
    """
    if not words.strip():
        return settle_unit([], wish, where, usual)
    found = find_unit(words)
    if found is None and not wish.override_unit:
        raise UnitError(f"{where} is in {words}", fix="convert it to THz, meV or cm-1", field="unit")
    return settle_unit([(found or SaidUnit(words, None), by)], wish, where)


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
