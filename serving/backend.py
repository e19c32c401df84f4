"""What answers behind the HTTP interface, as the interface sees it; and one way to it that every protocol shares."""

import asyncio
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import HTTPException, Request
from prometheus_client import Metric

from defectnet.errors import InputError
from defectnet.prediction import Prediction
from defectnet.query import Query
from serving.settings import ServiceSettings
from serving.shadow import Shadowing

__all__ = ["Backend", "DataPlane", "Item", "first_error", "read_each"]

# Checking a spectrum takes some 0.1 ms; after so many the event loop gets a turn, for the other requests.
_YIELD_EVERY = 16
_TIMEOUT_HEADER = "x-request-timeout-seconds"


class Backend(Protocol):
    """The replicas that hold the model."""

    async def predict(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """One answer a query, in order; raises `BusyError`."""

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        """One answer and what is behind it (`serving.page.study.study`); raises `InputError` and `BusyError`."""

    async def challenge(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """The challenger's answers; empty where none is loaded."""

    async def ready(self) -> None:
        """Return once a replica answers; raises `BusyError`."""

    async def describe(self) -> list[dict[str, Any]]:
        """The model of every replica, at least one."""

    async def refresh(self) -> None:
        """Have every replica look at the registry now."""

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """The counters of every process of the service, by the process's name."""


@dataclass(frozen=True)
class Item:
    """One spectrum of a request.

    Attributes:
        read: a query, or why there is none.
        sample_id, host: as the caller gave them, for the answer to an item that is wrong.
    """

    read: Query | InputError
    sample_id: str = ""
    host: str = ""


async def read_each(raw: Sequence[Any] | Iterator[Any], read: Callable[[Any], Item]) -> list[Item]:
    """Read the items of a request one by one, letting other requests pass between them."""
    items = []
    for index, value in enumerate(raw):
        if index % _YIELD_EVERY == _YIELD_EVERY - 1:
            await asyncio.sleep(0)
        items.append(read(value))
    return items


def first_error(items: Sequence[Item]) -> InputError:
    """The refusal of a request in which no spectrum is good."""
    error = next(item.read for item in items if isinstance(item.read, InputError))
    # `spectrum` is the item itself, not a key of it.
    return error.at("spectra[0]" if error.field in ("", "spectrum") else f"spectra[0].{error.field}")


class DataPlane:
    """Asks the backend on behalf of every protocol, within the request's time."""

    def __init__(self, settings: ServiceSettings, backend: Backend, shadowing: Shadowing) -> None:
        self._timeout_s, self._backend, self._shadowing = settings.request_timeout_s, backend, shadowing
        self._share = settings.shadow.share if settings.shadow.model else 0.0

    async def predict(self, items: Sequence[Item], request: Request) -> list[dict[str, Any]]:
        """One prediction an item, in order. A bad item among good ones costs only itself.

        Raises:
            InputError: no item is good.
            HTTPException: 504 where the answer took longer than the request may.
            BusyError: too much waits.
        """
        queries = [item.read for item in items if isinstance(item.read, Query)]
        if not queries:
            raise first_error(items)
        limit_s = _time_limit(request, self._timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                answered = await self._backend.predict(queries)
        except TimeoutError:
            raise HTTPException(504, f"no answer within {limit_s:g} s; ask for less, or wait longer") from None
        if random.random() < self._share:
            self._shadowing.compare(queries, answered)
        answers = iter(answered)
        return [
            next(answers)
            if isinstance(item.read, Query)
            else Prediction.failed(item.sample_id, item.host, item.read).to_dict()
            for item in items
        ]


def _time_limit(request: Request, longest_s: float) -> float:
    """Seconds that an answer may take: the client's wish, never more than the service's limit."""
    try:
        wanted = float(request.headers.get(_TIMEOUT_HEADER, "nan"))
    except ValueError:
        return longest_s
    return min(wanted, longest_s) if math.isfinite(wanted) and wanted > 0 else longest_s
