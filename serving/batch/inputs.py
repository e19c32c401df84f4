"""Spectra tables as files: Parquet, Arrow IPC, or JSON a line, at a path or a URI.

A file is read forwards, in steps, and can be entered at its own borders (row groups, record batches), so that a process
that scores rows 800,000 to 804,096 neither reads all that comes before nor holds more than it scores.
"""

import io
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from defectnet.errors import InputError, TableError
from defectnet.io.compact import expanded
from defectnet.io.json_depth import check_depth
from defectnet.io.storage import Location, reason
from defectnet.io.tables import SPECTRA_SCHEMA, conform
from defectnet.query import QUERY_COLUMNS, Query

__all__ = ["SUFFIXES", "Cursor", "count_rows"]

# Rows decoded at a time: about 1 MB of densities.
_READ_ROWS = 1024
# Bytes read ahead of the decoder; without a limit pyarrow holds a whole row group's columns.
_BUFFER_BYTES = 1 << 22
_ARROW_MAGIC = b"ARROW1"


@dataclass(frozen=True)
class _Opened:
    """A file that is open.

    Attributes:
        starts: numbers of the rows at which it can be entered, in order; begins with 0.
        n_rows: counts its rows, which takes reading it through where it has no index.
        batches: rows from the start of that index on.
    """

    starts: Sequence[int]
    n_rows: Callable[[], int]
    batches: Callable[[int], Iterator[pa.Table]]


class Cursor:
    """Reads ranges of rows of one file. Going on forwards costs nothing; going back enters the file again.

    Args:
        source: the file.
        columns: which columns, of those that there are.

    Raises:
        TableError: the file cannot be read, or lacks a required column.
    """

    def __init__(self, source: Location, columns: Sequence[str] = QUERY_COLUMNS) -> None:
        self.source = source
        with _readable(source):
            self._file = _open(source, columns)
        self._nothing = SPECTRA_SCHEMA.empty_table().select(list(columns))
        # What was read and not yet asked for, and the number of its first row.
        self._first, self._held = 0, self._nothing
        self._batches: Iterator[pa.Table] = iter(())
        self._enter(0)

    def read(self, start: int, rows: int) -> pa.Table:
        """`rows` rows from row `start` on; raises `TableError` where the file turns out to be damaged."""
        entry = bisect_right(self._file.starts, start) - 1
        if start < self._first or self._file.starts[entry] > self._first + self._held.num_rows:
            self._enter(entry)
        while self._first + self._held.num_rows < start + rows:
            with _readable(self.source):
                batch = next(self._batches, None)
            if batch is None:
                raise _unreadable(self.source, "fewer rows than it says")
            if self._first + self._held.num_rows <= start:  # nobody wants what was held
                self._first, self._held = self._first + self._held.num_rows, batch
            else:
                self._held = pa.concat_tables([self._held, batch])
        table = self._held.slice(start - self._first, rows)
        self._held = self._held.slice(start + rows - self._first)
        self._first = start + rows
        return table

    def _enter(self, entry: int) -> None:
        self._first = self._file.starts[entry]
        self._batches = map(expanded, self._file.batches(entry))
        self._held = self._nothing
        with _readable(self.source):
            first = next(self._batches, None)
        if first is not None:
            self._held = first


def count_rows(source: Location) -> int:
    """How many rows a file has: from its own index where it has one, else by reading it through.

    Raises:
        TableError: it is of no known kind, cannot be read, or lacks a required column.
    """
    with _readable(source):
        return _open(source, QUERY_COLUMNS).n_rows()


def _open(source: Location, columns: Sequence[str]) -> _Opened:
    suffix = next((suffix for suffix in SUFFIXES if source.name.endswith(suffix)), None)
    if suffix is None:
        raise TableError(f"{source.name} is of no known kind", fix=f"give {', '.join(SUFFIXES)}", field="input")
    return _KINDS[suffix](source, columns)


def _parquet(source: Location, columns: Sequence[str]) -> _Opened:
    parquet = pq.ParquetFile(source.open(), buffer_size=_BUFFER_BYTES)
    conform(parquet.schema_arrow.empty_table(), where=source.name)
    wanted = [name for name in columns if name in parquet.schema_arrow.names]
    groups = parquet.num_row_groups

    def batches(entry: int) -> Iterator[pa.Table]:
        row_groups = range(entry, groups)
        for batch in parquet.iter_batches(batch_size=_READ_ROWS, row_groups=row_groups, columns=wanted):
            yield pa.Table.from_batches([batch])

    starts, _ = _borders(parquet.metadata.row_group(group).num_rows for group in range(groups))
    return _Opened(starts, lambda: parquet.metadata.num_rows, batches)


def _arrow(source: Location, columns: Sequence[str]) -> _Opened:
    with source.open() as file:
        if file.read(len(_ARROW_MAGIC)) != _ARROW_MAGIC:
            return _arrow_stream(source, columns)
    reader = pa.ipc.open_file(source.open())
    conform(reader.schema.empty_table(), where=source.name)
    wanted = [name for name in columns if name in reader.schema.names]
    starts, n_rows = _borders(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))

    def batches(entry: int) -> Iterator[pa.Table]:
        for index in range(entry, reader.num_record_batches):
            yield pa.Table.from_batches([reader.get_batch(index)]).select(wanted)

    return _Opened(starts, lambda: n_rows, batches)


def _arrow_stream(source: Location, columns: Sequence[str]) -> _Opened:
    with pa.ipc.open_stream(source.open()) as reader:
        conform(reader.schema.empty_table(), where=source.name)
        wanted = [name for name in columns if name in reader.schema.names]

    def batches(entry: int) -> Iterator[pa.Table]:
        with pa.ipc.open_stream(source.open()) as again:
            for batch in again:
                yield pa.Table.from_batches([batch]).select(wanted)

    return _Opened([0], lambda: sum(batch.num_rows for batch in batches(0)), batches)


def _json_lines(source: Location, columns: Sequence[str]) -> _Opened:
    schema = pa.schema([SPECTRA_SCHEMA.field(name) for name in QUERY_COLUMNS])

    def batches(entry: int) -> Iterator[pa.Table]:
        lines = _lines(source)
        while chunk := list(islice(lines, _READ_ROWS)):
            yield _from_lines(chunk, schema).select(list(columns))

    return _Opened([0], lambda: sum(1 for _ in _lines(source)), batches)


def _lines(source: Location) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers as an editor shows them."""
    with io.BufferedReader(source.open(), _BUFFER_BYTES) as file:
        for number, line in enumerate(file, start=1):
            if not line.isspace():
                yield number, line


def _from_lines(lines: Sequence[tuple[int, bytes]], schema: pa.Schema) -> pa.Table:
    """One row a line; a line that cannot be one keeps its place, with an `error`."""
    rows = [_row(number, line, schema) for number, line in lines]
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.concat_tables(_single(number, row, schema) for (number, _), row in zip(lines, rows, strict=True))


def _row(number: int, line: bytes, schema: pa.Schema) -> dict[str, Any]:
    try:
        text = line.decode()
        check_depth(text)
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _bad_line(number, None, reason(error))
    if not isinstance(row, dict):
        return _bad_line(number, None, "not an object")
    if "frequency" in row and "frequency_step_thz" not in row:
        return _row_of_query(row, schema)
    return {name: row.get(name) for name in schema.names}


def _row_of_query(asked: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """An object of the HTTP interface as a row; one that is wrong keeps its place and its id."""
    try:
        row = Query.from_json(asked).to_row()
    except InputError as error:
        row = {"sample_id": asked.get("id"), "host": asked.get("host"), "error": str(error)}
        row = {name: value if isinstance(value, str) else "" for name, value in row.items()}
    return {name: row.get(name) for name in schema.names}


def _single(number: int, row: dict[str, Any], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist([row], schema=schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        return pa.Table.from_pylist([_bad_line(number, row.get("sample_id"), reason(error))], schema=schema)


def _bad_line(number: int, sample_id: object, why: str) -> dict[str, Any]:
    name = sample_id if isinstance(sample_id, str) else ""
    return {"sample_id": name, "host": "", "error": f"line {number} is no row of the spectra table: {why}"}


def _borders(lengths: Iterable[int]) -> tuple[list[int], int]:
    """Where each part begins (at least one does, at 0), and where the last one ends."""
    ends = list(accumulate(lengths)) or [0]
    return [0, *ends[:-1]], ends[-1]


def _unreadable(source: Location, why: str) -> TableError:
    kind = next((_NAMES[suffix] for suffix in SUFFIXES if source.name.endswith(suffix)), "table")
    return TableError(f"{source} is not a readable {kind} file ({why})", fix="write or copy it again", field="input")


@contextmanager
def _readable(source: Location) -> Iterator[None]:
    """Turn what pyarrow raises into one sentence about the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(source, reason(error)) from None


_KINDS: dict[str, Callable[[Location, Sequence[str]], _Opened]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".arrows": _arrow,
    ".ndjson": _json_lines,
    ".jsonl": _json_lines,
}
_NAMES = {name: "Parquet" if name == ".parquet" else "JSON" if "js" in name else "Arrow" for name in _KINDS}
SUFFIXES = tuple(_KINDS)
