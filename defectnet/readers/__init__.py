"""Readers of spectrum files, each chosen by what is in the file and not by its name alone.

A text file holds one spectrum (`read_spectrum`); a Parquet file in the project's own schema holds many
(`defectnet.tables.read_spectra`), and `is_parquet` tells the two apart.
"""

from pathlib import Path

from defectnet.errors import InputError, SpectrumError, TableError
from defectnet.readers.text import parse_text
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit

__all__ = ["is_parquet", "parse_text", "read_spectrum"]

_PARQUET_MAGIC = b"PAR1"


def is_parquet(path: str | Path) -> bool:
    """Whether the file begins like Parquet, or says by its suffix that it should.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    return _read_bytes(path, len(_PARQUET_MAGIC)) == _PARQUET_MAGIC or path.suffix == ".parquet"


def read_spectrum(path: str | Path, unit: FrequencyUnit | str | None = None) -> Spectrum:
    """Read one spectrum from a two-column text or CSV file.

    Args:
        path: the file.
        unit: unit of its frequency axis; needed where the file does not say.

    Raises:
        InputError: there is no such file.
        TableError: the file is Parquet, a table of many spectra.
        UnitError: neither the file nor `unit` says the unit, or they contradict each other.
        SpectrumError: the file is no text, or what it holds is no spectrum.
    """
    path = Path(path)
    content = _read_bytes(path)
    if content.startswith(_PARQUET_MAGIC):
        raise TableError(f"{path} is a Parquet table", fix="give one spectrum as text", field="file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpectrumError(
            f"{path} is not text", fix="give two columns of text or a Parquet file of spectra", field="file"
        ) from None
    return parse_text(text, unit, where=str(path))


def _read_bytes(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", fix="check the path", field="file") from None
