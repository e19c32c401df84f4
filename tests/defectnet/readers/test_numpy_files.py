"""NumPy's files: every layout of the same columns, and nothing that would have to be unpickled."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from defectnet.errors import InputError
from defectnet.readers import Reading, read_file

THZ = np.linspace(0.1, 15.0, 120)
DOS = np.exp(-((THZ - 8.0) ** 2)) + 0.01
ERROR = np.full(120, 0.02)


def npy(array: Any, **options: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array, **options)
    return sink.getvalue()


def npz(save: Any = np.savez, **arrays: Any) -> bytes:
    sink = io.BytesIO()
    save(sink, **arrays)
    return sink.getvalue()


def read(tmp_path: Path, content: bytes, name: str = "a.bin", **wish: Any) -> Reading:
    (tmp_path / name).write_bytes(content)
    return read_file(tmp_path / name, **wish)


def same(found: Reading, errors: bool) -> None:
    np.testing.assert_allclose(found.spectrum.frequency_thz, THZ)
    np.testing.assert_allclose(found.spectrum.dos, DOS, rtol=1e-6)
    assert (found.error is not None) == errors


STRUCTURED = np.array(
    list(zip(THZ, DOS, ERROR, strict=True)), dtype=[("frequency_thz", "<f8"), ("dos", "<f8"), ("error", "<f8")]
)


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (npz(frequency_thz=THZ, dos=DOS, error=ERROR), True),
        (npz(np.savez_compressed, frequency_thz=THZ, dos=DOS), False),
        (npz(frequency_thz=THZ[:, None], dos=DOS.astype(">f4"), note=np.array("Si")), False),
        (npz(data=STRUCTURED), True),
        (npy(STRUCTURED), True),
    ],
)
def test_named_columns_are_read_by_their_names(tmp_path: Path, content: bytes, errors: bool) -> None:
    same(read(tmp_path, content), errors)


@pytest.mark.parametrize("array", [np.c_[THZ, DOS], np.asfortranarray(np.c_[THZ, DOS]), np.stack([THZ, DOS])])
def test_an_array_without_names_needs_its_unit(tmp_path: Path, array: Any) -> None:
    with pytest.raises(InputError, match="does not say its unit"):
        read(tmp_path, npy(array))
    same(read(tmp_path, npy(array), unit="THz"), False)
    same(read(tmp_path, npy(np.c_[THZ, DOS, ERROR]), unit="THz"), True)
    same(read(tmp_path, npz(frequency_thz=THZ, doped=DOS, pristine=DOS + 1), column="doped"), False)


def bomb() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("dos.npy", bytes(1 << 27))
    return sink.getvalue()


def claimed(shape: tuple[int, ...]) -> bytes:
    """A header that describes more than there is."""
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return sink.getvalue() + bytes(64)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(np.array([{"a": 1}]), allow_pickle=True), "Python objects, which are never unpickled"),
        (npz(frequency_thz=THZ, dos=np.array([print])), "Python objects, which are never unpickled"),
        (b"\x93NUMPY\x01\x00" + pickle.dumps(THZ), "not a whole NumPy file"),
        (npy(np.c_[THZ, DOS])[:-9], "not a whole NumPy file"),
        (claimed((1 << 40, 2)), "not a whole NumPy file"),
        (npz(frequency_thz=THZ, dos=DOS)[:-40], "is an archive"),
        (bomb(), "is too large"),
        (npz(frequency_thz=THZ, dos=DOS[:-1]), "holds no columns of one length"),
        (npz(dos=DOS), "holds no columns of one length"),
        (npy(np.zeros((5, 100, 100))), "holds no columns of one length"),
        (npz(raman_shift=THZ, intensity=DOS), "it speaks of 'raman'"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, content, unit="THz")
