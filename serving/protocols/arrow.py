"""Spectra and predictions as Arrow IPC streams: the two tables of `defectnet.io.tables`, without a detour through text.

A stream from outside is looked at before anything of it is expanded. Compression, dictionaries, views and run lengths
let a small body describe a huge table, so none of them is read; what is left takes no more memory than the body.
"""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from defectnet.errors import InputError, TableError
from defectnet.io.tables import DENSITY_COLUMNS, PREDICTIONS_SCHEMA, SPECTRA_SCHEMA, conform
from defectnet.query import QUERY_COLUMNS, Query, iterate_rows
from serving.backend import Item

__all__ = ["read_items", "read_stream", "write_stream"]

_RECORD_BATCH, _DICTIONARY_BATCH = "record batch", "dictionary"
# Field number of `compression` in the flatbuffers table RecordBatch, and of `header` in Message (Arrow's Message.fbs).
_COMPRESSION, _HEADER = 3, 2


def read_stream(body: bytes, *, max_rows: int, max_points: int) -> pa.Table:
    """Read a spectra table that came as an IPC stream, every value of it checked.

    Raises:
        TableError: no stream, one that uses what could hide a huge table, the wrong columns, or too many rows.
        InputError: a spectrum is longer than `max_points`.
    """
    try:
        _refuse_hidden_size(body)
        with pa.ipc.open_stream(pa.py_buffer(body)) as stream:
            wanted = _wanted_columns(stream.schema)
            batches, rows = [], 0
            for batch in stream:
                rows += batch.num_rows
                if rows > max_rows:
                    raise TableError(f"more than {max_rows} rows", fix="send them in parts", field="body")
                # Of the wanted columns alone: a column of nulls may have any length without taking a byte.
                batches.append(batch.select(wanted))
        table = pa.Table.from_batches(batches, stream.schema.empty_table().select(wanted).schema)
        table.validate(full=True)
    except (pa.ArrowException, ValueError, IndexError, OSError, EOFError, struct.error) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise TableError(
            f"is not an Arrow IPC stream ({reason})", fix="write it with pyarrow.ipc.new_stream", field="body"
        ) from None
    if not rows:
        raise TableError("has no row", fix="send at least one spectrum", field="body")
    for name in DENSITY_COLUMNS:
        longest = _longest(table[name]) if name in table.column_names else 0
        if longest > max_points:
            raise InputError(f"{longest} points are more than {max_points}", fix="resample it", field=name)
    return conform(table, SPECTRA_SCHEMA, where="body").select(list(QUERY_COLUMNS))


def read_items(table: pa.Table) -> Iterator[Item]:
    """The rows of a table that `read_stream` made, as queries or as what is wrong with them."""
    for row in iterate_rows(table):
        sample_id, host = row["sample_id"] or "", row["host"] or ""
        try:
            yield Item(Query.from_row(row))
        except InputError as error:
            yield Item(error, sample_id, host)


def write_stream(predictions: list[dict[str, Any]]) -> bytes:
    """Predictions as an IPC stream of `PREDICTIONS_SCHEMA`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PREDICTIONS_SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(predictions, schema=PREDICTIONS_SCHEMA))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _longest(column: pa.ChunkedArray) -> int:
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return int(getattr(column.type, "list_size", 0))
    return int(pc.max(pc.list_value_length(column)).as_py() or 0)


def _wanted_columns(schema: pa.Schema) -> list[str]:
    names = [name for name in schema.names if name in QUERY_COLUMNS]
    if len(set(names)) != len(names):
        raise TableError("a column is given twice", fix="keep one", field="body")
    for name in names:
        if not _is_plain(schema.field(name).type):
            raise TableError(
                f"the column has the type {schema.field(name).type}", fix="send text, numbers or lists", field=name
            )
    return names


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column of this type takes no more memory than its bytes in the stream, once they are checked."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        # A truth value is a bit, and would be four bytes as a density.
        inner = kind.value_type
        return not pa.types.is_nested(inner) and not pa.types.is_boolean(inner) and _is_plain(inner)
    return bool(
        pa.types.is_floating(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_null(kind)
    )


def _refuse_hidden_size(body: bytes) -> None:
    """Refuse compressed record batches and dictionaries, reading no more than the stream's headers."""
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        if message.type == _DICTIONARY_BATCH:
            raise TableError("has a dictionary", fix="send the plain values", field="body")
        if message.type == _RECORD_BATCH and _is_compressed(message.metadata.to_pybytes()):
            raise TableError("is compressed", fix="write it with compression=None", field="body")


def _is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffers header of a record batch names a compression."""
    (root,) = struct.unpack_from("<I", metadata, 0)
    header = _field(metadata, root, _HEADER)
    if header is None:
        return True  # a record batch without its description cannot be trusted
    (offset,) = struct.unpack_from("<I", metadata, header)
    return _field(metadata, header + offset, _COMPRESSION) is not None


def _field(buffer: bytes, table: int, number: int) -> int | None:
    """Where a field of a flatbuffers table lies, or None where it has its default."""
    (back,) = struct.unpack_from("<i", buffer, table)
    vtable = table - back
    (size,) = struct.unpack_from("<H", buffer, vtable)
    place = 4 + 2 * number
    if place + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", buffer, vtable + place)
    return table + int(offset) if offset else None
