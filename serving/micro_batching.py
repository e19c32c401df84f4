"""Requests that wait are computed together.

One batch computes at a time, in a thread of its own; whatever arrives meanwhile makes the next. So a lone request never
waits for company, and under load batches grow by themselves. (`serve.batch` closes a batch before the one ahead of it
has finished: without a waiting time, which every lone request would pay, 1,975 of 1,987 batches under a load of 16
clients held a single spectrum.)
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Group(Generic[Item, Answer]):
    """What one caller waits for, and since when."""

    items: Sequence[Item]
    future: "asyncio.Future[list[Answer]]"
    since: float


class Batcher(Generic[Item, Answer]):
    """Gathers groups of items into batches; belongs to one event loop.

    Args:
        compute: answers a batch, one answer an item, in order; called in a thread.
        max_batch_size: items of a batch; a group that alone is larger makes a batch of its own.
        observe: told of each batch: seconds that its groups waited, seconds that it took, its items.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Answer]],
        max_batch_size: int,
        *,
        observe: Callable[[Sequence[float], float, int], None] | None = None,
    ) -> None:
        self._compute, self._max_batch_size, self._observe = compute, max_batch_size, observe
        self._waiting: deque[_Group[Item, Answer]] = deque()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._task: asyncio.Task[None] | None = None

    async def submit(self, group: Sequence[Item]) -> list[Answer]:
        """Answer a group; raises what `compute` raised for its batch. A group whose caller has gone is not computed."""
        future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Group(group, future, time.perf_counter()))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            items = [item for group in batch for item in group.items]
            begun = time.perf_counter()
            try:
                answers = iter(await loop.run_in_executor(self._worker, self._compute, items))
            except Exception as error:
                for group in batch:
                    if not group.future.done():
                        group.future.set_exception(error)
                continue
            for group in batch:
                own = [next(answers) for _ in group.items]
                if not group.future.done():
                    group.future.set_result(own)
            if self._observe:
                self._observe([begun - group.since for group in batch], time.perf_counter() - begun, len(items))
        self._task = None  # no `await` since the queue was seen empty, so nothing can have been missed

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
