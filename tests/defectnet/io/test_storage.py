"""Files on the local disk and in an object store (moto stands in for S3)."""

import errno
import os
from pathlib import Path

import pyarrow as pa
import pytest

from defectnet.errors import InputError, StorageError
from defectnet.io.storage import Location
from defectnet.io.tables import conform, read_spectra, write_table


@pytest.fixture(params=["path", "file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "s3":
        return Location.of(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")
    path = tmp_path / "some" / "folder"
    return Location.of(path if request.param == "path" else path.as_uri())


def test_write_list_read_remove(folder: Location) -> None:
    assert not folder.is_folder()
    assert folder.files(".txt") == []
    for name in ("b.txt", "a.txt", "_hidden.txt", "c.bin"):
        folder.child(name).write(name.encode())
    assert folder.is_folder()
    assert [file.name for file in folder.files(".txt", ".bin")] == ["a.txt", "b.txt", "c.bin"]
    with folder.child("a.txt").open() as file:
        assert file.read() == b"a.txt"
    folder.child("a.txt").write(b"again")
    with folder.child("a.txt").open() as file:
        assert file.read() == b"again"
    folder.remove("a.txt")
    folder.remove("a.txt")
    assert not folder.child("a.txt").is_file()


def test_tables(folder: Location) -> None:
    row = {"sample_id": ["a"], "host": ["Si"], "frequency_step_thz": [0.5], "dos": [[0.1] * 9]}
    table = conform(pa.table(row))
    write_table(table, folder.child("x.parquet"))
    assert read_spectra(str(folder)).equals(table)
    assert read_spectra(str(folder.child("x.parquet"))).equals(table)


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(Location.of("x/y")) == str(tmp_path / "x" / "y")


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="carries credentials; put them into the environment") as caught:
        Location.of("s3://AKIA:very-secret@bucket/x", field="input")
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nonsense://bucket/x", "https://example.org/x"])
def test_a_uri_of_an_unknown_kind(uri: str) -> None:
    with pytest.raises(InputError, match=r"input: cannot use .*; give a path, or a URI such as s3://"):
        Location.of(uri, field="input")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location.of(tmp_path / "a")
    location.write(b"old")

    def full(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match=r"cannot write .*/a \(No space left on device\); make room"):
        location.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".a.0123.partial").write_bytes(b"half")
    (tmp_path / "a").write_bytes(b"whole")
    Location.of(tmp_path).sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_no_such_bucket_is_one_sentence(bucket: str) -> None:
    with pytest.raises(StorageError, match="cannot write s3://none/a") as caught:
        Location.of("s3://none/a").write(b"x")
    assert "\n" not in str(caught.value)
