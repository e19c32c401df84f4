"""Readers of spectrum files, each chosen by what is in the file and not by its name alone.

Text, JSON, YAML and HDF5 files hold one spectrum (`read_file`, or `read_spectrum` for the density alone); a Parquet
file in the project's own schema holds many (`defectnet.io.tables.read_spectra`), and `is_parquet` tells the two apart.
"""

from pathlib import Path

from defectnet.errors import InputError, SpectrumError, TableError
from defectnet.readers.castep import parse_castep
from defectnet.readers.json_files import parse_json
from defectnet.readers.phonopy_files import is_phonopy_yaml, parse_mesh_yaml, read_phonopy_yaml
from defectnet.readers.reading import Reading
from defectnet.readers.text import parse_text
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit

__all__ = ["Reading", "is_parquet", "parse_text", "read_file", "read_spectrum"]

_PARQUET_MAGIC = b"PAR1"
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def is_parquet(path: str | Path) -> bool:
    """Whether the file begins like Parquet, or says by its suffix that it should.

    Raises:
        InputError: there is no such file.
    """
    path = Path(path)
    return _read_bytes(path, len(_PARQUET_MAGIC)) == _PARQUET_MAGIC or path.suffix == ".parquet"


def read_file(path: str | Path, unit: FrequencyUnit | str | None = None) -> Reading:
    """Read the one spectrum of a file and whatever else the file says of it.

    Text and CSV of two or three columns, phonopy's `total_dos.dat`, `projected_dos.dat`, `mesh.yaml` and `phonopy.yaml`
    with force constants, Euphonic's and pymatgen's JSON, CASTEP's `.phonon_dos` and `.phonon`, NeXus.

    Args:
        path: the file.
        unit: unit of its frequency axis; needed where the file does not say.

    Raises:
        InputError: there is no such file.
        TableError: the file is Parquet, a table of many spectra.
        UnitError: neither the file nor `unit` says the unit, or they contradict each other.
        SpectrumError: what the file holds is no spectrum.
    """
    path = Path(path)
    where = str(path)
    content = _read_bytes(path)
    if content.startswith(_PARQUET_MAGIC):
        raise TableError(f"{path} is a Parquet table", fix="give one spectrum as text", field="file")
    if content.startswith(_HDF5_MAGIC):
        from defectnet.readers.nexus import read_nexus

        return read_nexus(path, unit)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpectrumError(
            f"{path} is not text", fix="give columns of text, NeXus, or a Parquet file of spectra", field="file"
        ) from None
    start = text.lstrip()
    if start.startswith(("{", "[")):
        return parse_json(text, unit, where=where)
    if start.startswith("BEGIN header"):
        return parse_castep(text, unit, where=where)
    match is_phonopy_yaml(text):
        case "phonopy":
            return read_phonopy_yaml(path, unit)
        case "mesh":
            return parse_mesh_yaml(text, unit, where=where)
        case "band":
            raise SpectrumError(
                f"{path} is a band structure, not a density of states", fix="give a mesh or a density", field="file"
            )
    return parse_text(text, unit, where=where)


def read_spectrum(path: str | Path, unit: FrequencyUnit | str | None = None) -> Spectrum:
    """The density of states of a file; arguments and errors as in `read_file`."""
    return read_file(path, unit).spectrum


def _read_bytes(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", fix="check the path", field="file") from None
