"""NumPy's `.npy` and `.npz`: columns of an array, of a structured one, or of the arrays of an archive by their names.

The arrays are read from their plain bytes; one that holds Python objects, which would have to be unpickled, is refused.
"""

import io
import math
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from defectnet.errors import SpectrumError
from defectnet.readers.content import Source
from defectnet.readers.reading import Reading
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.readers.text import read_columns

__all__ = ["FORMATS"]

_MAGIC, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
# What an archive's arrays may hold together: a spectrum has some thousand points.
_MAX_BYTES = 1 << 26
# An array of columns has fewer of them than points.
_MOST_COLUMNS = 64


def _read(source: Source) -> Reading:
    where = source.where
    try:
        names, columns = _columns(_arrays(source.content, where), where)
    except (ValueError, KeyError, OSError, EOFError, NotImplementedError, zipfile.BadZipFile, RuntimeError):
        raise SpectrumError(f"{where} is not a whole NumPy file", fix="write or copy it again", field="file") from None
    head = ["\t".join(name.replace("\t", " ") for name in names)] if names else []
    rows = ["\t".join(map(repr, row)) for row in np.stack(columns, axis=1).astype(np.float64).tolist()]
    return read_columns(read_table("\n".join([*head, *rows, ""]), where), source.wish, where, "NumPy arrays")


def _arrays(content: bytes, where: str) -> dict[str, NDArray[Any]]:
    """The arrays of a file by their names; the only one of a `.npy` has none."""
    if content.startswith(_MAGIC):
        return {"": _array(content, where)}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(item.file_size for item in archive.infolist()) > _MAX_BYTES:
            raise SpectrumError(f"{where} is too large", fix="give one spectrum", field="file")
        return {name.removesuffix(".npy"): _array(archive.read(name), where) for name in archive.namelist()}


def _array(content: bytes, where: str) -> NDArray[Any]:
    """The array that a header describes and the bytes behind it are."""
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject:
        raise SpectrumError(
            f"{where} holds Python objects, which are never unpickled",
            fix="save plain arrays of numbers",
            field="file",
        )
    if math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError
    flat = np.frombuffer(content, dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


def _columns(arrays: dict[str, NDArray[Any]], where: str) -> tuple[list[str], Sequence[NDArray[Any]]]:
    """Names (none where they have none) and columns, each of shape (n,)."""
    lists = {name: np.squeeze(array) for name, array in arrays.items() if array.dtype.kind in "fiuV"}
    if len(lists) == 1:
        (array,) = lists.values()
        if array.dtype.names:
            return list(array.dtype.names), [array[name] for name in array.dtype.names]
        if array.ndim == 2 and min(array.shape) <= _MOST_COLUMNS:
            return [], list(array.T if array.shape[1] < array.shape[0] else array)
    lists = {name: array for name, array in lists.items() if array.ndim == 1 and array.dtype.kind in "fiu"}
    if len(lists) < 2 or len({array.size for array in lists.values()}) > 1:
        shapes = ", ".join(f"{name or 'array'} {array.shape}" for name, array in list(arrays.items())[:6])
        raise SpectrumError(
            f"{where} holds no columns of one length ({shapes})",
            fix="save frequency and density, each of shape (n,), by their names",
            field="file",
        )
    return list(lists), list(lists.values())


def _recognises(source: Source) -> bool:
    if source.content.startswith(_MAGIC):
        return True
    if not source.content.startswith(_ZIP):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(source.content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


FORMATS = (
    Format(
        "NumPy `.npy`, `.npz`",
        "columns of an array, of a structured one by their names, or an archive's arrays by theirs; pickled ones are "
        "refused",
        "a name, or `--unit`",
        "columns.npz",
        _recognises,
        _read,
        ("column",),
    ),
)
