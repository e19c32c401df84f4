"""How waiting requests become batches."""

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from defectnet.errors import BusyError
from serving.micro_batching import Batcher


class Recorder:
    """Doubles numbers, remembers its batches, and waits for `go` where there is one."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        assert self.go.wait(10)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


def test_a_lone_group_does_not_wait():
    compute = Recorder()
    assert asyncio.run(Batcher(compute, 4).submit([1, 2])) == [2, 4]


def test_what_arrives_while_one_computes_makes_the_next_batches():
    compute = Recorder()

    async def run() -> list[list[int]]:
        batcher = Batcher(compute, 4)
        compute.go.clear()
        asks = [asyncio.create_task(batcher.submit(group)) for group in ([1], [2, 3], [4], [5, 6], [7, 8, 9, 10, 11])]
        await asyncio.sleep(0.05)
        compute.go.set()
        return await asyncio.gather(*asks)

    assert asyncio.run(run()) == [[2], [4, 6], [8], [10, 12], [14, 16, 18, 20, 22]]
    assert compute.batches[-1] == [7, 8, 9, 10, 11], "too large a group goes alone"
    assert [item for batch in compute.batches for item in batch] == list(range(1, 12)), "nothing overtakes"
    assert all(len(batch) <= 4 for batch in compute.batches[:-1])
    assert max(len(batch) for batch in compute.batches[:-1]) > 1


def test_a_caller_that_has_gone_is_not_computed_for():
    compute = Recorder()

    async def run() -> None:
        batcher = Batcher(compute, 1)
        compute.go.clear()
        first, second, third = (asyncio.create_task(batcher.submit([n])) for n in (1, 2, 3))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0)
        compute.go.set()
        assert await first == [2]
        assert await third == [6]

    asyncio.run(run())
    assert compute.batches == [[1], [3]]


def test_a_failure_reaches_its_batch_and_the_next_one_works():
    batcher = Batcher(Recorder(), 4)

    async def run() -> list[int]:
        with pytest.raises(ValueError, match="thirteen"):
            await batcher.submit([13])
        return await batcher.submit([1])

    assert asyncio.run(run()) == [2]


class Place:
    """Takes `seconds` an item, and remembers in which thread and how many items together."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls: list[tuple[bool, int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append((threading.current_thread() is threading.main_thread(), len(items)))
        time.sleep(self.seconds * len(items))
        return list(items)


def test_a_short_batch_computes_on_the_event_loop_and_a_long_one_beside_it():
    place = Place(0.01)

    async def run() -> None:
        batcher = Batcher(place, 64, inline_s=0.4)
        for size in (1, 1, 2, 100, 1):
            await batcher.submit(list(range(size)))

    asyncio.run(run())
    assert place.calls == [(False, 1), (True, 1), (True, 2), (False, 100), (True, 1)], "the first one's cost is unknown"


def test_requests_that_arrive_together_are_computed_together():
    place = Place(0.001)

    async def run() -> None:
        batcher = Batcher(place, 64, inline_s=10.0)
        await batcher.submit([0])

        async def ask(turns: int) -> list[int]:
            for _ in range(turns):  # as a request that is still being read
                await asyncio.sleep(0)
            return await batcher.submit([turns])

        await asyncio.gather(*(ask(turns) for turns in range(4)))

    asyncio.run(run())
    assert place.calls == [(False, 1), (True, 4)]


def test_more_than_may_wait_are_refused_and_the_others_answered():
    compute = Recorder()

    async def run() -> list[list[int] | BaseException]:
        batcher = Batcher(compute, 1, max_waiting=2)
        compute.go.clear()
        first = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.submit([n])) for n in (2, 3, 4)]
        await asyncio.sleep(0.05)
        compute.go.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    *answered, refused = asyncio.run(run())
    assert answered == [[2], [4], [6]]
    assert isinstance(refused, BusyError)
