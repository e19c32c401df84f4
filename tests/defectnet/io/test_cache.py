"""Tables in memory that processes share: one file, mapped; what is damaged, small or cannot be kept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import TableError
from defectnet.io.cache import cache_folder, shared_tables
from defectnet.io.storage import Location

ROWS = 20_000

MEMORY_OF_MAPPED = """
import sys
import time
import pyarrow as pa
from defectnet.io.cache import shared_tables
from defectnet.io.storage import Location
from pyarrow import parquet
def read(file):
    raise SystemExit("it was read again")
tables = shared_tables([Location(sys.argv[1])], read, version="1")
print(pa.total_allocated_bytes(), tables[0].num_rows, tables[0]["x"][7].as_py())
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Location]:
    """Two Parquet files of random numbers, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    found = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"x": random.random(ROWS * 10), "name": [name] * ROWS * 10}), path)
        found.append(Location(str(path)))
    return found


def read(file: Location) -> pa.Table:
    return pq.read_table(file.text)


def copies() -> list[Path]:
    return list((cache_folder() / "tables").glob("*.arrow"))


def no_reading(file: Location) -> pa.Table:
    raise AssertionError(f"{file} was read again")


def test_a_second_reader_maps_what_the_first_wrote(files: list[Location]):
    first = shared_tables(files, read, version="1")
    assert [table.num_rows for table in first] == [ROWS * 10, ROWS * 10]
    assert first[1].equals(read(files[1]))
    second = shared_tables(files, no_reading, version="1")
    assert second[0].equals(first[0])
    assert len(copies()) == 1


def test_another_process_has_no_copy_of_its_own(files: list[Location]):
    expected = shared_tables(files[:1], read, version="1")[0]["x"][7].as_py()
    told = subprocess.run(
        [sys.executable, "-c", MEMORY_OF_MAPPED, files[0].text], check=True, capture_output=True, text=True
    ).stdout.split()
    assert (int(told[0]), int(told[1]), float(told[2])) == (0, ROWS * 10, expected)


@pytest.mark.parametrize("change", ["content", "version"])
def test_other_content_and_another_version_have_a_copy_of_their_own(files: list[Location], change: str):
    shared_tables(files, read, version="1")
    if change == "content":
        pq.write_table(pa.table({"x": np.random.default_rng(1).random(ROWS * 10)}), files[0].text)
    (table, *_) = shared_tables(files[:1], read, version="1" if change == "content" else "2")
    assert table.equals(read(files[0]))
    assert len(copies()) == 2


@pytest.mark.parametrize("damage", [b"", b"ARROW1\0\0 and no more"])
def test_a_damaged_copy_is_written_again(files: list[Location], damage: bytes):
    shared_tables(files, read, version="1")
    copies()[0].write_bytes(damage)
    assert shared_tables(files, read, version="1")[0].equals(read(files[0]))
    assert shared_tables(files, no_reading, version="1")[0].num_rows == ROWS * 10


def test_who_comes_second_maps_the_first_ones(files: list[Location]):
    """Both found no copy and write one; that of the second is not kept, or each would map another file."""

    def meanwhile(file: Location) -> pa.Table:
        shared_tables(files[:1], read, version="1")
        inodes.append(copies()[0].stat().st_ino)
        return read(file)

    inodes: list[int] = []
    shared_tables(files[:1], meanwhile, version="1")
    assert [path.stat().st_ino for path in copies()] == inodes


def test_a_folder_that_cannot_be_written_costs_memory_alone(
    files: list[Location], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/no-such-folder")
    assert shared_tables(files, read, version="1")[0].equals(read(files[0]))
    assert "cannot be kept" in caplog.text


def test_what_is_small_is_not_kept(tmp_path: Path, files: list[Location]):
    small = tmp_path / "small.parquet"
    pq.write_table(pa.table({"x": [1.0]}), small)
    assert shared_tables([Location(str(small))], read, version="1")[0].num_rows == 1
    assert not (cache_folder() / "tables").exists()


def test_an_error_of_the_reader_is_raised_and_leaves_nothing(files: list[Location]):
    def broken(file: Location) -> pa.Table:
        raise TableError("is no library", field="responses")

    with pytest.raises(TableError, match="no library"):
        shared_tables(files, broken, version="1")
    assert list((cache_folder() / "tables").iterdir()) == []


def test_what_nobody_used_for_a_month_goes_when_another_is_written(files: list[Location]):
    shared_tables(files, read, version="old")
    (old,) = copies()
    shared_tables(files, read, version="used")
    (used,) = {*copies()} - {old}
    left = old.with_name(f".{old.name}.0123456789ab")
    left.write_bytes(b"cut short")
    month_ago = time.time() - 31 * 24 * 3600
    for path in (old, used, left):
        os.utime(path, (month_ago, month_ago))
    shared_tables(files, no_reading, version="used")
    shared_tables(files, read, version="new")
    assert used in copies()
    assert len(copies()) == 2
    assert not old.exists()
    assert not left.exists()
