"""Batches of hosts over Ray Data: what every run of the simulator has in common, whatever it makes of a host.

A run is a list of batches and a class of actors that turns each batch into a file and some rows of summary. The file
appears whole or not at all, and its rows say which host they are of, so that a run first asks its output what is there.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datagen.parents import list_parents
from defectnet.errors import StorageError, TableError
from defectnet.io.cluster import cluster_failure, require_room, warn_when_silent
from defectnet.io.ray_session import ONE_THREAD, ray_session
from defectnet.io.storage import Location

__all__ = ["chosen_parents", "everywhere", "finished_rows", "run_batches"]

_LOG = logging.getLogger(__name__)
# Hosts after which a run that has no terminal says how far it is.
_TOLD_EVERY = 50


def everywhere(parents: str) -> str:
    """A source of parents as every process finds it: actors have working folders of their own."""
    return parents if parents == "packaged" else str(Location.of(parents, field="parents"))


def chosen_parents(parents: str, parent_ids: Sequence[str], max_basis: int | None) -> list[str]:
    """Names of the parents of a source, or those asked for.

    Raises:
        TableError: one is not there, or the source cannot be read.
    """
    names = list_parents(parents, max_basis)
    if not parent_ids:
        return names
    missing = sorted(set(parent_ids).difference(names))
    if missing:
        raise TableError(f"no parent {missing[0]!r} in {parents}", fix="check its id", field="parent_ids")
    return [name for name in names if name in parent_ids]


def finished_rows(output: Location, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """These columns of every row in the Parquet files of a folder.

    Raises:
        TableError: a file cannot be read; it is named, to be deleted.
        StorageError: the object store cannot be reached.
    """
    for shard in output.files(".parquet"):
        try:
            with shard.open() as file:
                found = pq.read_table(file, columns=list(columns)).select(list(columns)).to_pylist()
        except (OSError, pa.ArrowInvalid, KeyError):
            raise TableError(
                f"{shard} is not a readable shard", fix="delete it and run again", field="output"
            ) from None
        yield from found


def run_batches(
    work: str, writer: type, settings: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], size: int, workers: int
) -> Iterator[dict[str, Any]]:
    """Rows of summary as they come, with a progress bar where there is a terminal.

    Where this process has no Ray, it joins the cluster that RAY_ADDRESS names, or starts a local one and ends it.

    Args:
        work: what is done, as the bar says it: "simulating".
        writer: the class of the actors, made with `settings`; called with a batch, `{"tasks": JSON}`, it returns rows
            with the keys "parent_id" (one row of each host names it, the others are "") and "failure".
        tasks: one a host.
        size: hosts of a batch.
        workers: actors.

    Raises:
        StorageError: what was made cannot be written, or the cluster has no room.
        DefectNetError: the cluster fails.
    """
    batches = [{"tasks": json.dumps(tasks[start : start + size])} for start in range(0, len(tasks), size)]
    try:
        with ray_session(workers, environment=ONE_THREAD):
            _room_for_objects()
            rows = _over_ray(work, writer, settings, batches, workers, len(tasks))
            for row in warn_when_silent(rows, _room_for_objects):
                if row["failure"]:  # a full disk: whatever is tried next would be computed for nothing
                    raise StorageError(row["failure"])
                yield row
    except ray.exceptions.RayError as error:
        raise cluster_failure(work, error, "finished shards are kept: run again to go on") from error


def _room_for_objects() -> None:
    require_room(ray.put, (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError))


def _over_ray(
    work: str, writer: type, settings: Mapping[str, Any], batches: list[dict[str, str]], workers: int, total: int
) -> Iterator[dict[str, Any]]:
    # Its own progress lines would bury ours.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    dataset = ray.data.from_items(batches, override_num_blocks=len(batches))
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.DataContext.get_current().execution_options.preserve_order = False
    summaries = dataset.flat_map(
        writer,
        fn_constructor_kwargs={"settings": dict(settings)},
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(batches))),
        num_cpus=1,
    )
    columns = (TextColumn(work), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not os.isatty(2)) as progress:
        bar = progress.add_task(work, total=total)
        finished = 0
        for row in summaries.iter_rows():
            if row["parent_id"]:
                finished += 1
                progress.update(bar, completed=finished)
                if finished % _TOLD_EVERY == 0:
                    _LOG.info("%d of %d parents done", finished, total)
            yield row
