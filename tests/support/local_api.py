"""The HTTP interface in this process: a backend without Ray, and a synchronous client of it."""

import asyncio
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Metric

from defectnet.model.predictor import Predictor
from defectnet.query import Query
from serving.api import make_api
from serving.batch.book import BatchBook
from serving.batch.jobs import State
from serving.page.study import study
from serving.schemas import ErrorAnswer
from serving.settings import ServiceSettings

DESCRIPTION: dict[str, Any] = {
    "process": "model-here-1",
    "name": "defectnet",
    "version": "3",
    "run_id": None,
    "reference": "models:/defectnet@champion",
    "weights_sha256": "0" * 64,
    "loaded_at": "2026-01-01T00:00:00+00:00",
    "vocabulary": ["Ge"],
    "hosts_seen": ["Si"],
    "kinds": ["vibrational"],
    "grid": {},
    "metrics": {"f1": 0.5},
    "card": "# Card",
    "problem": None,
}


class LocalBackend:
    """The model in the same process; `fault` is raised instead of an answer, `delay_s` comes before one."""

    def __init__(self, model: Path | Predictor) -> None:
        self.predictor = model if isinstance(model, Predictor) else Predictor.load(model, version="3")
        self.challenger: Predictor | None = None
        self.fault: Exception | None = None
        self.delay_s = 0.0
        self.refreshed = 0
        self.cancelled = 0
        self.registry = CollectorRegistry()

    async def predict(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        if self.fault:
            raise self.fault
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [prediction.to_dict() for prediction in self.predictor.predict(queries)]

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        if self.fault:
            raise self.fault
        return study(self.predictor, query, source=source)

    async def challenge(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        if self.challenger is None:
            return []
        return [prediction.to_dict() for prediction in self.challenger.predict(queries)]

    async def ready(self) -> None:
        if self.fault:
            raise self.fault

    async def describe(self) -> list[dict[str, Any]]:
        if self.fault:
            raise self.fault
        return [DESCRIPTION]

    async def refresh(self) -> None:
        self.refreshed += 1

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        return [("here", list(self.registry.collect()))]


class ScriptedJobs:
    """Jobs that never run; a test says how they are."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.commands: list[str] = []

    def start(self, name: str, command: str) -> None:
        self.states[name] = "pending"
        self.commands.append(command)

    def state(self, name: str) -> State | None:
        return self.states.get(name)

    def stop(self, name: str) -> None:
        self.states[name] = "stopped"


class ProcessJobs(ScriptedJobs):
    """Jobs that run, each as a process of its own; `stop_all` ends what still does."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: str) -> None:
        super().start(name, command)
        self.processes[name] = subprocess.Popen(shlex.split(command))

    def state(self, name: str) -> State | None:
        if name not in self.processes:
            return None
        code = self.processes[name].poll()
        return "running" if code is None else "failed" if code else "succeeded"

    def stop_all(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


class Client:
    """A synchronous client of the ASGI application."""

    def __init__(self, settings: ServiceSettings, backend: LocalBackend) -> None:
        self.jobs = ScriptedJobs()
        backend.registry = CollectorRegistry()
        book = BatchBook(settings.batches, self.jobs, "sqlite:///none.db")
        self.api = make_api(settings, backend, book, backend.registry)
        self.backend = backend

    def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        return asyncio.run(self.ask(method, path, **kwargs))

    async def ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **kwargs)

    def predict(self, *spectra: Any, **kwargs: Any) -> httpx.Response:
        return self.request("POST", "/v1/predict", json={"spectra": list(spectra)}, **kwargs)

    def send(self, body: bytes, content_type: str = "application/json", path: str = "/v1/predict") -> httpx.Response:
        return self.request("POST", path, content=body, headers={"content-type": content_type})


def refused(answer: httpx.Response, status: int, field: str = "") -> str:
    """Check that an answer is a refusal in one sentence without internals, and return the sentence."""
    error = ErrorAnswer.model_validate(answer.json())
    assert answer.status_code == status, error
    assert error.field == field
    assert "\n" not in error.error
    assert "Traceback" not in error.error
    assert ".py" not in error.error
    return error.error
