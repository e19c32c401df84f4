"""HDF5 files whose data sets are named after what they are: TDEP's `outfile.phonon_dos.hdf5`, `frequency` and `dos`."""

from typing import Any

import numpy as np

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.column_names import Role, role_of
from defectnet.readers.content import Source
from defectnet.readers.nexus import attribute, opened
from defectnet.readers.reading import Reading, unit_words
from defectnet.readers.registry import Format
from defectnet.units import find_unit

__all__ = ["FORMATS"]

_GIVE = "give data sets frequency and dos of equal length"


def _pair(source: Source) -> tuple[str, str] | None:
    """The data sets of axis and density, where their names leave no doubt."""
    axes = sorted(name for name in source.names if role_of(name) == Role.AXIS)
    totals = sorted(name for name in source.names if role_of(name) == Role.TOTAL)
    dense = totals or sorted(name for name in source.names if role_of(name) == Role.DENSITY)
    return (axes[0], dense[0]) if len(axes) == 1 and len(dense) == 1 else None


def _read(source: Source) -> Reading:
    return opened(source, lambda file: _columns(file, source), _GIVE)


def _columns(file: Any, source: Source) -> Reading:
    pair = _pair(source)
    assert pair is not None
    axis, density = pair
    x, y = np.squeeze(np.asarray(file[axis][()], dtype=float)), np.squeeze(np.asarray(file[density][()], dtype=float))
    if x.ndim != 1 or y.ndim != 1:
        raise SpectrumError(f"{source.where} has densities of shape {y.shape}", fix=_GIVE, field="file")
    words = attribute(file[axis], "units") or attribute(file[axis], "unit") or (axis if find_unit(axis) else "")
    unit = unit_words(
        words, source.wish, source.where, "the data set's attribute", "TDEP's and phonopy's default is THz"
    )
    error = next((name for name in sorted(source.names) if role_of(name) == Role.ERROR), None)
    errors = None if error is None else np.asarray(file[error][()], dtype=float)
    return assemble(Found(x, y, error=errors), unit, "HDF5 of frequency and density", source.where)


FORMATS = (
    Format(
        "HDF5 of TDEP, phonopy's total density, others",
        "data sets with such names as `frequencies` and `dos`",
        "the data set's attribute, or `--unit`",
        "tdep.hdf5",
        lambda source: _pair(source) is not None,
        _read,
    ),
)
