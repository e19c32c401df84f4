"""What the stages' runs on a cluster have in common, whatever the cluster is made of."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from defectnet.errors import DefectNetError

__all__ = ["attended", "cut_off"]

Row = TypeVar("Row")

# How long nothing may come before it is asked whether anything can.
SILENCE_S = 20.0
_LONGEST_REASON = 200


def attended(rows: Iterator[Row], look: Callable[[], object], every_s: float = SILENCE_S) -> Iterator[Row]:
    """`rows`, taken in a thread of their own: while none comes, `look` is called now and then and may raise.

    A cluster whose object store is full neither fails nor ends: it waits for room that nobody makes.
    """
    # A row in a tuple of its own, an empty one at the end, or what went wrong.
    taken: queue.SimpleQueue[tuple[Row, ...] | BaseException] = queue.SimpleQueue()

    def take() -> None:
        try:
            for row in rows:
                taken.put((row,))
            taken.put(())
        except BaseException as error:  # whatever it is, it belongs to whoever asked for the rows
            taken.put(error)

    threading.Thread(target=take, daemon=True, name="rows").start()
    while True:
        try:
            next_one = taken.get(timeout=every_s)
        except queue.Empty:
            look()
            continue
        if isinstance(next_one, BaseException):
            raise next_one
        if not next_one:
            return
        yield next_one[0]


def cut_off(work: str, error: BaseException, remedy: str) -> DefectNetError:
    """A failure of the cluster, whose own report may be a page, as one sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return DefectNetError(f"{work} was cut off ({lines[-1][:_LONGEST_REASON]}); {remedy}")
