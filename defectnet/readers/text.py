"""Columns of text: frequency, density and, if known, its error, among whatever else a program or spreadsheet writes.

Lines that begin with `#`, `%`, `!` or `//` are comments; lines of names and units may precede the numbers, which may be
separated by commas, semicolons, tabs or blanks, in quotes, with decimal commas or Fortran's exponents. Named columns
are read by their names. The unit is that of the axis's own name (`frequency_mev`, `Frequency (cm-1)`), of a line of
units below the names or of a line `unit: meV`, and of nothing else; a file that does not say needs it from the caller.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError, SpectrumError, UnitError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.column_names import find_names
from defectnet.readers.columns import Roles, choose_roles, refuse_other_axes
from defectnet.readers.content import Source, Wish
from defectnet.readers.header import broadening_said, refuse_optical, refuse_other, unit_lines, weighting_said
from defectnet.readers.reading import AxisUnit, Broadening, Column, Reading, said_units, settle_unit
from defectnet.readers.registry import Format
from defectnet.readers.table_text import Block, Table, read_table
from defectnet.units import FrequencyUnit, SaidUnit, find_unit, refuse_multiple

__all__ = ["FORMATS", "parse_curve", "parse_text", "read_columns"]

_PHONOPY = re.compile(r"(Tetrahedron method|Sigma = [\d.]+)$")
_GENERALISED = re.compile(r"gdos|generali[sz]ed", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"[(\[]([^)\]]+)[)\]]")
_SCATTERING = re.compile(r"^s\s*\(|^(?:chi|χ)", re.IGNORECASE)

Row = tuple[float, ...]


def parse_text(
    text: str,
    unit: FrequencyUnit | str | None = None,
    *,
    where: str = "text",
    column: str | None = None,
    spectrum: str | None = None,
) -> Reading:
    """Read one spectrum from the text of a file.

    Args:
        text: the file's text.
        unit: unit of the frequency axis; needed where the text does not say.
        where: the file's name, for messages.
        column: name or number (from 1 on) of the density, where there are several.
        spectrum: name or number (from 1 on) of the spectrum, where the file has several below each other.

    Raises:
        UnitError: no unit is known, or two that contradict each other.
        SpectrumError: the text holds no numbers, columns that are not understood, or no spectrum.
        InputError: it holds Raman or infrared data, or nothing of the name that was asked for.
    """
    table = read_table(text, where)
    return read_columns(table, Wish(unit, column, spectrum), where)


def read_columns(table: Table, wish: Wish, where: str, what: str = "text") -> Reading:
    """A reading of a table of text or of a spreadsheet; arguments and errors as in `parse_text`."""
    refuse_optical(table.header, where)
    block = _block(table.blocks, wish.spectrum, where)
    values = np.array(block.rows, dtype=np.float64)
    by_phonopy = bool(table.header) and _PHONOPY.match(table.header[0]) is not None
    if by_phonopy:
        return _phonopy(table, values, wish, where)
    names, units = find_names(table, values.shape[1])
    if names is None and values.shape[1] > 2 and np.all(np.diff(values[:, 0]) == 1):
        # R's write.table gives its column of row numbers no name.
        names, units = find_names(table, values.shape[1] - 1)
        names, units = None if names is None else ["", *names], ["", *units] if units else []
    if names is None:
        refuse_other_axes(table.header, values.shape[1], table.separator, where)
    if names is not None and wish.column is None:
        refuse_other(names, where)
    roles = choose_roles(names, values, table, None if wish.unit is None else str(wish.unit), wish.column, where)
    unit = settle_unit(said_units(lambda: _said(table, names, units, roles), wish), wish, where)
    kind, weighting = weighting_said(table.header)
    notes = [*table.notes, *roles.notes]
    if names is not None:
        notes += _named_notes(names, roles, unit, kind)
    high, low = roles.high, values[:, roles.axis]
    columns = [Column(roles.axis + 1, names[roles.axis] if names else "", "axis")]
    columns += [Column(i + 1, names[i] if names else "", "density") for i in roles.density]
    if roles.error is not None:
        columns.append(Column(roles.error + 1, names[roles.error] if names else "", "error"))
    found = Found(
        low if high is None else 0.5 * (low + values[:, high]),
        values[:, list(roles.density)].sum(axis=1),
        error=_error(roles, values),
        partial=_elements(roles, values),
        widths=None if high is None else values[:, high] - low,
        counts=roles.counts,
        kind=kind,
        weighting=weighting,
        broadening=broadening_said(table.header, unit.thz),
        columns=columns,
        notes=notes,
    )
    return assemble(found, unit, what, where)


def parse_curve(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> tuple[Row, Row]:
    """Two columns of text that are both frequencies, such as a resolution: both in THz, shape (n,) each.

    Args:
        text: the file's text.
        unit: of both, where the text does not say: the caller's is about the spectrum first.
        where: the file's name, for messages.

    Raises:
        UnitError, SpectrumError: as `parse_text`; a second column in another unit than the first.
    """
    table = read_table(text, where)
    values = np.array(table.blocks[0].rows, dtype=np.float64)
    if values.shape[1] != 2:
        raise SpectrumError(f"{where} has {values.shape[1]} columns", fix="give energy and FWHM", field="file")
    names, units = find_names(table, 2)
    said = _said(table, names, units, Roles(0, (1,)))
    axis = settle_unit(said, Wish(None if said else unit), where)
    for cell in [*(names or [])[1:], *units[1:]]:
        second = find_unit(cell)
        if second is not None and second.name != axis.name:
            raise UnitError(
                f"{where} has energies in {axis.name} and widths in {second.name} ({cell!r})",
                fix=f"give both in {axis.name}",
                field="unit",
            )
    if not np.isfinite(values).all():
        raise SpectrumError(f"{where} has points without a value", fix="remove or repair them", field="file")
    x, y = (axis.thz * values).T.tolist()
    return tuple(x), tuple(y)


def _block(blocks: Sequence[Block], wanted: str | None, where: str) -> Block:
    if wanted is None:
        if len(blocks) == 1:
            return blocks[0]
        names = ", ".join(f"{number} {block.label!r}" for number, block in enumerate(blocks[:12], start=1))
        raise SpectrumError(
            f"{where} holds {len(blocks)} spectra ({names})", fix="name one with --spectrum", field="file"
        )
    found = [block for block in blocks if block.label == wanted]
    if not found and wanted.isdigit() and 1 <= int(wanted) <= len(blocks):
        found = [blocks[int(wanted) - 1]]
    if len(found) != 1:
        raise InputError(f"{where} has no single spectrum {wanted!r}", fix="give its number", field="--spectrum")
    return found[0]


def _error(roles: Roles, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The errors of the densities, in their unit."""
    if roles.error is None:
        return None
    error = values[:, [roles.error, *roles.more_errors]].mean(axis=1)
    return 0.01 * error * np.abs(values[:, roles.density[0]]) if roles.relative else error


def _said(table: Table, names: list[str] | None, units: list[str], roles: Roles) -> list[tuple[SaidUnit, str]]:
    """The units that the axis's own name, the line of units and lines `unit: …` say."""
    said = []
    for words in ([] if names is None else [names[roles.axis]]) + units[roles.axis : roles.axis + 1]:
        refuse_multiple(words)
    if names is not None and (found := find_unit(names[roles.axis])):
        said.append((found, f"the column's name {names[roles.axis].strip()!r}"))
    if units and (found := find_unit(units[roles.axis])):
        said.append((found, "the line of units"))
    return said + unit_lines(table.header)


def _phonopy(table: Table, values: NDArray[np.float64], wish: Wish, where: str) -> Reading:
    """`total_dos.dat` and `projected_dos.dat`: frequency and the density, or one column an atom, without names."""
    unit = settle_unit(unit_lines(table.header), wish, where, "phonopy's default is THz")
    found = Found(
        values[:, 0],
        values[:, 1:].sum(axis=1),
        kind="vibrational",
        broadening=_phonopy_smoothing(table.header[0], unit),
        origin="computed",
        columns=[Column(1, "", "axis"), *(Column(i, "", "density") for i in range(2, values.shape[1] + 1))],
        notes=table.notes,
    )
    return assemble(found, unit, "phonopy density of states", where)


def _phonopy_smoothing(line: str, unit: AxisUnit) -> Broadening | None:
    return broadening_said([line], unit.thz)


def _elements(roles: Roles, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The parts of the elements, where the columns are named by them."""
    parts: dict[str, NDArray[np.float64]] = {}
    for name, place in roles.partial:
        match = re.match(r"\W*([A-Z][a-z]?)[ _-]?\d*\b", name)
        if match is None or not re.fullmatch(r"\W*[A-Z][a-z]?[ _-]?\d*\W*", re.sub(r"\(.*\)|\[.*\]", "", name)):
            return {}
        parts[match[1]] = parts.get(match[1], np.zeros(len(values))) + values[:, place]
    return parts


def _named_notes(names: list[str], roles: Roles, unit: AxisUnit, kind: str | None) -> list[str]:
    notes = []
    axis, density = names[roles.axis].strip(), names[roles.density[0]].strip()
    if unit.said_by == "the caller" and (match := _IN_BRACKETS.search(axis)) and find_unit(axis) is None:
        notes.append(
            f"its axis {axis!r} names {match[1]!r}, which is no unit that is known; it was read in {unit.name}"
        )
    if unit.name == "THz" and re.match(r"\W*(omega|ω)\b", axis, re.IGNORECASE):
        notes.append(f"its axis {axis!r} was read as an ordinary frequency; divide it by 2π if it is an angular one")
    if _SCATTERING.match(density):
        what = "a scattering function or a susceptibility"
        notes.append(f"its column {density!r} is {what}, which was read as a density of states")
    if kind is None and _GENERALISED.search(density):
        notes.append(f"its column is named {density!r}: say --kind neutron if it is weighted by cross-sections")
    return notes


def _is_phonopy(source: Source) -> bool:
    first = source.head.partition("\n")[0]
    return first.startswith("#") and _PHONOPY.match(first.lstrip("# ")) is not None


def _is_text(source: Source) -> bool:
    return source.decoded is not None


def _read(source: Source) -> Reading:
    return read_columns(read_table(source.text, source.where), source.wish, source.where)


FORMATS = (
    Format(
        name="phonopy `total_dos.dat`, `projected_dos.dat`",
        read_as="the density, and how it was smoothed; projected columns are summed",
        unit="`--unit` (phonopy's default is THz)",
        example="total_dos.dat",
        recognises=_is_phonopy,
        read=_read,
    ),
    Format(
        name="text, CSV",
        read_as="frequency, density and, if there is one, its standard error (a zero or missing error is *no* error, "
        "not a small one); columns by their names where they have any, edges of bins too: so are Mantid's SaveAscii, "
        "`matdyn.x`'s, ALAMODE's and TDEP's densities read; Excel's CSV with semicolons and decimal commas; "
        "tables between `|`; UTF-8, "
        "UTF-16, Latin-1",
        unit="the axis's name, a line of units or `unit: meV`; else `--unit`",
        example="columns.csv",
        recognises=_is_text,
        read=_read,
        chooses=("column", "spectrum"),
    ),
)
