"""The two ways from the HTTP interface to a model: in this very process, or in replicas of its own."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from defectnet.errors import BusyError
from defectnet.query import Query
from serving.replica import Model
from serving.tracing import current_parent

__all__ = ["APPLICATION", "OwnModel", "ReplicaBackend", "process_name"]

logger = logging.getLogger(__name__)

APPLICATION = "defectnet"

# A question to every replica, one of which may be starting or dying.
_BROADCAST_S = 5.0
# How soon a question whose replica died is asked again: Serve needs some tenths of a second to notice it.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
# A replica that has said nothing for so long, and for so many times the usual time, may be cut off (Ray notices that
# after half a minute): the question goes to another as well, and the first answer counts.
_SILENT_S, _SILENT_TIMES = 1.5, 4.0
# What weight the latest answer has in the usual time.
_LATEST = 0.1


def process_name(kind: str) -> str:
    """What this process is called, in metrics and traces."""
    return f"{kind}-{socket.gethostname()}-{os.getpid()}"


class _Processes:
    """What both ways ask of all processes of the service.

    Attributes:
        process: this one's name.
        registry: where this process counts its requests.
    """

    def __init__(self, kind: str, handles: Sequence[str], challenger: DeploymentHandle | None, batch: int) -> None:
        self.process = process_name(kind)
        self.registry = CollectorRegistry()
        self._counting, self._challenger, self._max_batch_size = tuple(handles), challenger, batch

    async def challenge(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Ask the challenger, of which one batch is enough to compare."""
        if self._challenger is None:
            return []
        answers: list[dict[str, Any]] = await self._challenger.challenge.remote(list(queries[: self._max_batch_size]))
        return answers

    async def describe(self) -> list[dict[str, Any]]:
        """Ask every replica which model it holds."""
        described: list[dict[str, Any]] = await _from_every_replica(_handle("model"), "describe")
        if not described:
            raise BusyError
        return described

    async def refresh(self) -> None:
        """Have every replica, and the challenger's, look at the registry now."""
        for handle in (_handle("model"), self._challenger):
            if handle is not None:
                await _from_every_replica(handle, "look_now")

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """The counters of all processes: this one asks the others."""
        handles = [*(_handle(name) for name in self._counting), self._challenger]
        answers = await asyncio.gather(
            *(_from_every_replica(handle, "metrics") for handle in handles if handle is not None)
        )
        return sorted((answer for group in answers for answer in group), key=lambda answer: str(answer[0]))


class OwnModel(_Processes):
    """The model in this very process; the others' are only asked what they are and what they have counted."""

    def __init__(self, model: Model, challenger: DeploymentHandle | None, max_batch_size: int) -> None:
        super().__init__("model", ("model",), challenger, max_batch_size)
        self._model = model

    async def predict(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Compute queries in groups of at most a batch, between which other requests have their turn."""
        parent = current_parent()
        return await _in_groups(queries, self._max_batch_size, lambda group: self._model.predict(group, parent))

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        """An answer and what is behind it."""
        return await self._model.study(query, source)

    async def ready(self) -> None:
        """Return: a process without a model does not listen."""


class ReplicaBackend(_Processes):
    """Models in processes of their own, asked over Ray."""

    def __init__(self, model: DeploymentHandle, challenger: DeploymentHandle | None, max_batch_size: int) -> None:
        super().__init__("ingress", ("model", "ingress"), challenger, max_batch_size)
        # Among the service's own processes; Ray's default, cloudpickle, takes ten times as long for a small answer.
        self._model = model.options(request_serialization="pickle", response_serialization="pickle")
        self._usual_s = 0.0

    async def predict(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Send queries in groups of at most a batch, which may be answered by several replicas at once."""
        return await _in_groups(queries, self._max_batch_size, self._hedged)

    async def _hedged(self, group: list[Query]) -> list[dict[str, Any]]:
        """Ask one replica, and another where that one stays silent; the first answer counts."""
        begun = time.monotonic()
        asked = [asyncio.ensure_future(self._ask(group))]
        try:
            done, _ = await asyncio.wait(asked, timeout=max(_SILENT_S, _SILENT_TIMES * self._usual_s))
            if not done:
                logger.warning("a replica is silent; what it was asked goes to another, too")
                asked.append(asyncio.ensure_future(self._ask(group)))
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            answers = min(done, key=asked.index).result()
        finally:
            for question in asked:
                question.cancel()
        self._usual_s += _LATEST * (time.monotonic() - begun - self._usual_s)
        return answers

    async def _ask(self, group: list[Query]) -> list[dict[str, Any]]:
        """Ask one replica; where it dies with the question, ask another. The request's own deadline ends it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answers: list[dict[str, Any]] = await self._model.predict.remote(group, current_parent())
            except BackPressureError as error:
                raise BusyError(error.retry_after_s or 1.0) from None
            except RayActorError:
                logger.warning("a replica is gone; what it was asked goes to another")
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
            else:
                return answers

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        """Ask one replica for an answer and what is behind it."""
        try:
            studied: dict[str, Any] = await self._model.study.remote(query, source)
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None
        return studied

    async def ready(self) -> None:
        """Ask one replica whether it is there."""
        try:
            await self._model.ready.remote()
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None


async def _in_groups(
    queries: Sequence[Query], step: int, ask: Callable[[list[Query]], Awaitable[list[dict[str, Any]]]]
) -> list[dict[str, Any]]:
    """The answers to all groups of at most `step` queries; where one is refused, the others are taken back.

    Queries about one host go together, for what is prepared for it serves all of a batch.
    """
    if len(queries) <= step:
        return await ask(list(queries))
    order = sorted(range(len(queries)), key=lambda place: (queries[place].host.formula, queries[place].kind))
    groups = [[queries[place] for place in order[start : start + step]] for start in range(0, len(order), step)]
    asked = [asyncio.ensure_future(ask(group)) for group in groups]
    try:
        made = await asyncio.gather(*asked)
    finally:
        for question in asked:
            question.cancel()
    found = dict(zip(order, (answer for group in made for answer in group), strict=True))
    return [found[place] for place in range(len(queries))]


def _handle(name: str) -> DeploymentHandle:
    return serve.get_deployment_handle(name, APPLICATION)


async def _from_every_replica(handle: DeploymentHandle, method: str) -> list[Any]:
    """The answers of those replicas that answer."""
    try:
        answers = await handle.broadcast(method).results_async(timeout_s=_BROADCAST_S, return_exceptions=True)
    except TimeoutError:
        return []
    return [answer for answer in answers if not isinstance(answer, BaseException)]
