"""The plan of a batch: which rows of the input belong to which file of the output.

Rows are numbered in the order of the files' names and of the rows in each; every `shard_rows` of a file make one output
file. The plan depends on the input alone, so a second run finds what a first one finished, and nothing is ever scored
twice: an output file is whole (it is moved into place) and is trusted only if it holds exactly its rows' ids.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from defectnet.errors import InputError, TableError
from defectnet.tables import conform

__all__ = ["WEIGHTS_KEY", "Shard", "by_source", "finished", "plan_shards", "read_shards"]

# What a prediction needs of a spectra table; labels and partial densities stay unread.
_WANTED = ("sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind", "candidates", "error")
# Key of the weights' sum in the metadata of an output file.
WEIGHTS_KEY = b"defectnet_weights_sha256"
# Rows decoded at a time: about 1 MB of densities.
_READ_ROWS = 1024


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
    source: str
    start: int
    rows: int


def plan_shards(path: str | Path, shard_rows: int) -> list[Shard]:
    """Plan the scoring of a Parquet file, or of every `*.parquet` of a folder in name order.

    Raises:
        TableError: the path does not exist, or a file is not Parquet, is cut short or lacks a required column.
    """
    path = Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise TableError(f"no Parquet file at {path}", fix="check the path", field="input")
    shards: list[Shard] = []
    for file in files:
        with _readable(file):
            parquet = pq.ParquetFile(file)
        conform(parquet.schema_arrow.empty_table(), where=file.name)
        n_rows = parquet.metadata.num_rows
        for start in range(0, max(n_rows, 1), shard_rows):
            name = f"part-{len(shards):06d}.parquet"
            shards.append(Shard(name, str(file), start, min(shard_rows, n_rows - start)))
    return shards


def by_source(shards: Sequence[Shard]) -> list[list[Shard]]:
    """The shards of each input file."""
    return [list(group) for _, group in groupby(shards, key=lambda shard: shard.source)]


def read_shards(shards: Sequence[Shard]) -> Iterator[tuple[Shard, pa.Table]]:
    """Read shards of one file, given in the order of their rows, in a single pass and with the memory of one.

    Raises:
        TableError: the file cannot be read after all.
    """
    file = Path(shards[0].source)
    with _readable(file):
        parquet = pq.ParquetFile(file)
    columns = [name for name in _WANTED if name in parquet.schema_arrow.names]
    batches = parquet.iter_batches(batch_size=_READ_ROWS, columns=columns)
    held = parquet.schema_arrow.empty_table().select(columns)
    first = 0  # number, in the file, of the first row in `held`
    for shard in shards:
        parts = [held]
        reached = first + held.num_rows
        while reached < shard.start + shard.rows:
            with _readable(file):
                batch = next(batches, None)
            if batch is None:
                raise _unreadable(file, "fewer rows than it says")
            parts.append(pa.Table.from_batches([batch]))
            reached += batch.num_rows
            if reached <= shard.start:  # all of it belongs to shards that are finished
                parts, first = [parts[-1].slice(batch.num_rows)], reached
        table = pa.concat_tables(parts)
        yield shard, table.slice(shard.start - first, shard.rows)
        held, first = table.slice(shard.start + shard.rows - first), shard.start + shard.rows


def finished(shards: Sequence[Shard], folder: str | Path, weights_sha256: str) -> dict[str, int]:
    """The shards that `folder` holds already: name → rows with an error. Each is checked against the ids of its rows.

    Raises:
        InputError: the folder holds predictions of other spectra or of another model.
    """
    folder = Path(folder)
    present = {file.name for file in folder.glob("part-*.parquet")}
    if foreign := sorted(present - {shard.name for shard in shards}):
        raise _other_spectra(folder / foreign[0])
    done: dict[str, int] = {}
    for group in by_source([shard for shard in shards if shard.name in present]):
        ids = _sample_ids(Path(group[0].source))
        for shard in group:
            try:
                table = pq.read_table(folder / shard.name, columns=["sample_id", "error"])
            except (pa.ArrowException, OSError):
                continue  # damaged: written again
            if table["sample_id"].to_pylist() != ids[shard.start : shard.start + shard.rows]:
                raise _other_spectra(folder / shard.name)
            if (table.schema.metadata or {}).get(WEIGHTS_KEY) != weights_sha256.encode():
                raise InputError(
                    f"{folder / shard.name} was made by another model", fix="choose an empty folder", field="output"
                )
            done[shard.name] = table.num_rows - table["error"].null_count
    return done


def _sample_ids(file: Path) -> list[str]:
    with _readable(file):
        ids = pq.read_table(file, columns=["sample_id"])["sample_id"]
    return [value or "" for value in ids.cast(pa.string()).to_pylist()]


def _other_spectra(path: Path) -> InputError:
    return InputError(
        f"{path} was not made from these spectra with this shard size", fix="choose an empty folder", field="output"
    )


def _unreadable(file: Path, reason: str) -> TableError:
    return TableError(f"{file} is not a readable Parquet file ({reason})", fix="write or copy it again", field="input")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn what pyarrow raises into one sentence about the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, str(error).splitlines()[0][:120]) from None
