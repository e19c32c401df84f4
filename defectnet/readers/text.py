"""Two columns of text: frequency and density, separated by commas, semicolons, tabs or blanks.

Lines that begin with `#` or `%` are comments; one line of column names may precede the numbers. The unit of the axis is
read from a line `unit: meV` or from the column names (`frequency_mev,dos`, `Frequency (cm-1)  DOS`); a file that does
not say needs it from the caller, and it is never guessed.
"""

import re

from defectnet.errors import SpectrumError, UnitError
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit

__all__ = ["parse_text"]

_COMMENT = ("#", "%")
_SEPARATOR = re.compile(r"[,;\s]+")
_UNIT_WORD = re.compile(r"(?<![A-Za-z])(thz|mev|cm\^?-1|cm⁻¹|1/cm)(?![A-Za-z0-9])", re.IGNORECASE)
_UNIT_LINE = re.compile(r"^\W*unit\s*[:=]\s*(\S+)", re.IGNORECASE)


def parse_text(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> Spectrum:
    """Read one spectrum from the text of a file.

    Args:
        text: the file's text.
        unit: unit of the frequency axis; needed where the text does not say.
        where: the file's name, for messages.

    Raises:
        UnitError: no unit is known, or two that contradict each other.
        SpectrumError: the text holds no numbers, another number of columns than two, or no spectrum.
    """
    header, rows = _split(text, where)
    frequency, dos = zip(*rows, strict=True)
    chosen = _choose_unit(header, unit, where)
    try:
        return Spectrum.from_unit(frequency, dos, chosen)
    except SpectrumError as error:
        raise _located(error, where) from None


def _split(text: str, where: str) -> tuple[list[str], list[tuple[float, float]]]:
    header: list[str] = []
    rows: list[tuple[float, float]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        if line.startswith(_COMMENT):
            if not rows:
                header.append(line)
            continue
        cells = _SEPARATOR.split(line.rstrip(",;"))
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            if not rows and not any(_is_number(cell) for cell in cells):
                header.append(line)
                continue
            raise SpectrumError(
                f"line {number} of {where} is not two numbers ({line[:40]!r})", fix="repair or remove it", field="file"
            ) from None
        if len(values) != 2:
            raise SpectrumError(
                f"line {number} of {where} has {len(values)} column{'s' if len(values) > 1 else ''}",
                fix="give two: frequency and density",
                field="file",
            )
        rows.append((values[0], values[1]))
    if not rows:
        raise SpectrumError(
            f"{where} {'holds no numbers' if text.strip() else 'is empty'}",
            fix="give two columns: frequency and density",
            field="file",
        )
    return header, rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _choose_unit(header: list[str], given: FrequencyUnit | str | None, where: str) -> FrequencyUnit:
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
        raise UnitError(f"{where} does not say its unit", fix="say THz, meV or cm-1", field="unit")
    return said.pop()


def _located(error: SpectrumError, where: str) -> SpectrumError:
    """The same error with the file's name in its sentence."""
    message = str(error).removeprefix(f"{error.field}: ").removesuffix(f"; {error.fix}")
    return SpectrumError(f"{message} in {where}", fix=error.fix, field=error.field)
