"""What a machine keeps for its user, so that it is made once: the folder, and tables that processes share in memory.

A table of Parquet is decompressed by whoever reads it, into memory of its own. Here it is written once as Arrow IPC,
and each process maps that file: the pages are the system's, one copy for all replicas of a node, and only those that
are touched. The released response library, 86 MB unpacked, costs a process 6 MB and 0.08 s so, 250 MB and 0.9 s before.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pyarrow as pa

from defectnet.io.storage import Location

__all__ = ["cache_folder", "shared_tables"]

logger = logging.getLogger(__name__)

# Below this a copy for each process costs less than a file.
_WORTH_SHARING_BYTES = 1 << 20
_SUFFIX = ".arrow"
# A copy that nobody has mapped for so long goes when another is written: every edition of a library leaves one.
_KEPT_S = 30 * 24 * 3600


def cache_folder() -> Path:
    """Where what was computed for this user is kept: `$XDG_CACHE_HOME/defectnet`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "defectnet"


def shared_tables(
    files: Sequence[Location], read: Callable[[Location], pa.Table], *, version: str, kind: str = "tables"
) -> list[pa.Table]:
    """The tables of some files, one each, in memory that all processes of the machine share.

    The copy is named after the files' content; one of another content goes once nobody has used it for a month. Where
    none can be kept (no room, no right to), and for what is small, each process has its own.

    Args:
        files: Parquet files.
        read: makes a table of one; all have one schema.
        version: of what `read` makes, so that another does not meet this one's copy.
        kind: the copy's folder in the cache.

    Raises:
        StorageError: a file cannot be read; and whatever `read` raises.
    """
    digest, size = sha256(f"{version} {pa.__version__}".encode()), 0
    try:
        for file in files:
            with file.open() as opened:
                content = opened.read()
            size += len(content)
            digest.update(sha256(content).digest())
    except OSError:
        size = 0  # `read` says what is wrong
    if size < _WORTH_SHARING_BYTES:
        return [read(file) for file in files]
    copy = cache_folder() / kind / f"{digest.hexdigest()[:24]}{_SUFFIX}"
    try:
        return _mapped(copy)
    except (OSError, pa.ArrowException):
        pass  # not there yet, or cut short by a crash
    try:
        _write(copy, files, read)
        return _mapped(copy)
    except (OSError, pa.ArrowException) as error:
        logger.warning("%s cannot be kept (%s): each process has its own copy in memory", copy, error)
        return [read(file) for file in files]


def _mapped(copy: Path) -> list[pa.Table]:
    """The tables of a copy, none of whose values is read; the copy's time is that of its last use."""
    with suppress(OSError):  # not ours, or not there: the next line says so
        os.utime(copy)
    reader = pa.ipc.open_file(pa.memory_map(str(copy)))
    return [pa.Table.from_batches([reader.get_batch(place)]) for place in range(reader.num_record_batches)]


def _write(copy: Path, files: Sequence[Location], read: Callable[[Location], pa.Table]) -> None:
    """Write a copy whole or not at all; of several processes that do so at once, all then map the same file."""
    copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = copy.with_name(f".{copy.name}.{uuid.uuid4().hex[:12]}")
    try:
        with partial.open("wb") as sink:
            first = read(files[0])
            with pa.ipc.new_file(sink, first.schema) as writer:
                for table in chain([first], map(read, files[1:])):  # one at a time in memory
                    for batch in table.combine_chunks().to_batches():
                        writer.write_batch(batch)
            sink.flush()
            os.fsync(sink.fileno())
        try:
            os.link(partial, copy)  # the first one's stays
        except FileExistsError:
            _keep_if_whole(copy, partial)
        except OSError:  # a file system without links
            partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
        pa.default_memory_pool().release_unused()
    _remove_old(copy.parent)


def _remove_old(folder: Path) -> None:
    """Remove what nobody used for a month, and parts that a crash left; whoever has one mapped keeps its pages."""
    oldest = time.time() - _KEPT_S
    for path in folder.glob(f"*{_SUFFIX}*"):
        with suppress(OSError):  # another user's, or another process was faster
            if path.stat().st_mtime < oldest:
                path.unlink()


def _keep_if_whole(copy: Path, partial: Path) -> None:
    """Leave a copy that another process wrote meanwhile; replace one that cannot be read."""
    try:
        _mapped(copy)
    except (OSError, pa.ArrowException):
        partial.replace(copy)
