"""A dataset as a folder of shards: what it rests on, and the whole of it written again, compactly."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from defectnet.errors import InputError
from defectnet.io.compact import expanded
from defectnet.io.storage import Location
from defectnet.io.tables import read_spectra, write_spectra

__all__ = ["read_hosts", "rewrite_dataset", "shard_key", "spectra_by_source", "without_sources"]

# Rows of a file: some 2 MB of compact spectra.
_ROWS = 2048
_HOST_COLUMNS = (
    "parent_id",
    "host",
    "defects",
    "frequency_step_thz",
    "dos",
    "partial_dos",
    "reference_dos",
    "reference_partial_dos",
)
# What the spectra that no potential was asked for rest on: DFT crystals alone.
_DFT = "dft"


def shard_key(sample_ids: Iterable[str]) -> str:
    """Sixteen digits of the hash of what a shard holds: its name, so that the same rows are the same file."""
    return hashlib.sha256("".join(sample_ids).encode()).hexdigest()[:16]


def _sources(table: pa.Table) -> pa.Array:
    """What each row's spectrum rests on: a potential's name or "dft"; null for a row without a spectrum."""
    named = pc.struct_field(table["origin"].combine_chunks(), "potential")
    known = pc.if_else(pc.equal(pc.fill_null(named, ""), ""), _DFT, named)
    return pc.if_else(pc.is_null(table["error"].combine_chunks()), known, pa.scalar(None, pa.string()))


def spectra_by_source(table: pa.Table) -> dict[str, int]:
    """How many spectra rest on each potential (`origin.potential`), and on DFT crystals alone ("dft"); most first."""
    counts = Counter(source for source in _sources(table).to_pylist() if source is not None)
    return dict(counts.most_common())


def without_sources(table: pa.Table, sources: Collection[str]) -> pa.Table:
    """The table without the spectra that rest on one of `sources`; rows without a spectrum stay, for their `error`."""
    return table.filter(
        pc.invert(pc.fill_null(pc.is_in(_sources(table), pa.array(sorted(sources), pa.string())), False))
    )


def read_hosts(source: str | Path) -> dict[str, dict[str, Any]]:
    """The pristine hosts of a dataset, each once: parent → its `host`, `frequency_step_thz`, `dos` and `partial_dos`.

    `partial_dos` (element → density) is None where the dataset was written before it was kept, unless one of the
    parent's rows is pristine itself. Densities are arrays of shape (n_bins,), per THz.

    Raises:
        StorageError: the object store cannot be reached.
    """
    hosts: dict[str, dict[str, Any]] = {}
    for file in Location.of(source, field="input").files(".parquet"):
        with file.open() as opened:
            parquet = pq.ParquetFile(opened)
            wanted = [name for name in _HOST_COLUMNS if name in parquet.schema_arrow.names]
            table = parquet.read(columns=wanted)
        for row in expanded(table.filter(pc.is_valid(table["reference_dos"]))).to_pylist():
            parts = row.get("reference_partial_dos") or (None if row["defects"] else row["partial_dos"])
            known = hosts.get(row["parent_id"])
            if known is None or (known["partial_dos"] is None and parts):
                hosts[row["parent_id"]] = {
                    "host": row["host"],
                    "frequency_step_thz": row["frequency_step_thz"],
                    "dos": np.array(row["reference_dos"]),
                    "partial_dos": {part["element"]: np.array(part["dos"]) for part in parts} if parts else None,
                }
    return hosts


def rewrite_dataset(source: str | Path, output: str | Path, without: Collection[str] = ()) -> dict[str, int]:
    """Write a dataset again in the compact form, in few files, with its rows in their order.

    Args:
        source: folder of shards in any form.
        output: another folder, without shards yet.
        without: leave out the spectra that rest on these potentials (or on "dft").

    Returns:
        `spectra_by_source` of what was written.

    Raises:
        InputError: `output` holds shards already.
        TableError, StorageError: as `read_spectra` and `write_spectra`.
    """
    folder = Location.of(output, field="output")
    if folder.files(".parquet"):
        raise InputError(f"{output} holds shards already", fix="give an empty folder", field="output")
    table = without_sources(read_spectra(source), without)
    for number, start in enumerate(range(0, table.num_rows, _ROWS)):
        part = table.slice(start, _ROWS)
        # Numbered, so that they are read in the order in which they were written.
        write_spectra(part, folder.child(f"spectra-{number:04d}-{shard_key(part['sample_id'].to_pylist())}.parquet"))
    return spectra_by_source(table)
