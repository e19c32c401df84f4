"""Arrow IPC streams: what goes through, and what could hide a huge table in a small body."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.local_api import Client, refused

from defectnet.errors import InputError
from defectnet.io.tables import PREDICTIONS_SCHEMA
from serving.limits import ARROW
from serving.protocols.arrow import read_items, read_stream

Table = Callable[..., pa.Table]


def stream(table: pa.Table | pa.RecordBatch, **options: Any) -> bytes:
    """A table as an IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read(body: bytes, *, max_rows: int = 100, max_points: int = 1000) -> pa.Table:
    return read_stream(body, max_rows=max_rows, max_points=max_points)


def test_both_ways(client: Client, spectra_table: Table):
    table = spectra_table(3, bad=(1,))
    answer = client.send(stream(table), ARROW)
    assert answer.headers["content-type"] == ARROW
    got = pa.ipc.open_stream(answer.content).read_all()
    assert got.schema.equals(PREDICTIONS_SCHEMA)
    assert got["sample_id"].to_pylist() == table["sample_id"].to_pylist()
    assert [error is None for error in got["error"].to_pylist()] == [True, False, True]


def test_the_same_answer_as_json(client: Client, spectra_table: Table):
    headers = {"content-type": ARROW, "accept": "application/json"}
    answer = client.request("POST", "/v1/predict", content=stream(spectra_table(2)), headers=headers)
    expected = client.backend.predictor.predict_table(spectra_table(2)).to_pylist()
    got = pa.Table.from_pylist(answer.json()["predictions"], schema=PREDICTIONS_SCHEMA).to_pylist()
    assert got == expected


def test_errors_of_a_table_reach_the_questions(spectra_table: Table):
    rows = spectra_table(2).to_pylist()
    rows[1]["uncertainty"] = [0.5, float("nan"), *[0.25] * (len(rows[1]["dos"]) - 2)]
    table = pa.Table.from_pylist(rows, schema=spectra_table(2).schema)
    first, second = (item.read for item in read_items(read(stream(table))))
    assert first.uncertainty is None
    np.testing.assert_array_equal(second.uncertainty[:3], [0.5, np.nan, 0.25])
    with pytest.raises(InputError, match=r"uncertainty: .* points are more than"):
        read(stream(_with(table, "uncertainty", pa.array([None, [0.1] * 2000]))))


def test_json_in_arrow_out(client: Client, spectrum: Callable[..., dict[str, Any]]):
    answer = client.predict(spectrum(), headers={"accept": ARROW})
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == 1


def test_other_layouts_of_the_same_values(spectra_table: Table):
    table = spectra_table(2).select(["sample_id", "host", "frequency_step_thz", "dos"])
    dos = np.stack(table["dos"].to_pylist())
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(dos.astype(np.float16).ravel()), dos.shape[1])
    for column in (fixed, table["dos"].cast(pa.large_list(pa.float64()))):
        other = table.set_column(3, "dos", column).append_column("unread", pa.nulls(2))
        items = list(read_items(read(stream(other))))
        assert [type(item.read).__name__ for item in items] == ["Query", "Query"]


def test_every_row_wrong_is_refused(client: Client, spectra_table: Table):
    refused(client.send(stream(spectra_table(2, bad=(0, 1))), ARROW), 422, "spectra[0].host")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_is_refused(spectra_table: Table, codec: str):
    with pytest.raises(InputError, match="compressed"):
        read(stream(spectra_table(2), compression=codec))


def _with(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: _with(t, "host", t["host"].dictionary_encode()), "dictionary"),
        (lambda t: _with(t, "host", pa.array(["Si", "Si"], pa.string_view())), "string_view"),
        (lambda t: _with(t, "dos", pa.array([[1.0] * 9] * 2, pa.list_view(pa.float32()))), "list_view"),
        (
            lambda t: _with(t, "kind", pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["a"]))),
            "run_end",
        ),
        (lambda t: _with(t, "dos", pa.array([[[1.0]]] * 2)), "list"),
        (lambda t: _with(t, "dos", pa.array(["a", "b"])), "belongs"),
        (lambda t: _with(t, "dos", pa.array([[True] * 9] * 2)), "bool"),
        (lambda t: _with(t, "prior", pa.array(["perhaps", "no"])), "belongs"),
        (lambda t: t.drop_columns(["host"]), "no column 'host'"),
        (lambda t: t.append_column("host", t["host"]), "twice"),
        (lambda t: pa.concat_tables([t] * 51), "more than 100 rows"),
        (lambda t: t.slice(0, 0), "no row"),
        (lambda t: _with(t, "dos", pa.array([[1.0] * 2000] * 2)), "2000 points"),
    ],
)
def test_what_is_refused(spectra_table: Table, change: Callable[[pa.Table], pa.Table], said: str):
    with pytest.raises(InputError, match=said):
        read(stream(change(spectra_table(2))))


@pytest.mark.parametrize("name", ["host", "unread"])
def test_a_column_of_nulls_cannot_be_endless(name: str):
    nulls = pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])  # takes no byte, here and in the stream
    endless = pa.RecordBatch.from_arrays([nulls], [name])
    with pytest.raises(InputError, match="more than 100 rows"):
        read(stream(endless))


@pytest.mark.parametrize("body", [b"", b"no stream", b"\xff\xff\xff\xff\x00\x00\x00\x00", b"\xff" * 64, b"{}"])
def test_what_is_no_stream(client: Client, body: bytes):
    refused(client.send(body, ARROW), 422, "body")


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_stream_is_refused_or_read(data: st.DataObject):
    """Bytes changed, cut out or doubled anywhere: an `InputError`, or a table that can be read to its end."""
    rows = {"sample_id": ["a", "b"], "host": ["Si", None], "frequency_step_thz": [0.1, 0.2], "dos": [[1.0] * 9, None]}
    body = bytearray(stream(pa.table(rows)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "double"]))
        if kind == "set":
            body[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del body[place : place + data.draw(st.integers(1, 64))]
            body = body or bytearray(b"\0")
        else:
            body[place:place] = body[place : place + data.draw(st.integers(1, 64))]
    try:
        table = read(bytes(body))
    except InputError:
        return
    for item in read_items(table):
        assert item.read is not None
