"""The plan of a batch and what a second run finds of the first."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import InputError, TableError
from defectnet.io.storage import Location
from defectnet.io.tables import PREDICTIONS_SCHEMA, write_table
from serving.batch import shards as module
from serving.batch.shards import WEIGHTS_KEY, Shard, finished, plan_shards

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


def plan(path: Path, shard_rows: int) -> list[Shard]:
    return plan_shards(Location.of(path), shard_rows)


def test_plan(folder: Path):
    a, b = Location.of(folder / "a.parquet"), Location.of(folder / "b.parquet")
    assert plan(folder, 3) == [
        Shard("part-000000.parquet", a, 0, 3),
        Shard("part-000001.parquet", a, 3, 2),
        Shard("part-000002.parquet", b, 0, 3),
    ]


def test_a_small_input_is_cut_finer(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LEAST_ROWS", 1)
    monkeypatch.setattr(module, "_SHARDS_AT_LEAST", 4)
    assert [shard.rows for shard in plan(folder, 4096)] == [2, 2, 1, 2, 1]


def test_a_file_without_rows_has_a_shard(tmp_path: Path, spectra_table: Table):
    write_table(spectra_table(0), tmp_path / "none.parquet")
    assert [shard.rows for shard in plan(tmp_path / "none.parquet", 10)] == [0]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"sample_id,host\n", None])
def test_what_is_no_parquet(tmp_path: Path, content: bytes | None):
    path = tmp_path / "a.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TableError) as caught:
        plan(path, 10)
    assert "\n" not in str(caught.value)
    assert caught.value.field == "input"


def test_truncated_parquet(folder: Path):
    path = folder / "b.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TableError, match="write or copy it again"):
        plan(folder, 10)


def test_a_missing_column_is_named(tmp_path: Path, spectra_table: Table):
    pq.write_table(spectra_table(3).drop_columns(["host"]), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="no column 'host'"):
        plan(tmp_path / "a.parquet", 10)


def test_finished_shards_are_found_and_checked(folder: Path, tmp_path: Path):
    shards = plan(folder, 3)
    out = Location.of(tmp_path / "out")
    assert finished(shards, out, "w") == {}
    write_table(predictions(["s0", "s1", "s2"]), out.child(shards[0].name))
    write_table(predictions(["t0", "t1", "t2"]), out.child(shards[2].name))
    out.child(shards[1].name).write(b"damaged")
    assert finished(shards, out, "w") == {shards[0].name: 1, shards[2].name: 0}
    with pytest.raises(InputError, match="another model"):
        finished(shards, out, "other")


def test_a_part_cut_short_is_not_finished(folder: Path, tmp_path: Path):
    shards, out = plan(folder, 3), tmp_path / "out"
    write_table(predictions(["s0", "s1", "s2"]), out / shards[0].name)
    whole = (out / shards[0].name).read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        (out / shards[0].name).write_bytes(whole[:length])
        assert finished(shards, Location.of(out), "w") == {}


@pytest.mark.parametrize(("name", "ids"), [("part-000000.parquet", ["x", "y", "z"]), ("part-000009.parquet", ["s0"])])
def test_a_folder_with_other_predictions_is_refused(folder: Path, tmp_path: Path, name: str, ids: list[str]):
    write_table(predictions(ids), tmp_path / "out" / name)
    with pytest.raises(InputError, match="choose an empty folder"):
        finished(plan(folder, 3), Location.of(tmp_path / "out"), "w")
