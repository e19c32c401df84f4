"""Reading ranges of rows from every kind of file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import TableError
from defectnet.io.compact import compacted
from defectnet.io.storage import Location
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.query import Query, iterate_rows
from serving.batch.inputs import Cursor, count_rows

Table = Callable[..., pa.Table]

N_ROWS = 23


def _parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=5)


def _arrow_file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)


def _arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=4)


def _compact(table: pa.Table, path: Path) -> None:
    pq.write_table(compacted(table), path, row_group_size=5)


def _json_lines(table: pa.Table, path: Path) -> None:
    path.write_text("\n".join(json.dumps(row) for row in table.to_pylist()) + "\n\n")


KINDS = {
    "a.parquet": _parquet,
    "a.arrow": _arrow_file,
    "a.feather": _arrow_file,
    "a.arrows": _arrow_stream,
    "a.ndjson": _json_lines,
    "a.jsonl": _json_lines,
}


@pytest.fixture(params=sorted(KINDS))
def source(request: pytest.FixtureRequest, tmp_path: Path, spectra_table: Table) -> Location:
    KINDS[request.param](spectra_table(N_ROWS), tmp_path / request.param)
    return Location.of(tmp_path / request.param)


def ids(table: pa.Table) -> list[str]:
    return table["sample_id"].to_pylist()


def expected(start: int, rows: int) -> list[str]:
    return [f"s{i}" for i in range(start, start + rows)]


def test_compact_densities_are_read_as_lists(tmp_path: Path, spectra_table: Table):
    table = spectra_table(N_ROWS)
    _compact(table, tmp_path / "spectra.parquet")
    found = Cursor(Location.of(tmp_path / "spectra.parquet")).read(3, 9)
    for row, truth in zip(found.to_pylist(), table.slice(3, 9).to_pylist(), strict=True):
        assert row["dos"] == pytest.approx(truth["dos"], abs=1e-3 * max(truth["dos"]))


@pytest.mark.parametrize("step", [1, 3, 5, 23])
def test_every_row_once_and_in_order(source: Location, step: int):
    assert count_rows(source) == N_ROWS
    cursor = Cursor(source)
    for start in range(0, N_ROWS, step):
        rows = min(step, N_ROWS - start)
        assert ids(cursor.read(start, rows)) == expected(start, rows)


@pytest.mark.parametrize("order", [(20, 3), (3, 12, 18), (7, 2, 20, 0)])
def test_any_range_in_any_order(source: Location, order: tuple[int, ...]):
    cursor = Cursor(source)
    for start in order:
        assert ids(cursor.read(start, 3)) == expected(start, 3)


def test_densities_are_the_same_in_every_kind(source: Location, spectra_table: Table):
    wanted = list(iterate_rows(spectra_table(N_ROWS), ("dos",)))[17]["dos"]
    assert next(iterate_rows(Cursor(source).read(17, 1)))["dos"] == pytest.approx(wanted, abs=1e-6)


def test_long_files_are_read_in_steps(tmp_path: Path, spectra_table: Table):
    path = tmp_path / "a.parquet"
    write_table(spectra_table(5000), path)
    for starts in (range(0, 5000, 700), range(2100, 5000, 700), range(0, 5000, 2100)):
        cursor = Cursor(Location.of(path))
        for start in starts:
            rows = min(700, 5000 - start)
            assert ids(cursor.read(start, rows)) == expected(start, rows)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_rows(tmp_path: Path, spectra_table: Table, kind: str):
    KINDS[kind](spectra_table(0), tmp_path / kind)
    source = Location.of(tmp_path / kind)
    assert count_rows(source) == 0
    assert Cursor(source).read(0, 0).num_rows == 0


def bad_lines() -> Iterator[tuple[str, str]]:
    yield "{", "line 2 is no row"
    yield "[1]", "not an object"
    yield '{"sample_id": "x", "host": "Si", "dos": "0.1 0.2", "frequency_step_thz": 0.1}', "line 2"
    yield '{"sample_id": "x", "host": "Si", "dos": [[1]], "frequency_step_thz": 0.1}', "line 2"
    yield '{"sample_id": 7, "host": "Si", "dos": [1], "frequency_step_thz": 0.1}', "line 2"
    yield '{"sample_id": "x", "host": "Si", "dos": [1e999], "frequency_step_thz": 1' + "0" * 400 + "}", "line 2"


@pytest.mark.parametrize(("line", "says"), list(bad_lines()))
def test_a_bad_line_keeps_its_place(tmp_path: Path, spectra_table: Table, line: str, says: str):
    first, last = (json.dumps(row) for row in spectra_table(2).to_pylist())
    (tmp_path / "a.ndjson").write_text(f"{first}\n{line}\n{last}\n")
    table = Cursor(Location.of(tmp_path / "a.ndjson")).read(0, 3)
    assert [error is None for error in table["error"].to_pylist()] == [True, False, True]
    assert says in table["error"][1].as_py()
    assert ids(table)[::2] == ["s0", "s1"]


def test_errors_are_read_from_every_kind(tmp_path: Path, spectra_table: Table):
    """Of Parquet, Arrow, JSON and the compact form, and in a file that holds rows without them too."""
    rows = spectra_table(3).to_pylist()
    rows[1]["uncertainty"] = [0.5, None, *[0.25] * (len(rows[1]["dos"]) - 2)]
    table = pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
    for name, write in (KINDS | {"compact.parquet": _compact}).items():
        write(table, tmp_path / name)
        found = [
            Query.from_row(row).uncertainty for row in iterate_rows(Cursor(Location.of(tmp_path / name)).read(0, 3))
        ]
        assert [one is None for one in found] == [True, False, True]
        assert found[1] is not None
        assert found[1][[0, 2]].tolist() == [0.5, 0.25]
        assert np.isnan(found[1][1])


def test_lines_of_the_services_interface_become_rows(tmp_path: Path):
    """Both dialects of JSON in one file; what cannot be a row keeps its place and its id."""
    axis = [0.1 * i for i in range(1, 101)]
    dos = [float(i % 7) for i in range(100)]
    asked = {"id": "a", "host": "Si", "unit": "THz", "frequency": axis, "dos": dos, "candidates": ["Ge"]}
    asked["reference"] = {"frequency": axis, "dos": dos[::-1]}
    lines = [
        asked,
        {"sample_id": "b", "host": "Si", "frequency_step_thz": 0.1, "dos": dos},
        {**asked, "id": "c", "unit": "furlong"},
        {**asked, "id": "d", "prior": False, "host_id": "mp-149", "reference_kind": "computed"},
        {**asked, "id": "e", "uncertainty": [0.1] * 100},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = list(iterate_rows(Cursor(Location.of(tmp_path / "a.jsonl")).read(0, 5)))
    assert [row["sample_id"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, False]
    told = Query.from_row(rows[3])
    assert (told.prior, told.host_id, told.reference_kind) == (False, "mp-149", "computed")
    query, given = Query.from_row(rows[0]), Query.from_json(asked)
    assert (query.candidates, query.kind, query.uncertainty) == (("Ge",), "vibrational", None)
    errors = Query.from_row(rows[4]).uncertainty
    assert errors is not None
    assert errors[40:360] == pytest.approx(0.2, rel=1e-3)  # four bins a point, each independent of the others
    edges = [0.5 * i for i in range(21)]
    for one, other in ((query.spectrum, given.spectrum), (query.reference, given.reference)):
        assert one is not None
        assert other is not None
        assert one.cumulative(edges) == pytest.approx(other.cumulative(edges), abs=1e-4 * other.modes)
    # And the other way: a row is understood where the interface's object is.
    assert Query.from_json(lines[1]).sample_id == "b"


def test_a_file_of_no_known_kind(tmp_path: Path):
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(TableError, match=r"a\.csv is of no known kind; give \.parquet"):
        count_rows(Location.of(tmp_path / "a.csv"))


@pytest.mark.parametrize(("name", "kind"), [("a.parquet", "Parquet"), ("a.arrow", "Arrow"), ("a.arrows", "Arrow")])
@pytest.mark.parametrize("content", [b"", b"ARROW1", b"not a table"])
def test_damaged_from_the_start(tmp_path: Path, name: str, kind: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=f"is not a readable {kind} file") as caught:
        count_rows(Location.of(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_damage_inside_a_file_is_one_sentence(tmp_path: Path, spectra_table: Table):
    path = tmp_path / "a.parquet"
    write_table(spectra_table(50), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)  # the pages; the footer stays whole
    path.write_bytes(content)
    with pytest.raises(TableError, match="not a readable Parquet"):
        Cursor(Location.of(path)).read(0, 50)
