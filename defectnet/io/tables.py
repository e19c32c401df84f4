"""The two Arrow tables that pass between the stages: spectra in, predictions out.

Each schema carries its name and version in the metadata of the file. A reader accepts any table that can be cast to the
schema without loss of meaning (float16 or float64 densities, missing optional columns, the compact form in which
datasets are stored), and refuses the rest with one sentence.

The number before the point of a version is the form, and a reader refuses one that it does not know; the number behind
it counts optional columns that came later, without which a table means the same as before. Spectra 1.1 added
`uncertainty`, `host_id`, `reference_kind` and `prior`.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from defectnet.errors import TableError
from defectnet.io.compact import ADDED_COLUMNS, PLAIN_VERSION, VERSION_KEY, compacted, expanded, form_of
from defectnet.io.storage import Location, reason

__all__ = [
    "DENSITY_COLUMNS",
    "PREDICTIONS_SCHEMA",
    "SPECTRA_SCHEMA",
    "conform",
    "read_spectra",
    "write_spectra",
    "write_table",
]

# Columns of the spectra table that hold one density a row; read without a detour through Python floats.
DENSITY_COLUMNS = ("dos", "uncertainty", "reference_dos")
_DENSITY = pa.list_(pa.float32())
_COMPRESSION = 9
# A host's density, equal in all rows of its parent, stands in the dictionary of its column once; with Parquet's own
# limit of 1 MB that ends after some five hundred hosts.
_DICTIONARY_BYTES = 64_000_000

# One row a sample. Densities are bins of width `frequency_step_thz` from 0 THz, per THz, and integrate to 3 modes per
# atom; the partial densities of the elements sum to `dos`. `error` is null, or says why the row has no spectrum.
SPECTRA_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("host", pa.string(), nullable=False),  # formula of the pristine crystal
        pa.field(
            "defects",
            pa.list_(
                pa.struct(
                    [
                        pa.field("element", pa.string()),
                        pa.field("replaces", pa.string()),
                        pa.field("concentration", pa.float64()),  # fraction of all atoms
                    ]
                )
            ),
        ),
        pa.field("frequency_step_thz", pa.float64()),
        pa.field("dos", _DENSITY),
        pa.field("uncertainty", _DENSITY),  # standard error of each of `dos`, NaN or null where there is none
        pa.field("partial_dos", pa.list_(pa.struct([pa.field("element", pa.string()), pa.field("dos", _DENSITY)]))),
        pa.field("reference_dos", _DENSITY),  # the pristine host, same bins; null where unknown
        pa.field("kind", pa.string()),  # "vibrational", or "neutron" for a density weighted by sigma/m
        pa.field("candidates", pa.list_(pa.string())),  # the user's guess; null means every element
        pa.field("host_id", pa.string()),  # the known crystal that is meant; null takes the best of this formula
        pa.field("reference_kind", pa.string()),  # "measured", which null means too, or "computed"
        pa.field("prior", pa.bool_()),  # false: without what a chemist expects of the host; null means true
        pa.field(
            "origin",
            pa.struct(
                [
                    pa.field("method", pa.string()),  # "interpolated", "embedded", "direct", "masses", "pristine"…
                    pa.field("potential", pa.string()),
                    pa.field("n_atoms", pa.int32()),
                    pa.field("n_configurations", pa.int32()),
                    pa.field("imaginary_weight", pa.float32()),  # share of modes below -0.05 THz
                    pa.field("strain", pa.float32()),  # linear, relative to the host
                    pa.field("heterovalent", pa.bool_()),
                    pa.field("seed", pa.int64()),
                ]
            ),
        ),
        pa.field("error", pa.string()),
    ],
    metadata={"defectnet_schema": "spectra", "defectnet_schema_version": PLAIN_VERSION},
)

_FIT = pa.struct(
    [
        pa.field("host_id", pa.string()),  # of the response library
        pa.field("explained", pa.float32()),  # share of the measured change
        pa.field("moved", pa.float32()),  # share of the modes that it moves
        pa.field("sources", pa.list_(pa.struct([pa.field("element", pa.string()), pa.field("source", pa.string())]))),
        pa.field(
            "alternatives",
            pa.list_(
                pa.struct(
                    [
                        pa.field("elements", pa.list_(pa.string())),
                        pa.field("concentrations", pa.list_(pa.float32())),
                        pa.field("explained", pa.float32()),
                    ]
                )
            ),
        ),
    ]
)

# One row a sample, in the order of the input. `elements` holds every candidate that the model weighed and did not rule
# out, most probable first; `present` is its verdict.
PREDICTIONS_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("host", pa.string()),
        pa.field(
            "elements",
            pa.list_(
                pa.struct(
                    [
                        pa.field("element", pa.string()),
                        pa.field("present", pa.bool_()),
                        pa.field("probability", pa.float32()),
                        pa.field("concentration", pa.float32()),  # fraction of all atoms
                        pa.field("low", pa.float32()),  # 90 % interval, fraction of all atoms
                        pa.field("high", pa.float32()),
                    ]
                )
            ),
        ),
        pa.field("ood_score", pa.float32()),  # 0 like the training spectra … 1 unlike any of them
        pa.field("warnings", pa.list_(pa.string())),
        pa.field("model_name", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("error", pa.string()),
        pa.field("fit", _FIT),  # how it was held against computed responses; null where that was not possible
    ],
    metadata={"defectnet_schema": "predictions", "defectnet_schema_version": "1"},
)

# What a table of measured spectra may leave out; it is filled with nulls.
_OPTIONAL = frozenset(
    {"parent_id", "defects", "partial_dos", "reference_dos", "kind", "candidates", "origin", "error", *ADDED_COLUMNS}
)
# Name of a schema → the forms of it that can be read.
_FORMS = {b"spectra": ("1", "2"), b"predictions": ("1",)}


def conform(table: pa.Table, schema: pa.Schema = SPECTRA_SCHEMA, *, where: str = "table") -> pa.Table:
    """Cast `table` to `schema`: columns in order, optional ones filled with nulls, extra ones dropped.

    Raises:
        TableError: a required column is missing or has a type that cannot be cast, or the table says that it is in a
            form that this version of DefectNet does not know.
    """
    _check_form(table.schema, schema, where)
    table = expanded(table.select([name for name in table.column_names if name in schema.names]))
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if field.name not in _OPTIONAL:
                raise TableError(f"{where} has no column {field.name!r}", fix="add it", field=field.name)
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        try:
            columns.append(column if column.type == field.type else column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            raise TableError(
                f"{where} has {column.type} where {field.type} belongs", fix="convert the column", field=field.name
            ) from None
    return pa.table(columns, schema=schema)


def _check_form(given: pa.Schema, wanted: pa.Schema, where: str) -> None:
    """Raise `TableError` for a table of this kind in a form that came later; a table that says nothing is as usual."""
    said, name = given.metadata or {}, wanted.metadata[b"defectnet_schema"]
    if said.get(b"defectnet_schema") == name and VERSION_KEY in said and form_of(given) not in _FORMS[name]:
        raise TableError(
            f"{where} is version {said[VERSION_KEY].decode(errors='replace')} of the {name.decode()} table, which this "
            "DefectNet does not know",
            fix="read it with a later DefectNet",
            field="input",
        )


def read_spectra(path: str | Path) -> pa.Table:
    """Read a Parquet file, or every `*.parquet` of a folder in name order, as a spectra table; a path or a URI.

    Raises:
        TableError: the path does not exist, is not Parquet, is cut short, or breaks the contract.
        StorageError: the object store cannot be reached.
    """
    location = Location.of(path, field="input")
    folder = location.is_folder()
    files = location.files(".parquet") if folder else [location]
    if not files or not files[0].is_file():
        raise TableError(f"no Parquet file at {path}", fix="check the path", field="input")
    tables = []
    for file in files:
        try:
            with file.open() as source:
                table = pq.ParquetFile(source).read()
        except (pa.ArrowInvalid, OSError) as error:
            named = f"{path}/{file.name}" if folder else path  # as the user wrote it, not as it was resolved
            raise TableError(
                f"{named} is not a readable Parquet file ({reason(error)})", fix="write or copy it again", field="input"
            ) from None
        tables.append(conform(table, where=file.name))
    return pa.concat_tables(tables)


def write_table(table: pa.Table, path: str | Path | Location) -> None:
    """Write `table` as zstd-compressed Parquet, whole or not at all: a reader never sees half a file.

    Raises:
        StorageError: the disk is full, or the object store refuses or cannot be reached.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table, sink, compression="zstd", compression_level=_COMPRESSION, dictionary_pagesize_limit=_DICTIONARY_BYTES
    )
    Location.of(path).write(sink.getvalue())


def write_spectra(table: pa.Table, path: str | Path | Location) -> None:
    """Write a spectra table in the compact form (`defectnet.io.compact`), else as `write_table`.

    Densities come back to within `quantised.LARGEST_L1` of their integral.

    Raises:
        TableError: a density is not finite.
        StorageError: as `write_table`.
    """
    write_table(compacted(table), path)
