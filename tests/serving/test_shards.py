"""The plan of a batch and what a second run finds of the first."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import InputError, TableError
from defectnet.tables import PREDICTIONS_SCHEMA, write_table
from serving.shards import WEIGHTS_KEY, Shard, by_source, finished, plan_shards, read_shards

Table = Callable[..., pa.Table]


def predictions(ids: list[str], weights: str = "w") -> pa.Table:
    rows = [{"sample_id": name, "error": "bad" if name == "s1" else None} for name in ids]
    table = pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA)
    return table.replace_schema_metadata({**table.schema.metadata, WEIGHTS_KEY: weights.encode()})


@pytest.fixture
def folder(tmp_path: Path, spectra_table: Table) -> Path:
    """Two files of 5 and 3 rows; the first in row groups of 2."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    pq.write_table(spectra_table(5), inputs / "a.parquet", row_group_size=2)
    pq.write_table(spectra_table(3, prefix="t"), inputs / "b.parquet")
    return inputs


def test_plan(folder: Path):
    shards = plan_shards(folder, 3)
    a, b = str(folder / "a.parquet"), str(folder / "b.parquet")
    assert shards == [
        Shard("part-000000.parquet", a, 0, 3),
        Shard("part-000001.parquet", a, 3, 2),
        Shard("part-000002.parquet", b, 0, 3),
    ]
    assert [len(group) for group in by_source(shards)] == [2, 1]


@pytest.mark.parametrize("shard_rows", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("leave_out", [(), (0,), (1,), (0, 1)])
def test_every_row_is_read_once_and_in_order(folder: Path, shard_rows: int, leave_out: tuple[int, ...]):
    shards = plan_shards(folder / "a.parquet", shard_rows)
    pending = [shard for number, shard in enumerate(shards) if number not in leave_out]
    if not pending:
        return
    for shard, table in read_shards(pending):
        assert table["sample_id"].to_pylist() == [f"s{i}" for i in range(shard.start, shard.start + shard.rows)]


def test_long_files_are_read_in_steps(tmp_path: Path, spectra_table: Table):
    n_rows = 5000
    write_table(spectra_table(n_rows), tmp_path / "a.parquet")
    shards = plan_shards(tmp_path / "a.parquet", 700)
    for pending in (shards, shards[3:], shards[::3]):
        for shard, table in read_shards(pending):
            assert table["sample_id"].to_pylist() == [f"s{i}" for i in range(shard.start, shard.start + shard.rows)]


def test_a_file_without_rows_has_a_shard(tmp_path: Path, spectra_table: Table):
    write_table(spectra_table(0), tmp_path / "none.parquet")
    shards = plan_shards(tmp_path / "none.parquet", 10)
    assert [shard.rows for shard in shards] == [0]
    assert [table.num_rows for _, table in read_shards(shards)] == [0]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"sample_id,host\n", None])
def test_what_is_no_parquet(tmp_path: Path, content: bytes | None):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        plan_shards(path, 10)
    assert "\n" not in str(caught.value)
    assert caught.value.field == "input"


def test_truncated_parquet(folder: Path):
    path = folder / "b.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TableError, match="write or copy it again"):
        plan_shards(folder, 10)


def test_damage_inside_a_file_is_one_sentence(tmp_path: Path, spectra_table: Table):
    path = tmp_path / "a.parquet"
    write_table(spectra_table(50), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)  # the pages; the footer stays whole
    path.write_bytes(content)
    with pytest.raises(TableError, match="not a readable Parquet"):
        list(read_shards(plan_shards(path, 10)))


def test_a_missing_column_is_named(tmp_path: Path, spectra_table: Table):
    pq.write_table(spectra_table(3).drop_columns(["host"]), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="no column 'host'"):
        plan_shards(tmp_path / "a.parquet", 10)


def test_finished_shards_are_found_and_checked(folder: Path, tmp_path: Path):
    shards = plan_shards(folder, 3)
    out = tmp_path / "out"
    assert finished(shards, out, "w") == {}
    write_table(predictions(["s0", "s1", "s2"]), out / shards[0].name)
    write_table(predictions(["t0", "t1", "t2"]), out / shards[2].name)
    (out / shards[1].name).write_bytes(b"damaged")
    assert finished(shards, out, "w") == {shards[0].name: 1, shards[2].name: 0}
    with pytest.raises(InputError, match="another model"):
        finished(shards, out, "other")


@pytest.mark.parametrize(("name", "ids"), [("part-000000.parquet", ["x", "y", "z"]), ("part-000009.parquet", ["s0"])])
def test_a_folder_with_other_predictions_is_refused(folder: Path, tmp_path: Path, name: str, ids: list[str]):
    write_table(predictions(ids), tmp_path / "out" / name)
    with pytest.raises(InputError, match="choose an empty folder"):
        finished(plan_shards(folder, 3), tmp_path / "out", "w")
