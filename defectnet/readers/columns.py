"""What the columns of a table mean: by their names where they have any, else by their place and their numbers.

A column is never taken for something that its name denies, and where two could be the density the caller is asked.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError, SpectrumError
from defectnet.readers.column_names import SYMBOLS, Role, role_of
from defectnet.readers.table_text import Table, split_cells
from defectnet.units import find_unit

__all__ = ["Roles", "choose_roles", "refuse_other_axes"]

Array = NDArray[np.float64]
_GIVE = "give two columns, frequency and density, or a third with the density's error"
# What spectra and other curves are plotted over that is neither a frequency nor an energy.
_NO_FREQUENCY = re.compile(
    r"\A\W*t\b|\b(?:time|temp(?:erature)?|2? ?theta|angle|distance|radius|position|wave ?vector|momentum|q|wave ?length"
    r"|channel|pressure|volume|mass|d[- ]?spacing|delay|lag|zeit|temperatur|wellenlänge|tof|magnetic field"
    r"|kelvin)\b|θ|λ",
    re.IGNORECASE,
)
# Parts that sum to a total do so but for the digits that were written.
_SUM = 0.02
# The median of a measured density's standard errors, in shares of it, beyond which nobody would publish it.
_LARGEST_ERROR = 0.4
# Edges that two neighbouring bins share agree but for the digits that were written: in shares of a bin's width.
_SAME_EDGE = 0.05


@dataclass(frozen=True)
class Roles:
    """Which column is what, by their places from 0 on."""

    axis: int
    density: tuple[int, ...]  # summed
    high: int | None = None  # upper edges; `axis` are then the lower ones
    error: int | None = None
    more_errors: tuple[int, ...] = ()  # beside `error`, where they are given below and above
    relative: bool = False  # errors in per cent of the density
    partial: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    counts: bool | None = None


def choose_roles(
    names: list[str] | None, values: Array, table: Table, given: str | None, column: str | None, where: str
) -> Roles:
    """Decide which column is what.

    Args:
        names: of the columns, or None.
        values: shape (n_rows, n_columns).
        table: where they come from.
        given: the caller's unit: it chooses among axes in several.
        column: the caller's choice of the density, a name or a number from 1 on.
        where: the file's name.

    Raises:
        SpectrumError: a column whose part is not clear, or no density.
        InputError: there is no column of the caller's name.
    """
    if names is None:
        return _by_place(values, table, column, where)
    roles = _refined(names, values)
    axis, high, notes = _axis(names, roles, given, where)
    if column is not None:
        density: tuple[int, ...] = (_named_column(column, names, values.shape[1], where),)
    else:
        density = _density(names, roles, axis, high, where)
    first = density[0]
    error = next((i for i in range(first + 1, len(roles)) if roles[i] == Role.ERROR), None)
    if error is None and len(density) == 1:
        error = next((i for i in range(first) if roles[i] == Role.ERROR), None)
    more: tuple[int, ...] = ()
    if error is not None and len(density) == 1:
        more = tuple(i for i in range(error + 1, len(roles)) if roles[i] == Role.ERROR)
        if more:
            notes = (*notes, "it has several columns of errors: their mean was taken")
    partial = tuple((names[i], i) for i, role in enumerate(roles) if role == Role.PARTIAL and i != axis)
    counts = bool(re.search(r"\bcounts?\b", names[first], re.IGNORECASE)) or None
    return Roles(
        axis,
        density,
        high,
        error,
        more,
        error is not None and "%" in names[error],
        partial if len(density) > 1 or first not in dict(partial).values() else (),
        notes,
        counts,
    )


def refuse_other_axes(header: list[str], n: int, separator: str, where: str) -> None:
    """Raise `SpectrumError` where a line above columns without names says that they begin with no frequency."""
    for line in header:
        cells = [cell for cell in split_cells(line, separator) if cell]
        words = re.sub(r"\s*[(\[][^)\]]*[)\]]", "", line).split()
        if n in (len(cells), len(words)) and _NO_FREQUENCY.search((cells if len(cells) == n else words)[0]):
            raise SpectrumError(f"{where} is not over a frequency ({line.strip()[:40]!r})", fix=_GIVE, field="file")


def _refined(names: list[str], values: Array) -> list[Role]:
    """Roles that the numbers and the other names bear out."""
    roles = [role_of(name) for name in names]
    refined = list(roles)
    for place, role in enumerate(roles):
        column = values[:, place]
        if Role.PARTIAL in roles and names[place].strip() in SYMBOLS and Role.AXIS in roles[:place]:
            refined[place] = Role.PARTIAL
            continue
        if role == Role.INDEX and not (len(column) > 1 and np.all(np.diff(column) == 1)):
            refined[place] = Role.UNKNOWN
        # "e", "f" and "w" after an axis are no second one.
        if role == Role.AXIS and Role.AXIS in roles[:place]:
            rising = np.all(np.diff(column) > 0) and not (place > 1 and names[place].strip().lower() == "e")
            refined[place] = Role.AXIS if rising else (Role.ERROR if place > 1 else Role.DENSITY)
    if refined.count(Role.DENSITY) == 0 and refined.count(Role.PARTIAL) == 1 and Role.TOTAL not in refined:
        refined[refined.index(Role.PARTIAL)] = Role.DENSITY
    return refined


def _axis(
    names: list[str], roles: list[Role], given: str | None, where: str
) -> tuple[int, int | None, tuple[str, ...]]:
    if Role.LOW in roles and Role.HIGH in roles and Role.AXIS not in roles:
        return roles.index(Role.LOW), roles.index(Role.HIGH), ()
    axes = [place for place, role in enumerate(roles) if role == Role.AXIS]
    if not axes and len(names) == 2 and not _NO_FREQUENCY.search(names[0]):
        return 0, None, ()
    if not axes:
        raise SpectrumError(f"no column of {where} is named as the axis ({_list(names)})", fix=_GIVE, field="file")
    if len(axes) > 1:
        units = {place: found.name for place in axes if (found := find_unit(names[place]))}
        wanted = find_unit(given) if given else None
        chosen = [p for p, unit in units.items() if wanted is None or unit == wanted.name]
        if len(units) < len(axes) or not chosen:
            raise SpectrumError(f"{where} has several axes ({_list(names)})", fix=_GIVE, field="file")
        return chosen[0], None, (f"of its axes, {names[chosen[0]]!r} was read",)
    return axes[0], None, ()


def _density(names: list[str], roles: list[Role], axis: int, high: int | None, where: str) -> tuple[int, ...]:
    taken = {axis, high}
    rest = [i for i in range(len(names)) if i not in taken and roles[i] not in (Role.INDEX, Role.INTEGRAL, Role.WIDTH)]
    totals = [i for i in rest if roles[i] == Role.TOTAL]
    dense = [i for i in rest if roles[i] == Role.DENSITY]
    unknown = [i for i in rest if roles[i] in (Role.UNKNOWN, Role.LOW, Role.HIGH)]
    parts = [i for i in rest if roles[i] == Role.PARTIAL]
    if len(totals) == 1 and not unknown:
        return (totals[0],)
    if not totals and len(dense) == 1 and not unknown:
        return (dense[0],)
    if not totals and not dense and len(unknown) == 1 and not parts:
        return (unknown[0],)
    if not totals and not dense and parts and not unknown:
        return tuple(parts)
    if not (totals or dense or unknown or parts):
        raise SpectrumError(f"no column of {where} is a density ({_list(names)})", fix=_GIVE, field="file")
    likely = totals or dense or unknown
    choose = f"name the density with --column, such as --column {likely[0] + 1 if likely else 2}"
    if len(names) == 3 and axis == 0 and roles[2] != Role.ERROR:
        raise SpectrumError(f"the third column of {where}, {names[2]!r}, is no error", fix=choose, field="file")
    raise SpectrumError(
        f"which column of {where} is the density is not clear ({_list(names)})", fix=choose, field="file"
    )


def _named_column(column: str, names: list[str] | None, n: int, where: str) -> int:
    if column.isdigit() and 1 <= int(column) <= n:
        return int(column) - 1
    wanted = column.strip().lower()
    found = [i for i, name in enumerate(names or []) if wanted == name.strip().lower()]
    found = found or [i for i, name in enumerate(names or []) if wanted in name.lower()]
    if len(found) != 1:
        have = _list(names) if names else f"{n} columns without names"
        raise InputError(
            f"{where} has no single column {column!r}", fix=f"give a number or a name: {have}", field="--column"
        )
    return found[0]


def _by_place(values: Array, table: Table, column: str | None, where: str) -> Roles:
    """Columns without names: by place, unless the numbers say otherwise."""
    n = values.shape[1]
    notes: list[str] = []
    first = 0
    if n > 2 and np.all(np.diff(values[:, 0]) == 1) and np.all(np.diff(values[:, 1]) > 0):
        first, n = 1, n - 1
        notes.append("its first column numbers the rows and was left out")
    high = None
    if n > 2 and values.shape[0] > 2 and np.all(np.diff(values[:, first + 1]) > 0):
        steps = np.diff(values[:, first])
        if np.abs(values[1:, first] - values[:-1, first + 1]).max() > _SAME_EDGE * np.abs(steps).min():
            raise SpectrumError(
                f"columns {first + 1} and {first + 2} of {where} both rise like an axis",
                fix="name the columns in a first line",
                field="file",
            )
        high = first + 1
        notes.append("its first two columns are the edges of bins")
    density = (high if high is not None else first) + 1
    rest = list(range(density + 1, values.shape[1]))
    if column is not None:
        density, rest = _named_column(column, None, values.shape[1], where), []
    if not rest:
        return Roles(first, (density,), high, notes=tuple(notes))
    summed, total = np.nansum(values[:, rest], axis=1), values[:, density]
    if np.abs(summed - total).max() <= _SUM * np.abs(total).max():
        notes.append(f"column {density + 1} is the sum of those that follow: they were taken for its parts")
        return Roles(first, (density,), high, notes=tuple(notes))
    if len(rest) > 1:
        raise SpectrumError(
            f"{where} has {values.shape[1]} columns", fix=f"{_GIVE}, or name the density with --column", field="file"
        )
    if table.separator == "," and table.all_whole:
        raise SpectrumError(
            f"{where} has whole numbers alone: its commas may be decimal ones",
            fix="name the columns in a first line, or write decimal points",
            field="file",
        )
    _check_error(values[:, density], values[:, rest[0]], rest[0] + 1, where)
    return Roles(first, (density,), high, error=rest[0], notes=tuple(notes))


def _check_error(density: Array, error: Array, number: int, where: str) -> None:
    """A column without a name is no error where it is as large as the density: then it is a part, or another curve."""
    large = density > 0.1 * np.nanmax(density)
    if np.nanmedian(error[large] / density[large]) > _LARGEST_ERROR:
        raise SpectrumError(
            f"column {number} of {where} has no name and is too large for the density's error",
            fix="name the columns in a first line, or leave it out",
            field="file",
        )


def _list(names: list[str]) -> str:
    return ", ".join(f"{number} {name!r}" for number, name in enumerate(names, start=1))
