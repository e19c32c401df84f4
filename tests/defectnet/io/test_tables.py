from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import TableError
from defectnet.io.compact import compacted
from defectnet.io.tables import PREDICTIONS_SCHEMA, SPECTRA_SCHEMA, conform, read_spectra, write_table

DOS = [0.0, 0.1, 0.5, 0.9, 0.5, 0.3, 0.1, 0.0, 0.2]


def minimal(**changes: Any) -> pa.Table:
    return pa.table({"sample_id": ["a"], "host": ["Si"], "frequency_step_thz": [0.5], "dos": [DOS]} | changes)


def test_a_measured_table_needs_four_columns() -> None:
    table = conform(minimal())
    assert table.schema == SPECTRA_SCHEMA
    assert table["kind"].to_pylist() == [None]


@pytest.mark.parametrize("dtype", [pa.float16(), pa.float64()])
def test_other_precisions_are_cast(dtype: pa.DataType) -> None:
    dos = pa.array([np.asarray(DOS, dtype.to_pandas_dtype())], pa.list_(dtype))
    cast = conform(minimal(dos=dos))["dos"]
    assert cast.type == pa.list_(pa.float32())
    np.testing.assert_allclose(cast[0].as_py(), DOS, atol=5e-4)


def test_columns_that_nobody_knows_are_dropped() -> None:
    assert conform(minimal(beamline=["IN4"])).column_names == SPECTRA_SCHEMA.names


@pytest.mark.parametrize("name", ["sample_id", "host", "frequency_step_thz", "dos"])
def test_a_missing_column_is_named(name: str) -> None:
    with pytest.raises(TableError, match=f"{name}: my table has no column '{name}'; add it"):
        conform(minimal().drop_columns([name]), where="my table")


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(TableError, match=r"dos: table has string where list<.*> belongs; convert the column"):
        conform(minimal(dos=["0.1 0.2"]))


def test_errors_are_an_optional_column() -> None:
    assert conform(minimal())["uncertainty"].to_pylist() == [None]
    given = pa.array([[0.1, None, *[0.2] * 7]], pa.list_(pa.float64()))
    found = conform(minimal(uncertainty=given))["uncertainty"]
    assert found.type == pa.list_(pa.float32())
    assert found[0].as_py() == pytest.approx([0.1, None, *[0.2] * 7])


@pytest.mark.parametrize("version", ["1", "1.1", "1.7", "2"])
def test_versions_that_are_known_are_read(version: str) -> None:
    metadata = {"defectnet_schema": "spectra", "defectnet_schema_version": version}
    empty = minimal().slice(0, 0).replace_schema_metadata(metadata)
    if version == "2":
        empty = compacted(minimal()).slice(0, 0)
    assert conform(empty).schema.equals(SPECTRA_SCHEMA, check_metadata=True)


@pytest.mark.parametrize("version", ["3", "3.1", "22", "", "x"])
def test_a_form_of_later_is_refused(version: str) -> None:
    metadata = {"defectnet_schema": "spectra", "defectnet_schema_version": version}
    with pytest.raises(TableError, match=rf"my table is version {version} of the spectra table.* later DefectNet"):
        conform(minimal().replace_schema_metadata(metadata), where="my table")


def test_round_trip(tmp_path: Path) -> None:
    table = conform(minimal(candidates=[["Ge", "Sn"]]))
    write_table(table, tmp_path / "new" / "one.parquet")
    back = read_spectra(tmp_path / "new" / "one.parquet")
    assert back.equals(table)
    assert back.schema.metadata == SPECTRA_SCHEMA.metadata
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.parquet"]


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_table(conform(minimal(sample_id=[name])), tmp_path / f"{name}.parquet")
    assert read_spectra(tmp_path)["sample_id"].to_pylist() == ["a", "b", "c"]


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_table(conform(minimal()), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TableError, match=r"input: .*cut\.parquet is not a readable Parquet file"):
        read_spectra(path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"frequency,dos\n1,2\n"])
def test_what_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(TableError, match="not a readable Parquet file"):
        read_spectra(path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="check the path"):
        read_spectra(tmp_path / "none.parquet")
    with pytest.raises(TableError, match="check the path"):
        read_spectra(tmp_path)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    write_table(PREDICTIONS_SCHEMA.empty_table(), tmp_path / "p.parquet")
    assert pq.read_schema(tmp_path / "p.parquet").metadata[b"defectnet_schema"] == b"predictions"
