"""Columns of text, separated by commas, semicolons, tabs or blanks: frequency, density and, if known, its error.

Lines that begin with `#` or `%` are comments; one line of column names may precede the numbers. The unit of the axis is
read from a line `unit: meV` or from the column names (`frequency_mev,dos`, `Frequency (cm-1)  DOS`); a file that does
not say needs it from the caller, and it is never guessed. phonopy's `total_dos.dat` and `projected_dos.dat`, known by
their first line, are such files; the columns of the latter are the parts of the atoms, and are summed.
"""

import re

from defectnet.errors import SpectrumError, UnitError
from defectnet.readers.reading import Reading, located, usable_error
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit, thz_per

__all__ = ["parse_curve", "parse_text"]

_COMMENT = ("#", "%")
_TO_BLANKS = str.maketrans(",;", "  ")
_UNIT_WORD = re.compile(r"(?<![A-Za-z])(thz|mev|cm\^?-1|cm⁻¹|1/cm)(?![A-Za-z0-9])", re.IGNORECASE)
_UNIT_LINE = re.compile(r"^\W*unit\s*[:=]\s*(\S+)", re.IGNORECASE)
_ERROR_NAME = re.compile(r"err|sigma|std|uncertain|^(e|dy|de|ddos|δ.*)$", re.IGNORECASE)
_PHONOPY = re.compile(r"# (Tetrahedron method|Sigma = [\d.]+)$")
_GIVE = "give two columns, frequency and density, or a third with the density's error"

Row = tuple[float, ...]


def parse_text(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> Reading:
    """Read one spectrum from the text of a file.

    Args:
        text: the file's text.
        unit: unit of the frequency axis; needed where the text does not say.
        where: the file's name, for messages.

    Raises:
        UnitError: no unit is known, or two that contradict each other.
        SpectrumError: the text holds no numbers, columns that are not understood, or no spectrum.
    """
    header, names, rows = _split(text, where)
    by_phonopy = bool(header) and not names and _PHONOPY.match(header[0]) is not None
    if len(rows[0]) > 2 and not by_phonopy:
        _check_third(names, len(rows[0]), where)
    frequency, *columns = zip(*rows, strict=True)
    chosen = _choose_unit(header, unit, where, "phonopy's default is THz" if by_phonopy else "")
    try:
        if by_phonopy:
            total = [sum(parts) for parts in zip(*columns, strict=True)]
            return Reading(Spectrum.from_unit(frequency, total, chosen), format="phonopy density of states")
        spectrum = Spectrum.from_unit(frequency, columns[0], chosen)
    except SpectrumError as error:
        raise located(error, where) from None
    return Reading(spectrum, None if len(columns) == 1 else usable_error(columns[1], thz_per(chosen), where))


def parse_curve(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> tuple[Row, Row]:
    """Two columns of text that are both frequencies in one unit, such as a resolution: both in THz, shape (n,) each.

    Raises:
        UnitError, SpectrumError: as `parse_text`.
    """
    header, _, rows = _split(text, where)
    if len(rows[0]) != 2:
        raise SpectrumError(f"{where} has {len(rows[0])} columns", fix="give energy and FWHM", field="file")
    factor = thz_per(_choose_unit(header, unit, where, ""))
    x, y = zip(*rows, strict=True)
    return tuple(factor * value for value in x), tuple(factor * value for value in y)


def _split(text: str, where: str) -> tuple[list[str], list[str], list[Row]]:
    """The header's lines, the column names where a line of them stands, and the numbers."""
    header: list[str] = []
    names: list[str] = []
    rows: list[Row] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        if line.startswith(_COMMENT):
            if not rows:
                header.append(line)
            continue
        cells = line.translate(_TO_BLANKS).split()
        try:
            values = tuple(map(float, cells))
        except ValueError:
            if not rows and not any(_is_number(cell) for cell in cells):
                header.append(line)
                names = cells
                continue
            raise SpectrumError(
                f"line {number} of {where} is not numbers ({line[:40]!r})", fix="repair or remove it", field="file"
            ) from None
        if len(values) < 2:
            raise SpectrumError(f"line {number} of {where} has 1 column", fix=_GIVE, field="file")
        if rows and len(values) != len(rows[0]):
            raise SpectrumError(
                f"line {number} of {where} has {len(values)} columns, the first had {len(rows[0])}",
                fix="repair or remove it",
                field="file",
            )
        rows.append(values)
    if not rows:
        what = "holds no numbers" if text.strip() else "is empty"
        raise SpectrumError(f"{where} {what}", fix=_GIVE, field="file")
    return header, names, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _check_third(names: list[str], n_columns: int, where: str) -> None:
    """A third column is the error of the second, unless its name says otherwise; more are not understood."""
    if n_columns > 3:
        raise SpectrumError(f"{where} has {n_columns} columns", fix=_GIVE, field="file")
    if len(names) == 3 and not _ERROR_NAME.search(names[2]):
        raise SpectrumError(f"the third column of {where}, {names[2]!r}, is no error", fix=_GIVE, field="file")


def _choose_unit(header: list[str], given: FrequencyUnit | str | None, where: str, usual: str) -> FrequencyUnit:
    """The unit that the caller gave or the header says; they may not contradict each other."""
    said = {parse_unit(match[1]) for line in header if (match := _UNIT_LINE.match(line))}
    if not said and header:
        # Only the last line can name the columns; a remark further up may speak of another quantity in other units.
        said = {parse_unit(word) for word in _UNIT_WORD.findall(header[-1])}
    if given is not None:
        said.add(parse_unit(given))
    if len(said) > 1:
        raise UnitError(
            f"{where} is said to be in {' and in '.join(sorted(said))}", fix="make them agree", field="unit"
        )
    if not said:
        hint = f" ({usual})" if usual else ""
        raise UnitError(f"{where} does not say its unit{hint}", fix="say THz, meV or cm-1", field="unit")
    return said.pop()
