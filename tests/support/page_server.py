"""The HTTP interface on a port, without Ray, and a headless browser to look at it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from defectnet.model.predictor import Predictor
from serving.api import make_api
from serving.batch.book import BatchBook
from serving.batch.jobs import JobRunner
from serving.settings import ServiceSettings
from support.local_api import LocalBackend, ScriptedJobs


class PageBackend(LocalBackend):
    """It tells of the model that it holds."""

    async def describe(self) -> list[dict[str, Any]]:
        (one,) = await super().describe()
        return [one | {"vocabulary": list(self.predictor.vocabulary), "reference": "a folder"}]


class PageServer:
    """A service that can be stopped and started again on its port.

    Args:
        settings: as the service's.
        backend: what answers.
        changed: changes the application before it is served.
        jobs: what runs the jobs.
    """

    def __init__(
        self,
        settings: ServiceSettings,
        backend: LocalBackend,
        changed: Callable[[FastAPI], Any] = lambda api: None,
        jobs: JobRunner | None = None,
    ) -> None:
        self.backend, self.settings, self._changed = backend, settings, changed
        self._jobs = jobs or ScriptedJobs()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None

    def start(self) -> None:
        self.backend.registry = CollectorRegistry()
        book = BatchBook(self.settings.batches, self._jobs, "sqlite:///none.db")
        api = make_api(self.settings, self.backend, book, self.backend.registry)
        self._changed(api)
        config = uvicorn.Config(api, host="127.0.0.1", port=self.port, log_level="critical", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self._server.started

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join(timeout=20)
            self._server = None


@contextlib.contextmanager
def served(settings: ServiceSettings, model: Path | Predictor, **more: Any) -> Iterator[PageServer]:
    """A page server until the context ends."""
    server = PageServer(settings, PageBackend(model), **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()
