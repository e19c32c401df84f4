"""The plan of a batch: which rows of the input belong to which file of the output.

Rows are numbered in the order of the files' names and of the rows in each; every so many rows of a file make one output
file. The plan depends on the input alone, so a second run finds what a first one finished, and nothing is ever scored
twice: an output file is whole (it appears at once) and is trusted only if it holds exactly its rows' ids.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from defectnet.errors import InputError, TableError
from defectnet.io.storage import Location
from serving.batch.inputs import SUFFIXES, Cursor, count_rows

__all__ = ["MANIFEST", "MODEL", "REPORT", "WEIGHTS_KEY", "Shard", "finished", "plan_shards"]

# Key of the weights' sum in the metadata of an output file.
WEIGHTS_KEY = b"defectnet_weights_sha256"
# Readers of a folder of Parquet pass over names that begin with an underscore.
MANIFEST, MODEL, REPORT = "_manifest.json", "_model", "_report.json"
# A small input is cut into about so many shards, none smaller than the least: with a few large ones, all workers but
# one would wait for the last.
_SHARDS_AT_LEAST, _LEAST_ROWS = 64, 256
# Files asked for their rows at once: an object store answers in some 50 ms, however many ask.
_OPEN_AT_ONCE = 16


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of one input file, and the output file they become.

    Attributes:
        name: file name in the output folder.
        source: the input file.
        start: number of its first row in that file.
        rows: how many; 0 for a file without rows, so that an output always has a table.
    """

    name: str
    source: Location
    start: int
    rows: int


def plan_shards(where: Location, shard_rows: int) -> list[Shard]:
    """Plan the scoring of a file, or of every file of a folder in name order, in shards of at most `shard_rows`.

    Raises:
        TableError: the path does not exist, or a file is no table, is cut short or lacks a required column.
        StorageError: the object store cannot be reached.
    """
    files = where.files(*SUFFIXES) if where.is_folder() else [where]
    if not files or not files[0].is_file():
        raise TableError(f"no {' or '.join(SUFFIXES)} file at {where}", fix="check the path", field="input")
    with ThreadPoolExecutor(_OPEN_AT_ONCE) as threads:
        counts = list(threads.map(count_rows, files))
    shard_rows = min(shard_rows, max(_LEAST_ROWS, -(-sum(counts) // _SHARDS_AT_LEAST)))
    shards: list[Shard] = []
    for file, n_rows in zip(files, counts, strict=True):
        for start in range(0, max(n_rows, 1), shard_rows):
            name = f"part-{len(shards):06d}.parquet"
            shards.append(Shard(name, file, start, min(shard_rows, n_rows - start)))
    return shards


def finished(shards: Sequence[Shard], folder: Location, weights_sha256: str) -> dict[str, int]:
    """The shards that `folder` holds already: name → rows with an error. Each is checked against the ids of its rows.

    Raises:
        InputError: the folder holds predictions of other spectra or of another model.
    """
    present = {file.name for file in folder.files(".parquet") if file.name.startswith("part-")}
    if foreign := sorted(present - {shard.name for shard in shards}):
        raise _other_spectra(folder.child(foreign[0]))
    done: dict[str, int] = {}
    cursor: Cursor | None = None
    for shard in shards:
        if shard.name not in present:
            continue
        part = folder.child(shard.name)
        try:
            with part.open() as file:
                table = pq.read_table(file, columns=["sample_id", "error"])
        except (pa.ArrowException, OSError):
            continue  # damaged: written again
        if (table.schema.metadata or {}).get(WEIGHTS_KEY) != weights_sha256.encode():
            raise InputError(f"{part} was made by another model", fix="choose an empty folder", field="output")
        if cursor is None or cursor.source != shard.source:
            cursor = Cursor(shard.source, ("sample_id",))
        wanted = cursor.read(shard.start, shard.rows)["sample_id"].cast(pa.string())
        if table["sample_id"].to_pylist() != [name or "" for name in wanted.to_pylist()]:
            raise _other_spectra(part)
        done[shard.name] = table.num_rows - table["error"].null_count
    return done


def _other_spectra(part: Location) -> InputError:
    return InputError(
        f"{part} was not made from these spectra with this shard size", fix="choose an empty folder", field="output"
    )
