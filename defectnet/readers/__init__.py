"""Readers of spectrum files, each chosen by what is in the file and not by its name alone.

One file holds one spectrum (`read_file`, or `read_spectrum` for the density alone); a Parquet file in the project's own
schema holds many (`defectnet.io.tables.read_spectra`), and `is_parquet` tells the two apart. Every format is a file of
this folder with its `FORMATS`; all of them give the same `Reading`, which says what was understood. `compatible` says
whether a sample's and a reference's readings can be compared, and makes them so where it is known how.
"""

import re
from pathlib import Path

from defectnet.errors import InputError, SpectrumError, TableError, UnitError
from defectnet.readers import (
    abinit,
    castep,
    dave,
    gpumd,
    hdf5_tables,
    json_files,
    mantid,
    ncmat,
    nexus,
    numpy_files,
    phonopy_files,
    spreadsheet,
    text,
    xmgrace,
)
from defectnet.readers.content import Source, Wish, load
from defectnet.readers.header import refuse_optical
from defectnet.readers.not_read import NOT_READ
from defectnet.readers.pair import Pair, compatible
from defectnet.readers.phonopy_files import load_phonopy
from defectnet.readers.reading import AxisUnit, Broadening, Column, Reading
from defectnet.readers.registry import Format
from defectnet.readers.text import parse_text
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit

__all__ = [
    "FORMATS",
    "AxisUnit",
    "Broadening",
    "Column",
    "Format",
    "Pair",
    "Reading",
    "compatible",
    "format_of",
    "is_parquet",
    "load_phonopy",
    "parse_text",
    "read_file",
    "read_like",
    "read_spectrum",
]

_PARQUET_MAGIC = b"PAR1"

# In the order in which they are tried: the special before the general.
FORMATS: tuple[Format, ...] = (
    *mantid.FORMATS,
    *phonopy_files.FORMATS,
    *abinit.FORMATS,
    *hdf5_tables.FORMATS,
    *nexus.FORMATS,
    *spreadsheet.FORMATS,
    *numpy_files.FORMATS,
    *json_files.FORMATS,
    *castep.FORMATS,
    *ncmat.FORMATS,
    *dave.FORMATS,
    *xmgrace.FORMATS,
    *gpumd.FORMATS,
    *text.FORMATS,
)


def is_parquet(path: str | Path) -> bool:
    """Whether the file begins like Parquet, or says by its suffix that it should.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_PARQUET_MAGIC))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", fix="check the path", field="file") from None
    return start == _PARQUET_MAGIC or path.suffix == ".parquet"


def read_file(
    path: str | Path,
    unit: FrequencyUnit | str | None = None,
    *,
    column: str | None = None,
    spectrum: str | None = None,
    override_unit: bool = False,
) -> Reading:
    """Read the one spectrum of a file and whatever else the file says of it.

    Every format of `docs/formats.md`, compressed (.gz, .xz, .bz2) or not.

    Args:
        path: the file.
        unit: unit of its frequency axis; needed where the file does not say.
        column: name or number (from 1 on) of the density, in a table of several columns.
        spectrum: name or number (from 1 on) of the spectrum, in a file of several.
        override_unit: whether `unit` holds even where the file says another; a note then names both.

    Raises:
        InputError: there is no such file, it is Raman or infrared data, or has nothing to choose from.
        TableError: the file is Parquet, a table of many spectra.
        UnitError: neither the file nor `unit` says the unit, or they contradict each other.
        SpectrumError: what the file holds is no spectrum.
    """
    if override_unit and unit is None:
        raise UnitError("says no unit to take instead", fix="give --unit too", field="--override-unit")
    source = load(Path(path), Wish(unit, column, spectrum, override_unit))
    form = format_of(source)
    for option, wanted in (("column", column), ("spectrum", spectrum)):
        if wanted is not None and option not in form.chooses:
            raise InputError(
                f"{path} is {form.name}, without a {option} to choose", fix="leave it out", field=f"--{option}"
            )
    try:
        return form.read(source)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
        # A reader foresees what is usual; for the rest, one sentence is better than a traceback.
        raise SpectrumError(
            f"{path} could not be understood as {form.name} ({type(error).__name__})",
            fix="write it again, or export two columns of text",
            field="file",
        ) from error


def read_like(
    path: str | Path, unit: str | None = None, *, column: str | None = None, spectrum: str | None = None
) -> Reading:
    """Read a reference: by what its file says, and where that leaves something open, by what was said of the sample.

    Arguments and errors as in `read_file`.
    """
    try:
        return read_file(path)
    except (UnitError, SpectrumError) as error:
        for named, chosen in ((None, None), (column, None), (None, spectrum), (column, spectrum)):
            if unit is None and named is None and chosen is None:
                continue
            try:
                return read_file(path, unit, column=named, spectrum=chosen)
            except InputError as again:
                error = again if isinstance(again, UnitError | SpectrumError) else error
        raise error from None


def format_of(source: Source) -> Format:
    """Which format the bytes of a file are of.

    Raises:
        TableError: Parquet, a table of many spectra.
        SpectrumError: a format that is known and not read, or of no known kind; says what to export.
        InputError: Raman or infrared data.
    """
    where = source.where
    if source.content.startswith(_PARQUET_MAGIC):
        raise TableError(f"{where} is a Parquet table", fix="give one spectrum as text", field="file")
    for form in FORMATS[:-1]:
        if form.recognises(source):
            return form
    for known in NOT_READ:
        if known.recognises(source):
            refuse_optical(source.head[:4000].splitlines(), where)
            more = "" if re.search(r"\bno[nt]?e?\b", known.name) else ", which is not read"
            raise SpectrumError(f"{where} is {known.name}{more}", fix=known.instead, field="file")
    return FORMATS[-1]


def read_spectrum(path: str | Path, unit: FrequencyUnit | str | None = None) -> Spectrum:
    """The density of states of a file; arguments and errors as in `read_file`."""
    return read_file(path, unit).spectrum
