"""Batches of hosts over Ray Data: what every run of the simulator has in common, whatever it makes of a host.

A run is a list of batches and a class of actors that turns each batch into a file and some rows of summary. The file
appears whole or not at all, and its rows say which host they are of, so that a run first asks its output what is there.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datagen.parents import Parent, list_parents, load_parents
from datagen.settings import PrepareSettings, SimulateSettings
from defectnet.errors import StorageError, TableError
from defectnet.io.cluster import cluster_failure, require_room, warn_when_silent
from defectnet.io.ray_session import ONE_THREAD, ray_session
from defectnet.io.storage import Location

__all__ = ["as_seen_everywhere", "chosen_parents", "finished_rows", "loaders_of", "run_batches"]

_LOG = logging.getLogger(__name__)
# Hosts after which a run that has no terminal says how far it is.
_TOLD_EVERY = 50
_Settings = TypeVar("_Settings", SimulateSettings, PrepareSettings)


def as_seen_everywhere(settings: _Settings) -> tuple[Location, _Settings]:
    """The output, and the settings with every path as any process finds it: actors have working folders of their own.

    Raises:
        StorageError: the object store cannot be reached.
    """
    output = Location.of(settings.output, field="output")
    here = {"output": str(output)}
    if settings.parents != "packaged":
        here["parents"] = str(Location.of(settings.parents, field="parents"))
    if settings.fragment_cache:
        here["fragment_cache"] = str(Path(settings.fragment_cache).resolve())
    return output, settings.model_copy(update=here)


def chosen_parents(settings: SimulateSettings | PrepareSettings) -> list[str]:
    """Names of the parents that a run is to work on, in its order.

    The order is random but fixed by the seed: however far a run comes, its parents are a fair sample.

    Raises:
        TableError: one that is asked for is not there, or the source cannot be read.
    """
    names = list_parents(settings.parents, settings.max_basis)
    if settings.parent_ids:
        missing = sorted(set(settings.parent_ids).difference(names))
        if missing:
            raise TableError(f"no parent {missing[0]!r} in {settings.parents}", fix="check its id", field="parent_ids")
        names = [name for name in names if name in settings.parent_ids]
    names.sort(key=lambda name: hashlib.sha256(f"{settings.seed}/{name}".encode()).digest())
    return names[: settings.max_parents]


def loaders_of(
    parents: str, names: Sequence[str], endmembers: Mapping[str, Mapping[Any, str]]
) -> dict[str, Callable[[], Parent]]:
    """For each of these parents, and for the end members that any of them may ask for, what computes it.

    They are read at once; nothing is computed before it is asked for.
    """
    beside = {end for name in names for end in endmembers.get(name, {}).values()}
    return dict(load_parents(parents, sorted(beside.union(names))))


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
            # Ray Data has to end before Ray does, or it complains at length of what is no longer there.
            with closing(_over_ray(work, writer, settings, batches, workers, len(tasks))) as rows:
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
) -> Generator[dict[str, Any], None, None]:
    # A dataset keeps the context that it was made in. Its own progress lines would bury ours.
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = False
    # A host of little symmetry may take an hour, and so may a cluster that has no room: that is no reason to give up.
    context.execution_no_progress_timeout_s = -1
    dataset = ray.data.from_items(batches, override_num_blocks=len(batches))
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
