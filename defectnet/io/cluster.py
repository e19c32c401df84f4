"""What the stages' runs on a cluster have in common, whatever the cluster is made of."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from defectnet.errors import DefectNetError, StorageError

__all__ = ["warn_when_silent", "cluster_failure", "require_room"]

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

# How long nothing may come before it is asked whether anything can.
SILENCE_S = 30.0
# What must have room in the object store, where nothing else passes through it but names of parents or shards.
_PROBE_BYTES = 1_000_000
_LONGEST_REASON = 200


def warn_when_silent(rows: Iterator[Row], look: Callable[[], object], every_s: float = SILENCE_S) -> Iterator[Row]:
    """`rows`; while none comes, `look` is called now and then, and an error that it raises is logged.

    A cluster whose object store is full neither fails nor ends: it waits for room, and goes on once somebody makes it.
    """
    last = time.monotonic()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every_s):
            if time.monotonic() - last >= every_s:
                try:
                    look()
                except DefectNetError as error:
                    logger.warning("waiting: %s", error)

    watcher = threading.Thread(target=watch, daemon=True, name="silence")
    watcher.start()
    try:
        for row in rows:
            last = time.monotonic()
            yield row
    finally:
        over.set()
        watcher.join()


def require_room(put: Callable[[bytes], object], full: tuple[type[Exception], ...]) -> None:
    """Whether the cluster is able to pass anything on: where it is not, it would be waited for without a word.

    Args:
        put: puts some bytes into the object store.
        full: what it raises where there is no room.

    Raises:
        StorageError: there is none.
    """
    try:
        put(bytes(_PROBE_BYTES))
    except full:
        raise StorageError(
            "the cluster's object store and the disk that it spills to are full: end what fills them"
        ) from None


def cluster_failure(work: str, error: BaseException, remedy: str) -> DefectNetError:
    """A failure of the cluster, whose own report may be a page, as one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return DefectNetError(f"{work} was cut off ({lines[-1][:_LONGEST_REASON]}); {remedy}")
