"""The spectra table as it is stored: the same columns, densities as short byte strings, each host's once a file.

Form 2 of the schema. `dos` and `reference_dos` are what `quantised.encode` makes of a density; the host's, equal in
all rows of a parent, stands in the file once, for Parquet keeps a dictionary of the column. Of the partial densities
that of the element with the most modes is null where it is what the others leave of the total. The pristine host's own
partial densities may stand beside its total (`reference_partial_dos`; `defectnet.io.datasets.read_hosts` reads them).
Standard errors are no smooth curves and stay as they are. Of the columns that came with version 1.1 those without any
value are left out, and a table without any of them is version 2. Whoever reads a table by `read_spectra` or `conform`
gets form 1.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.errors import TableError
from defectnet.io.quantised import decode, encode

__all__ = ["ADDED_COLUMNS", "PLAIN_VERSION", "VERSION_KEY", "compacted", "expanded", "form_of", "is_compact"]

Density = NDArray[np.float32]

VERSION_KEY = b"defectnet_schema_version"
# Of the plain form, the columns that it added; and of the compact one without them and with some of them.
PLAIN_VERSION = "1.1"
ADDED_COLUMNS = ("uncertainty", "host_id", "reference_kind", "prior")
_WITHOUT_ADDED, _WITH_ADDED = b"2", b"2.1"
_COMPACT = "2"
_PARTIAL = pa.list_(pa.struct([pa.field("element", pa.string()), pa.field("dos", pa.binary())]))
_TOTALS = ("dos", "reference_dos")
# Column of partial densities → the total that they are parts of.
_TOTAL_OF = {"partial_dos": "dos", "reference_partial_dos": "reference_dos"}
_TYPES = dict.fromkeys(_TOTALS, pa.binary()) | dict.fromkeys(_TOTAL_OF, _PARTIAL)
_DENSITY = pa.list_(pa.float32())
_EXPANDED_PARTIAL = pa.list_(pa.struct([pa.field("element", pa.string()), pa.field("dos", _DENSITY)]))
# The partial density that is left out may differ from what the others leave of the total by this share of its integral:
# above the rounding of both and of float16, which earlier tables were stored with.
_REMAINDER_L1 = 2e-3


def form_of(schema: pa.Schema) -> str:
    """The form that a schema says it has: its version up to the point; empty where it says none."""
    version: bytes = (schema.metadata or {}).get(VERSION_KEY, b"")
    return version.decode(errors="replace").partition(".")[0]


def is_compact(schema: pa.Schema) -> bool:
    """Whether a table with this schema is in the compact form."""
    return form_of(schema) == _COMPACT


def compacted(table: pa.Table) -> pa.Table:
    """A spectra table of form 1, with any type of float, in the compact form.

    Raises:
        TableError: a density is not finite.
    """
    if is_compact(table.schema):
        return table
    added = [name for name in ADDED_COLUMNS if name in table.column_names]
    empty = [name for name in added if table[name].null_count == table.num_rows]
    table = table.drop_columns(empty)
    version = _WITH_ADDED if len(added) > len(empty) else _WITHOUT_ADDED
    fields = [pa.field(f.name, _TYPES.get(f.name, f.type), nullable=f.nullable) for f in table.schema]
    schema = pa.schema(fields, metadata={**(table.schema.metadata or {}), VERSION_KEY: version})
    columns = {name: table[name] for name in table.column_names}
    try:
        for name in _TOTALS:
            if name in columns:
                densities = columns[name].to_pylist()
                columns[name] = pa.array([None if d is None else encode(d) for d in densities], pa.binary())
        for name, total in _TOTAL_OF.items():
            if name in columns:
                rows = zip(columns[name].to_pylist(), columns[total].to_pylist(), strict=True)
                columns[name] = pa.array([_encoded_parts(*row) for row in rows], _PARTIAL)
    except ValueError as error:
        raise TableError(f"a spectrum cannot be stored ({error})", fix="leave the row out", field="dos") from None
    return pa.table(columns, schema=schema)


def _encoded_parts(parts: list[dict[str, object]] | None, total: bytes | None) -> list[dict[str, object]] | None:
    """One row's partial densities; the largest as null where the others and the total say it."""
    if parts is None:
        return None
    densities = [np.asarray(part["dos"], dtype=np.float64) for part in parts]
    found: list[bytes | None] = [encode(density) for density in densities]
    if total is not None and densities:
        largest = int(np.argmax([density.sum() for density in densities]))
        left = _remainder(decode(total), [decode(one) for k, one in enumerate(found) if k != largest and one])
        truth = densities[largest]
        if left is not None and len(left) == len(truth) and np.abs(left - truth).sum() <= _REMAINDER_L1 * truth.sum():
            found[largest] = None
    return [{"element": part["element"], "dos": content} for part, content in zip(parts, found, strict=True)]


def _remainder(total: Density, others: Sequence[Density]) -> Density | None:
    """What the others leave of the total; None where they are not on the same bins."""
    if any(len(other) != len(total) for other in others):
        return None
    left = total.astype(np.float64) - np.sum(others, axis=0, dtype=np.float64) if others else total
    return np.maximum(left, 0.0).astype(np.float32)


def expanded(table: pa.Table) -> pa.Table:
    """A compact table, or some of its columns, with densities of float32 as in form 1; another as it is.

    Raises:
        TableError: it holds what is no density, or partial densities without the total that they are read with.
    """
    if not is_compact(table.schema):
        return table
    columns = {name: table[name] for name in table.column_names}
    try:
        totals = {name: _decoded(columns[name]) for name in _TOTALS if name in columns}
        for name, total in _TOTAL_OF.items():
            if name in columns:
                if total not in totals:
                    raise TableError("a partial density is read beside its total", fix=f"read {total} too", field=name)
                columns[name] = _parts(columns[name].combine_chunks(), totals[total])
        columns |= {name: _lists(densities) for name, densities in totals.items()}
    except ValueError as error:
        raise TableError(f"a density cannot be read ({error})", fix="write the table again", field="dos") from None
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    metadata = {key: value for key, value in table.schema.metadata.items() if key != VERSION_KEY}
    return pa.table(columns, schema=pa.schema(fields, metadata={**metadata, VERSION_KEY: PLAIN_VERSION.encode()}))


def _decoded(column: pa.ChunkedArray) -> list[Density | None]:
    """Each row's density; one that stands in many rows is decoded once."""
    known: dict[bytes, Density] = {}
    found: list[Density | None] = []
    for content in column.to_pylist():
        if content is not None and content not in known:
            known[content] = decode(content)
        found.append(None if content is None else known[content])
    return found


def _lists(densities: Sequence[Density | None]) -> pa.Array:
    """Arrays, or null, as a column of lists, without a detour through Python floats."""
    ends = np.cumsum([0] + [0 if density is None else len(density) for density in densities])
    values = np.concatenate([np.zeros(0, np.float32), *(d for d in densities if d is not None)])
    missing = pa.array([density is None for density in densities], pa.bool_())
    offsets = pa.array(ends, pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values), mask=missing if missing.true_count else None)


def _parts(column: pa.Array, totals: Sequence[Density | None]) -> pa.Array:
    """The column of partial densities, the largest made of what the others leave."""
    stored = column.flatten()
    contents, densities = stored.field("dos").to_pylist(), []
    starts = np.cumsum([0, *(0 if length is None else length for length in column.value_lengths().to_pylist())])
    for total, start, end in zip(totals, starts[:-1], starts[1:], strict=True):
        parts = [None if content is None else decode(content) for content in contents[start:end]]
        if any(part is None for part in parts):
            left = None if total is None else _remainder(total, [part for part in parts if part is not None])
            if left is None or sum(part is None for part in parts) > 1:
                raise ValueError("partial densities that are not what the total leaves")
            parts = [left if part is None else part for part in parts]
        densities += parts
    inner = pa.StructArray.from_arrays(
        [stored.field("element"), _lists(densities)], fields=list(_EXPANDED_PARTIAL.value_type)
    )
    missing = column.is_null()
    return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), inner, mask=missing if missing.true_count else None)
