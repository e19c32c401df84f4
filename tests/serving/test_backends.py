"""The ways to a model, without Ray: handles are scripted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from defectnet.errors import BusyError
from defectnet.host import Host
from defectnet.query import Query
from defectnet.spectrum import Spectrum
from serving import backends
from serving.backends import OwnModel, ReplicaBackend

Answers = list[dict[str, Any]]


def queries(n: int) -> list[Query]:
    axis = [float(i) for i in range(1, 12)]
    return [Query(str(index), Host("Si"), Spectrum.from_unit(axis, [1.0] * 11, "THz")) for index in range(n)]


def answers(group: Sequence[Query]) -> Answers:
    return [{"sample_id": query.sample_id} for query in group]


class Handle:
    """A deployment's handle; the questions are answered by `replicas`, one after another."""

    def __init__(self, *replicas: Callable[[list[Query]], Awaitable[Answers]]) -> None:
        self.replicas, self.asked = list(replicas), 0
        self.predict = self

    def options(self, **_: Any) -> "Handle":
        return self

    def remote(self, group: list[Query], _: str | None) -> Awaitable[Answers]:
        self.asked += 1
        return self.replicas[min(self.asked, len(self.replicas)) - 1](group)


class Silent:
    """A replica that is cut off; remembers whether the question was taken back."""

    taken_back = False

    async def __call__(self, group: list[Query]) -> Answers:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.taken_back = True
            raise
        return answers(group)


async def good(group: list[Query]) -> Answers:
    return answers(group)


async def dead(_: list[Query]) -> Answers:
    raise RayActorError


async def full(_: list[Query]) -> Answers:
    raise BackPressureError(num_queued_requests=1, max_queued_requests=1)


def ask(handle: Handle, n: int = 1) -> Answers:
    backend = ReplicaBackend(handle, None, 2)  # type: ignore[arg-type]
    return asyncio.run(asyncio.wait_for(backend.predict(queries(n)), 10))


def test_a_silent_replica_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "_SILENT_S", 0.05)
    silent = Silent()
    handle = Handle(silent, good)
    assert ask(handle) == answers(queries(1))
    assert handle.asked == 2
    assert silent.taken_back


def test_one_that_answers_in_time_is_asked_once():
    handle = Handle(good)
    assert ask(handle, 5) == answers(queries(5))
    assert handle.asked == 3, "groups of two"


def test_what_a_dead_replica_was_asked_goes_to_another():
    assert ask(Handle(dead, dead, good)) == answers(queries(1))


def test_a_full_queue_is_said_so():
    with pytest.raises(BusyError):
        ask(Handle(full))


class Held:
    """A model that answers, or refuses the groups that hold `bad`; counts how many are under way."""

    def __init__(self, bad: str = "") -> None:
        self.bad, self.groups, self.cancelled = bad, 0, 0
        self.hosts: list[set[str]] = []

    async def predict(self, group: list[Query], _: str | None) -> Answers:
        self.groups += 1
        self.hosts.append({query.host.formula for query in group})
        if self.bad in [query.sample_id for query in group]:
            raise BusyError
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return answers(group)


def test_the_own_model_answers_in_groups_and_in_order():
    held = Held()
    backend = OwnModel(held, None, 2)  # type: ignore[arg-type]
    assert asyncio.run(backend.predict(queries(5))) == answers(queries(5))
    assert held.groups == 3


def test_spectra_of_one_host_are_computed_together_and_answered_in_order():
    held = Held()
    of_two = [replace(query, host=Host(("Si", "Ge")[row % 2])) for row, query in enumerate(queries(6))]
    assert asyncio.run(OwnModel(held, None, 3).predict(of_two)) == answers(of_two)  # type: ignore[arg-type]
    assert held.hosts == [{"Ge"}, {"Si"}]


def test_a_request_that_is_refused_in_part_is_refused_as_busy_and_computes_no_further():
    held = Held(bad="4")
    backend = OwnModel(held, None, 2)  # type: ignore[arg-type]
    with pytest.raises(BusyError):
        asyncio.run(backend.predict(queries(5)))
    assert held.cancelled == 2
