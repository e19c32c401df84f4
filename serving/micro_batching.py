"""Requests that wait are computed together.

One batch computes at a time; whatever arrives meanwhile makes the next. So a lone request never waits for company, and
under load batches grow by themselves. (`serve.batch` closes a batch before the one ahead of it has finished: without a
waiting time, which every lone request would pay, 1,975 of 1,987 batches under a load of 16 clients held a single
spectrum.)

A batch computes in a thread of its own, so that the event loop goes on reading requests. Where it is short it computes
on the event loop itself: handing it to a thread and back costs some 0.2 ms, and as much again for every time that the
two threads take the interpreter's lock from one another.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from defectnet.errors import BusyError

__all__ = ["INLINE_S", "Batcher"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")

# The longest that the event loop may be kept from everyone else: four times what Python's own threads wait for each
# other (`sys.getswitchinterval`, 5 ms), and far less than the half second that a health check waits.
INLINE_S = 0.02
# Requests that arrived together reach the batcher within so many turns of the event loop; a turn takes some 10 µs.
_GATHERING_TURNS = 8
# What weight the latest batch has in the running mean of the time that one item takes.
_LATEST = 0.2


@dataclass(frozen=True)
class _Group(Generic[Item, Answer]):
    """What one caller waits for, since when, and the span that it belongs to."""

    items: Sequence[Item]
    parent: str | None
    future: "asyncio.Future[list[Answer]]"
    since: float


def _nothing_around(_: Sequence[str | None], __: int) -> AbstractContextManager[None]:
    return nullcontext()


class Batcher(Generic[Item, Answer]):
    """Gathers groups of items into batches; belongs to one event loop.

    Args:
        compute: answers a batch, one answer an item, in order; called in a thread, or on the event loop where a batch
            is expected to be short.
        max_batch_size: items of a batch; a group that alone is larger makes a batch of its own.
        observe: told of each batch: seconds that its groups waited, seconds that it took, its items.
        max_waiting: groups that may wait before another is refused; None for as many as come.
        inline_s: the longest batch, in seconds, that computes on the event loop; 0 for none.
        around: entered around each batch, with its callers' spans (`serving.tracing`) and the number of its items.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Answer]],
        max_batch_size: int,
        *,
        observe: Callable[[Sequence[float], float, int], None] | None = None,
        max_waiting: int | None = None,
        inline_s: float = INLINE_S,
        around: Callable[[Sequence[str | None], int], AbstractContextManager[None]] | None = None,
    ) -> None:
        self._compute, self._max_batch_size, self._observe = compute, max_batch_size, observe
        self._max_waiting, self._inline_s, self._around = max_waiting, inline_s, around or _nothing_around
        self._item_s: float | None = None  # unknown until a batch has been computed
        self._waiting: deque[_Group[Item, Answer]] = deque()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._task: asyncio.Task[None] | None = None

    async def submit(self, group: Sequence[Item], parent: str | None = None) -> list[Answer]:
        """Answer a group; raises what `compute` raised for its batch. A group whose caller has gone is not computed.

        Raises:
            BusyError: `max_waiting` groups wait already.
        """
        if self._max_waiting is not None and len(self._waiting) >= self._max_waiting:
            raise BusyError
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Group(group, parent, future, time.perf_counter()))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            if not (batch := self._next()):
                break
            items = [item for group in batch for item in group.items]
            begun = time.perf_counter()
            try:
                with self._around([group.parent for group in batch], len(items)):
                    if self._is_short(len(items)):
                        made = self._compute(items)
                    else:
                        made = await loop.run_in_executor(self._worker, self._compute, items)
            except Exception as error:
                for group in batch:
                    if not group.future.done():
                        group.future.set_exception(error)
                continue
            took_s = time.perf_counter() - begun
            answers = iter(made)
            for group in batch:
                own = [next(answers) for _ in group.items]
                if not group.future.done():
                    group.future.set_result(own)
            self._learn(took_s / len(items))
            if self._observe:
                self._observe([begun - group.since for group in batch], took_s, len(items))
        self._task = None  # no `await` since the queue was seen empty, so nothing can have been missed

    async def _gather(self) -> None:
        """Let those in whose requests have arrived already, and those out whose answers are made."""
        waiting = -1
        for _ in range(_GATHERING_TURNS):
            if len(self._waiting) == waiting:
                return
            waiting = len(self._waiting)
            await asyncio.sleep(0)

    def _is_short(self, items: int) -> bool:
        return self._item_s is not None and items * self._item_s <= self._inline_s

    def _learn(self, item_s: float) -> None:
        self._item_s = item_s if self._item_s is None else self._item_s + _LATEST * (item_s - self._item_s)

    def _next(self) -> "list[_Group[Item, Answer]]":
        batch: list[_Group[Item, Answer]] = []
        size = 0
        while self._waiting:
            group = self._waiting[0]
            if batch and size + len(group.items) > self._max_batch_size:
                break
            self._waiting.popleft()
            if not group.future.done():
                batch.append(group)
                size += len(group.items)
        return batch
