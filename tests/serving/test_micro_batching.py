"""How waiting requests become batches."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

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
