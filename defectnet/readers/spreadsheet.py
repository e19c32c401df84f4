"""Excel's `.xlsx`: the sheet with the numbers, read as the columns of a text file are. Needs the extra `[excel]`."""

import io
import zipfile
from dataclasses import replace
from typing import Any

from defectnet.errors import SpectrumError
from defectnet.extras import require
from defectnet.readers.content import Source
from defectnet.readers.nexus import choose
from defectnet.readers.reading import Reading
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.readers.text import read_columns

__all__ = ["FORMATS"]

# A sheet's rows are read up to this; a spectrum has some thousand points.
_MAX_ROWS = 200_000


def _read(source: Source) -> Reading:
    where = source.where
    require("excel", f"{where}, an Excel workbook,")
    import openpyxl

    try:
        book = openpyxl.load_workbook(io.BytesIO(source.content), read_only=True, data_only=True)
        sheets = {sheet.title: _text(sheet) for sheet in book.worksheets}
    except Exception:  # openpyxl raises whatever a damaged part of the archive leads to
        raise SpectrumError(f"{where} is not a whole Excel workbook", fix="save it again", field="file") from None
    filled = {title: text for title, text in sheets.items() if text.strip()}
    if not filled:
        raise SpectrumError(f"{where} holds no numbers", fix="give a sheet with frequency and density", field="file")
    chosen = choose(list(filled), source.wish.spectrum, where)
    wish = source.wish if len(filled) == 1 else replace(source.wish, spectrum=None)
    return read_columns(read_table(list(filled.values())[chosen], where), wish, where, "Excel workbook")


def _text(sheet: Any) -> str:
    rows = []
    for row in sheet.iter_rows(values_only=True, max_row=_MAX_ROWS):
        cells = [
            "" if cell is None else repr(float(cell)) if isinstance(cell, int | float) else str(cell) for cell in row
        ]
        rows.append("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells).rstrip("\t"))
    return "\n".join(rows).strip("\n") + "\n"


def _recognises(source: Source) -> bool:
    if not source.content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(source.content)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return source.stem.endswith((".xlsx", ".xlsm"))


FORMATS = (
    Format(
        "Excel `.xlsx`",
        "the columns of a sheet, as those of CSV; several sheets by `--spectrum`; needs the extra `defectnet[excel]`",
        "as in CSV",
        "columns.xlsx",
        _recognises,
        _read,
        ("column", "spectrum"),
    ),
)
