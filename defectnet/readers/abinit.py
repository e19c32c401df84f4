"""ABINIT's densities of states: `_PHDOS` (text) and `_PHDOS.nc` (netCDF).

The text's columns are frequency, density, its integral, and for each kind of atom its density and integral; the unit
stands in its header ("Energy in Ha"). The netCDF file is in eV by definition (`wmesh`, `phdos`).
"""

import io
import re
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.header import broadening_said
from defectnet.readers.reading import Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.units import SaidUnit, find_unit

__all__ = ["FORMATS"]

_UNIT = re.compile(r"Energy in\s+(\S+?),", re.IGNORECASE)
_TITLE = "Phonon density of states and"
_CDF = (b"CDF\x01", b"CDF\x02")


def _read_text(source: Source) -> Reading:
    where = source.where
    table = read_table(source.text, where)
    values = np.array(table.blocks[0].rows)
    header = "\n".join(table.header)
    match = _UNIT.search(header)
    unit = find_unit(match[1]) if match else None
    axis = settle_unit([(unit, "its line 'Energy in'")] if unit else [], source.wish, where, "ABINIT's default is Ha")
    found = Found(
        values[:, 0],
        values[:, 1],
        kind="vibrational",
        broadening=broadening_said(table.header, axis.thz),
        origin="computed",
        notes=table.notes,
    )
    return assemble(found, axis, "ABINIT PHDOS", where)


def _read_netcdf(source: Source) -> Reading:
    where = source.where
    try:
        variables = _variables(source)
        omega, total = variables["wmesh"], variables["phdos"]
        partial = _kinds(variables)
    except (OSError, KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError):
        raise SpectrumError(f"{where} is not a whole PHDOS.nc of ABINIT", fix="write it again", field="file") from None
    unit = settle_unit([(find_unit("eV") or SaidUnit("eV", None), "ABINIT")], source.wish, where)
    found = Found(omega, total, partial=partial, kind="vibrational", origin="computed")
    return assemble(found, unit, "ABINIT PHDOS.nc", where)


def _variables(source: Source) -> dict[str, NDArray[Any]]:
    names = ("wmesh", "phdos", "pjdos_type", "chemical_symbols")
    if source.content.startswith(_CDF):
        from scipy.io import netcdf_file

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with netcdf_file(io.BytesIO(source.content), "r", mmap=False) as file:
                return {name: np.array(file.variables[name][:]) for name in names if name in file.variables}
    import h5py

    with h5py.File(io.BytesIO(source.content), "r") as file:
        return {name: np.array(file[name]) for name in names if name in file}


def _kinds(variables: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """The elements' parts, where the file names its kinds of atoms."""
    if "pjdos_type" not in variables or "chemical_symbols" not in variables:
        return {}
    symbols = [b"".join(np.ravel(row)).decode().strip("\x00 ") for row in variables["chemical_symbols"]]
    parts = np.atleast_2d(variables["pjdos_type"])
    return {symbol: np.array(part, dtype=float) for symbol, part in zip(symbols, parts, strict=True)}


FORMATS = (
    Format(
        "ABINIT `PHDOS` (text)",
        "the total density",
        "the file says",
        "abinit_PHDOS",
        lambda source: _TITLE in source.head[:2000] and "PHDOS" in source.head[:2000],
        _read_text,
    ),
    Format(
        "ABINIT `PHDOS.nc` (netCDF)",
        "the density and the elements' parts",
        "eV, by definition",
        "abinit_PHDOS.nc",
        lambda source: (
            source.holds("wmesh", "phdos") or (source.content.startswith(_CDF) and b"wmesh" in source.content[:20_000])
        ),
        _read_netcdf,
    ),
)
