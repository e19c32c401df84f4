"""Text as lines of numbers below a header: separators, decimal commas, quotes, Fortran's exponents, blocks.

What the columns mean is not decided here (`defectnet.readers.columns`).
"""

import csv
import re
from dataclasses import dataclass, field

from defectnet.errors import SpectrumError

__all__ = ["Block", "Table", "read_table", "split_cells"]

_LINE_END = re.compile(r"\r\n|\r|\n")
_COMMENT = ("#", "%", "!", "//", ";", "'#")
_NUMBER = re.compile(
    r"(?P<mantissa>[+-]?(?:\d+[.,]?\d*|[.,]\d+))(?:[eEdDqQ](?P<exponent>[+-]?\d+)|(?P<bare>[+-]\d{2,3}))?", re.ASCII
)
_NO_VALUE = frozenset(
    {"", "nan", "+nan", "-nan", "na", "n/a", "#n/a", "#nv", "none", "null", "-nan(ind)", "1.#qnan", "--"}
)
_DATA_START = re.compile(r"[\s\"']*[+-]?[.,]?\d", re.ASCII)
_TRAILING_COMMENT = re.compile(r"\s[#%!].*$")
# Lines from which the way of writing is learnt: so many of the first, and every so manieth of the others.
_SAMPLE = 50
_LEADING_ZERO = re.compile(r"[+-]?0\d+\Z", re.ASCII)
# A row between bars, as Markdown and databases write it, and the rules between such rows.
_BARRED = re.compile(r"\s*\|?[\s\"']*[+-]?[.,]?\d[^|]*\|", re.ASCII)
_RULE = re.compile(r"[\s|:+=*-]*[-=]{2}[\s|:+=*-]*|\s*\(\d+ rows?\)\s*")
_WORDS = re.compile(r"\"[^\"]*\"|\S+")
_GIVE = "give two columns, frequency and density, or a third with the density's error"
_REPAIR = "repair or remove it"

Row = tuple[float, ...]


@dataclass
class Block:
    """Rows that follow each other; a file of several spectra has several.

    Attributes:
        label: the line above it that belongs to it alone, such as a spectrum's number; may be empty.
        rows: the numbers, a NaN where a cell is empty.
    """

    label: str = ""
    rows: list[Row] = field(default_factory=list)


@dataclass
class Table:
    """A text file as lines of numbers.

    Attributes:
        header: the lines above the numbers, without the sign of a comment.
        bare: which of the header's lines had no such sign: only they can be a CSV's names whatever they say.
        blocks: the numbers.
        separator: between the cells: ",", ";", "|", tab, or " " for any blanks.
        notes: what the user should know of how the lines were read.
    """

    header: list[str]
    bare: list[bool]
    blocks: list[Block]
    separator: str
    notes: list[str]
    all_whole: bool = False
    dropped: int = 0  # columns at the end without a value in any row
    dropped_first: int = 0  # and at the beginning: of Origin's header, the names of its lines stand there


@dataclass(frozen=True)
class _Dialect:
    separator: str
    decimal: str

    def cells(self, line: str) -> list[str]:
        return split_cells(line, self.separator)

    def row(self, line: str) -> Row | None:
        """The numbers of a line; None where a cell is none."""
        if self.decimal == "." and '"' not in line and "_" not in line and line.isascii():
            try:
                return tuple(map(float, line.split(None if self.separator == " " else self.separator)))
            except ValueError:
                pass
        row = tuple(map(self._number, self.cells(line)))
        return None if None in row else row  # type: ignore[return-value]

    def _number(self, cell: str) -> float | None:
        if cell.lower() in _NO_VALUE:
            return float("nan")
        match = _NUMBER.fullmatch(cell)
        if match is None:
            return float(cell) if cell.lower().lstrip("+-") in ("inf", "infinity") else None
        mantissa = match["mantissa"]
        if ("," in mantissa and self.decimal != ",") or ("." in mantissa and self.decimal != "."):
            return None
        exponent = match["exponent"] or match["bare"] or "0"
        return float(f"{mantissa.replace(',', '.')}e{exponent}")


def split_cells(line: str, separator: str) -> list[str]:
    """The cells of a line, without quotes and blanks about them."""
    if separator == " ":
        return [cell.strip("\"'") for cell in _WORDS.findall(line)]
    if '"' in line:
        try:
            return [
                cell.strip() for cell in next(csv.reader([line.strip()], delimiter=separator, skipinitialspace=True))
            ]
        except (csv.Error, StopIteration):
            pass
    return [cell.strip().strip("'") for cell in line.split(separator)]


def read_table(text: str, where: str) -> Table:
    """Split a text into its header and its numbers.

    Raises:
        SpectrumError: no numbers, a line that is none, or columns that change; names the line.
    """
    lines = text.split("\n") if "\r" not in text else _LINE_END.split(text)
    if "|" in text or "│" in text:
        lines = _without_frame(lines)
    body = [line for line in lines if _is_data(line)]
    if not body:
        what = "holds no numbers" if text.strip() else "is empty"
        raise SpectrumError(f"{where} {what}", fix=_GIVE, field="file")
    dialect = _dialect([_bare(line) for line in (*body[:_SAMPLE], *body[_SAMPLE::_SAMPLE])], where)
    table = Table([], [], [], dialect.separator, [])
    if dialect.decimal == ",":
        table.notes.append("its numbers have decimal commas")
    _fill(table, lines, dialect, where)
    _drop_empty_columns(table)
    if len(table.blocks[0].rows[0]) < 2:
        raise SpectrumError(f"{where} has 1 column", fix=_GIVE, field="file")
    if not text.endswith(("\n", "\r")) and len(body) > 3:
        _check_end(table, [_bare(line) for line in body[-50:]], dialect, where)
    table.all_whole = all(
        value == int(value) if abs(value) < 1e15 else False
        for row in table.blocks[0].rows
        for value in row
        if value == value
    )
    return table


def _without_frame(lines: list[str]) -> list[str]:
    """The lines of a table between bars without its outer bars and rules; others as they are."""
    plain = [line.replace("│", "|") for line in lines]
    rows = [line for line in plain if _BARRED.match(line)]
    if len(rows) < 0.5 * sum(_is_data(line.lstrip(" |")) for line in plain):
        return lines
    framed = sum(line.lstrip().startswith("|") for line in rows) > 0.5 * len(rows)
    inside = [line.strip().removeprefix("|").removesuffix("|") if framed and "|" in line else line for line in plain]
    return ["" if _RULE.fullmatch(line) or set(line) & set("─━┼") else line for line in inside]


def _is_data(line: str) -> bool:
    return _DATA_START.match(line) is not None


def _bare(line: str) -> str:
    """A line of numbers without a remark behind them."""
    if "#" in line or "!" in line or "%" in line:
        line = _TRAILING_COMMENT.sub("", line)
    return line.strip(" \r\n\x1a")


def _dialect(lines: list[str], where: str) -> _Dialect:
    """How numbers and their separators are written: the first way in which most lines are numbers."""
    sample = lines
    for separator in (";", "\t", "|", ",", " "):
        if separator != " " and sum(separator in line for line in sample) < 0.5 * len(sample):
            continue
        cells = [cell for line in sample for cell in split_cells(line, separator)]
        commas, points = any("," in cell for cell in cells), any("." in cell for cell in cells)
        if commas and points and separator in ";\t|":
            raise SpectrumError(
                f"the numbers of {where} have both commas and points",
                fix="write it again without separators of thousands, with one decimal sign",
                field="file",
            )
        dialect = _Dialect(separator, "," if commas and separator != "," else ".")
        rows = [dialect.row(line) for line in sample]
        widths = [len(row) for row in rows if row is not None and len(row) > 1]
        if len(widths) > 0.5 * len(sample):
            if separator == ",":
                _check_commas(sample, where)
            return dialect
    return _Dialect(" ", ".")


def _check_commas(lines: list[str], where: str) -> None:
    """Commas between cells and commas in numbers look alike: "1,0,006398" is two numbers, not three."""
    cells = [split_cells(line, ",") for line in lines]
    whole = all("." not in cell and "e" not in cell.lower() for row in cells for cell in row)
    if whole and any(_LEADING_ZERO.match(cell) for row in cells for cell in row[1:]):
        raise SpectrumError(
            f"{where} has decimal commas, and commas between its columns",
            fix="write it again with semicolons between the columns, or with decimal points",
            field="file",
        )


def _fill(table: Table, lines: list[str], dialect: _Dialect, where: str) -> None:
    """Sort the lines into header, blocks and what belongs to neither."""
    block, labelled = Block(), 0
    row: Row | None
    cut = None if dialect.separator == " " else dialect.separator
    plain = dialect.decimal == "." and all(map(str.isascii, lines))
    waiting: list[tuple[int, str]] = []  # lines that may head the next block; 0 for those that may stand anywhere
    for number, raw in enumerate(lines, start=1):
        if plain and block.rows and not waiting and "_" not in raw:
            row = _plain_row(raw, cut)
            if row is not None and len(row) == len(block.rows[0]):
                block.rows.append(row)
                continue
        line = raw.strip(" \r\n\x1a\x00")  # a tab before the first name stands for an empty cell
        if not line.strip():
            if block.rows:
                waiting.append((0, ""))
            continue
        if line.startswith(_COMMENT) and not (line[0] == ";" and dialect.separator == ";"):
            if block.rows:
                waiting.append((0, line.lstrip("#%!/;' \t")))
            else:
                table.header.append(line.lstrip("#%!/;'").strip())
                table.bare.append(False)
            continue
        row = dialect.row(_bare(raw)) if _is_data(raw) else None
        # Mantid writes a spectrum's number on a line of its own above its points.
        if row is None or (len(row) == 1 and line.isdigit()):
            if row is None and _is_data(raw) and (block.rows or _looks_damaged(dialect, line)):
                raise _not_numbers(number, line, where)
            if block.rows:
                waiting.append((number, line))
            elif row is not None:
                block.label, labelled = line, number
            else:
                table.header.append(line)
                table.bare.append(True)
            continue
        if len(row) < 2:
            raise SpectrumError(f"line {number} of {where} has 1 column", fix=_GIVE, field="file")
        if block.rows:
            if waiting and row[0] <= block.rows[-1][0] > block.rows[0][0]:
                table.blocks.append(block)
                block = Block(label=next((text for _, text in reversed(waiting) if text), ""))
            elif text := next((item for item in waiting if item[0]), None):
                raise _not_numbers(*text, where)
            elif len(row) != len(block.rows[0]):
                raise SpectrumError(
                    f"line {number} of {where} has {len(row)} columns, the first had {len(block.rows[0])}",
                    fix=_REPAIR,
                    field="file",
                )
        waiting.clear()
        block.rows.append(row)
    if text := next((item for item in waiting if item[0]), None):
        raise _not_numbers(*text, where)
    table.blocks.append(block)
    if not block.rows:
        what = f"line {labelled} of {where} has 1 column" if block.label else f"{where} holds no numbers"
        raise SpectrumError(what, fix=_GIVE, field="file")


def _plain_row(raw: str, separator: str | None) -> Row | None:
    """A row of the usual kind, which most lines are: numbers as Python reads them, the dialect's care not needed."""
    try:
        return tuple(map(float, raw.split(separator)))
    except ValueError:
        return None


def _looks_damaged(dialect: _Dialect, line: str) -> bool:
    """Whether a line above all numbers is one of them, and damaged, rather than a remark that begins with a number."""
    cells = dialect.cells(line)
    numbers = sum(dialect.row(cell) is not None for cell in cells if cell)
    return len(cells) > 1 and 2 * numbers >= len(cells)


def _not_numbers(number: int, line: str, where: str) -> SpectrumError:
    return SpectrumError(f"line {number} of {where} is not numbers ({line[:40]!r})", fix=_REPAIR, field="file")


def _drop_empty_columns(table: Table) -> None:
    """Separators before or behind every line make a column of nothing."""
    for at, kept in ((-1, slice(None, -1)), (0, slice(1, None))):
        while all(len(block.rows[0]) > 2 and all(row[at] != row[at] for row in block.rows) for block in table.blocks):
            table.dropped += at == -1
            table.dropped_first += at == 0
            for block in table.blocks:
                block.rows = [row[kept] for row in block.rows]


def _check_end(table: Table, body: list[str], dialect: _Dialect, where: str) -> None:
    """A file that was cut within its last number would give a wrong one."""
    last = dialect.cells(body[-1])[-1]
    others = [dialect.cells(line)[-1] for line in body[:-1]]

    def decimals(cell: str) -> int:
        return len(cell.partition(dialect.decimal)[2])

    same = {decimals(cell) for cell in others}
    if len(same) == 1 and decimals(last) < min(same):
        raise SpectrumError(
            f"the last line of {where} is cut short ({body[-1][-40:]!r})", fix="write or copy it again", field="file"
        )
    if len(last) < min(len(cell) for cell in others):
        table.notes.append("it ends within a line: its last number may be cut short")
