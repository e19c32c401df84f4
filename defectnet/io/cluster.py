"""What the stages' runs on a cluster have in common, whatever the cluster is made of."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from defectnet.errors import DefectNetError, StorageError

__all__ = ["ONE_THREAD", "attended", "cut_off", "ray_session", "require_room"]

logger = logging.getLogger(__name__)

Row = TypeVar("Row")

# Numerical libraries that start a thread a core each would fight over the cores that Ray has given to others.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")

# How long nothing may come before it is asked whether anything can.
SILENCE_S = 30.0
# What must have room in the object store, where nothing else passes through it but names of parents or shards.
_PROBE_BYTES = 1_000_000
_LONGEST_REASON = 200


@contextmanager
def ray_session(variables: Mapping[str, str] | None = None, **local: Any) -> Iterator[None]:
    """A Ray that this process may use: the one it is connected to, the cluster that RAY_ADDRESS names (a submitted job
    finds its own there), or a local one that ends with this context.

    Args:
        variables: environment of the workers of a Ray that is joined or started here.
        local: further arguments of `ray.init` for a local one.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    # Ray refuses a variable that the job's own environment sets, be it to the same.
    missing = {name: value for name, value in (variables or {}).items() if name not in os.environ}
    options: dict[str, Any] = {"runtime_env": {"env_vars": missing}} if missing else {}
    if address == "local":
        options |= local
    ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, **options)
    try:
        yield
    finally:
        ray.shutdown()


def attended(rows: Iterator[Row], look: Callable[[], object], every_s: float = SILENCE_S) -> Iterator[Row]:
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


def cut_off(work: str, error: BaseException, remedy: str) -> DefectNetError:
    """A failure of the cluster, whose own report may be a page, as one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return DefectNetError(f"{work} was cut off ({lines[-1][:_LONGEST_REASON]}); {remedy}")
