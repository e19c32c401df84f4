"""Every route and who may use it; MLflow's layouts, the webhook, deadlines, metrics, the challenger, batches."""

import asyncio
import base64
import hmac
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route
from support.local_api import DESCRIPTION, Client, LocalBackend, refused
from support.random_models import random_artifact

from defectnet.model.predictor import Predictor
from serving.auth import ACCESS, hash_token
from serving.schemas import ModelAnswer
from serving.settings import BatchJobSettings, ServiceSettings, Shadow
from serving.shadow import disagreement

Make = Callable[..., dict[str, Any]]

_TOKENS = {role: {"sha256": hash_token(f"the {role} token"), "roles": [role]} for role in ("score", "batch", "admin")}


def routes(client: Client) -> list[tuple[str, str]]:
    found = []
    for route in client.api.routes:
        assert isinstance(route, Route | APIRoute), f"{route} is of a kind that this test cannot ask"
        found += [(method, route.path) for method in route.methods or () if method != "HEAD"]
    return found


def test_every_route_has_an_authorisation_decision(backend: LocalBackend):
    """A route that is new has no line in ACCESS; one that is gone has one too many."""
    client = Client(ServiceSettings(), backend)
    assert sorted(f"{method} {path}" for method, path in routes(client)) == sorted(ACCESS)


def test_a_route_without_a_decision_cannot_be_made(monkeypatch: pytest.MonkeyPatch, backend: LocalBackend):
    decisions = {route: access for route, access in ACCESS.items() if route != "GET /metrics"}
    monkeypatch.setattr("serving.api.ACCESS", decisions)
    with pytest.raises(KeyError, match="GET /metrics"):
        Client(ServiceSettings(), backend)


def test_every_decision_is_kept(backend: LocalBackend):
    """Asked with no token, and with one of each role: the body is empty, so whoever is let in gets another refusal."""
    client = Client(ServiceSettings.model_validate({"tokens": _TOKENS}), backend)
    for method, path in routes(client):
        access = ACCESS[f"{method} {path}"]
        place = re.sub(r"\{.*?\}", "x", path)
        for role in (None, "score", "batch", "admin"):
            headers = {"authorization": f"Bearer the {role} token"} if role else {}
            status = client.request(method, place, headers=headers).status_code
            if access == "open" or (role and access == "any") or role in (access, "admin"):
                assert status not in (401, 403), (method, path, role)
            else:
                assert status == (403 if role else 401), (method, path, role)


def test_model_tells_all(client: Client):
    model = ModelAnswer.model_validate(client.request("GET", "/v1/model").json())
    assert model.metrics == DESCRIPTION["metrics"]
    assert [replica.process for replica in model.replicas] == ["model-here-1"]


# ── MLflow's layouts ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_all_of_mlflows_layouts(client: Client, spectrum: Make):
    row = spectrum()
    bodies = [
        {"dataframe_split": {"columns": list(row), "data": [list(row.values())], "index": [0]}},
        {"dataframe_split": {"columns": [*row, "kind"], "data": [[*row.values(), None]]}},
        {"dataframe_records": [row]},
        {"instances": [row]},
        {"inputs": [row]},
        {"inputs": {name: [value] for name, value in row.items()}, "params": None},
    ]
    answers = [client.request("POST", "/invocations", json=body).json() for body in bodies]
    assert answers[0]["predictions"][0]["error"] is None
    assert all(answer == answers[0] for answer in answers)
    assert client.request("GET", "/ping").text == "\n"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "body"),
        ({"inputs": [], "instances": []}, "body"),
        ({"inputs": [], "else": 1}, "else"),
        ({"inputs": [1], "params": {"n": 1}}, "params"),
        ({"inputs": {"a": [1], "b": []}}, "inputs"),
        ({"inputs": {"a": 1}}, "inputs"),
        ({"dataframe_split": 3}, "dataframe_split.columns"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "dataframe_split.columns"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data"),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "dataframe_split.data[0]"),
        ({"dataframe_records": [1, 2, 3, 4, 5]}, "dataframe_records"),
    ],
)
def test_what_is_no_layout(client: Client, body: Any, field: str):
    refused(client.request("POST", "/invocations", json=body), 422, field)


# ── the webhook ───────────────────────────────────────────────────────────────────────────────────────────────────────
_SECRET = b"the webhook's secret"


def delivery(body: bytes, *, secret: bytes = _SECRET, age_s: float = 0.0) -> dict[str, str]:
    stamp = str(int(time.time() - age_s))
    signature = hmac.digest(secret, b"id-1." + stamp.encode() + b"." + body, "sha256")
    return {
        "content-type": "application/json",
        "x-mlflow-delivery-id": "id-1",
        "x-mlflow-timestamp": stamp,
        "x-mlflow-signature": "v1," + base64.b64encode(signature).decode(),
    }


@pytest.fixture
def hooked(backend: LocalBackend, tmp_path: Path) -> Client:
    (tmp_path / "secret").write_bytes(_SECRET + b"\n")
    backend.refreshed = 0
    return Client(ServiceSettings(webhook_secret_file=str(tmp_path / "secret")), backend)


def test_a_signed_delivery_has_the_registry_looked_at(hooked: Client):
    body = b'{"entity": "model_version_alias", "action": "created"}'
    answer = hooked.request("POST", "/v1/webhooks/mlflow", content=body, headers=delivery(body))
    assert answer.status_code == 202
    assert hooked.backend.refreshed == 1


def test_mlflow_signs_so(hooked: Client):
    from mlflow.webhooks.delivery import _generate_hmac_signature

    headers = delivery(b"{}")
    stamp = headers["x-mlflow-timestamp"]
    assert headers["x-mlflow-signature"] == _generate_hmac_signature(_SECRET.decode(), "id-1", stamp, "{}")


@pytest.mark.parametrize(
    "make",
    [
        lambda: delivery(b"{}", secret=b"another"),
        lambda: delivery(b"{ }"),
        lambda: delivery(b"{}", age_s=400),
        lambda: delivery(b"{}", age_s=-400),
        lambda: delivery(b"{}") | {"x-mlflow-signature": "v1,é"},
        lambda: delivery(b"{}") | {"x-mlflow-signature": ""},
        lambda: delivery(b"{}") | {"x-mlflow-timestamp": "now"},
        lambda: delivery(b"{}") | {"x-mlflow-delivery-id": "id-2"},
    ],
)
def test_a_delivery_that_is_not_mlflows(hooked: Client, make: Callable[[], dict[str, str]]):
    # Signed now: a delivery that was made when the tests were collected ages while others run.
    raw = {name: value.encode("latin-1") for name, value in make().items()}
    refused(hooked.request("POST", "/v1/webhooks/mlflow", content=b"{}", headers=raw), 401, "x-mlflow-signature")
    assert hooked.backend.refreshed == 0


def test_no_webhook_unless_it_is_set(client: Client):
    headers = delivery(b"{}")
    refused(client.request("POST", "/v1/webhooks/mlflow", content=b"{}", headers=headers), 404, "webhooks")


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("service_s", "header"), [(0.05, None), (60.0, "0.05"), (0.05, "3600"), (0.05, "0")])
def test_a_deadline_is_kept_and_what_was_asked_is_dropped(
    backend: LocalBackend, spectrum: Make, service_s: float, header: str | None
):
    """Neither a longer wish nor a zero, which would switch Ray Serve's own limit off, goes beyond the service's."""
    client = Client(ServiceSettings(request_timeout_s=service_s), backend)
    backend.delay_s, backend.cancelled = 5.0, 0
    try:
        headers = {"x-request-timeout-seconds": header} if header else {}
        assert "0.05 s" in refused(client.predict(spectrum(), headers=headers), 504)
    finally:
        backend.delay_s = 0.0
    assert backend.cancelled == 1


def test_a_body_that_dawdles_is_cut_off_and_holds_nobody_else(backend: LocalBackend, spectrum: Make):
    client = Client(ServiceSettings(body_timeout_s=0.3), backend)

    async def slowly() -> Any:
        while True:
            await asyncio.sleep(0.05)
            yield b" "

    async def run() -> tuple[Any, float, Any]:
        headers = {"content-type": "application/json"}
        slow = asyncio.create_task(client.ask("POST", "/v1/predict", content=slowly(), headers=headers))
        begun = time.perf_counter()
        quick = await client.ask("POST", "/v1/predict", json={"spectra": [spectrum()]})
        return quick, time.perf_counter() - begun, await slow

    quick, seconds, slow = asyncio.run(run())
    assert quick.status_code == 200
    assert seconds < 0.3
    refused(slow, 408, "body")


def test_bodies_share_a_limit(backend: LocalBackend, spectrum: Make):
    client = Client(ServiceSettings(max_bytes_in_flight=30_000, max_body_bytes=30_000), backend)

    async def half() -> Any:
        yield b" " * 20_000
        await asyncio.sleep(0.5)

    async def run() -> Any:
        headers = {"content-type": "application/json"}
        first = asyncio.create_task(client.ask("POST", "/v1/predict", content=half(), headers=headers))
        await asyncio.sleep(0.1)
        second = await client.ask("POST", "/v1/predict", content=b" " * 20_000, headers=headers)
        await first
        return second, await client.ask("POST", "/v1/predict", content=b" " * 20_000, headers=headers)

    second, afterwards = asyncio.run(run())
    assert "busy" in refused(second, 503)
    assert second.headers["retry-after"] == "1"
    refused(afterwards, 422, "body")


# ── metrics and the challenger ────────────────────────────────────────────────────────────────────────────────────────
def test_metrics_count_by_route_and_never_by_path(client: Client, spectrum: Make):
    client.predict(spectrum())
    client.predict(spectrum(unit="GHz"))
    for index in range(3):
        client.request("GET", f"/v2/models/stranger-{index}")
        client.request("GET", f"/nothing-{index}")
    text = client.request("GET", "/metrics").text
    assert 'defectnet_requests_total{process="here",route="/v1/predict",status="200"} 1.0' in text
    assert 'route="/v1/predict",status="422"} 1.0' in text
    assert 'route="/v2/models/{name}",status="404"} 3.0' in text
    assert 'route="none",status="404"} 3.0' in text
    assert "stranger" not in text


def test_a_challenger_is_compared_and_answers_nobody(backend: LocalBackend, spectrum: Make, tmp_path: Path):
    backend.challenger = Predictor.load(random_artifact(tmp_path / "challenger", 9), version="9")
    settings = ServiceSettings(shadow=Shadow(model="models:/defectnet@challenger", share=1.0))
    client = Client(settings, backend)

    async def run() -> Any:
        answer = await client.ask("POST", "/v1/predict", json={"spectra": [spectrum(candidates=None)] * 3})
        await asyncio.sleep(0.5)  # it is asked after the answer was made
        return answer

    answer = asyncio.run(run())
    assert {p["model_version"] for p in answer.json()["predictions"]} == {"3"}
    text = client.request("GET", "/metrics").text
    pair = 'challenger_version="9",model_version="3",process="here"'
    assert f"defectnet_shadow_spectra_total{{{pair}}} 3.0" in text
    backend.challenger = None


def test_a_challenger_that_fails_costs_nothing(backend: LocalBackend, spectrum: Make, monkeypatch: pytest.MonkeyPatch):
    async def fail(_: Any) -> Any:
        raise RuntimeError("the challenger is broken")

    monkeypatch.setattr(backend, "challenge", fail)
    settings = ServiceSettings(shadow=Shadow(model="models:/defectnet@challenger", share=1.0))
    client = Client(settings, backend)
    assert client.predict(spectrum()).status_code == 200
    assert 'defectnet_shadow_left_out_total{process="here"} 1.0' in client.request("GET", "/metrics").text


def test_what_counts_as_disagreement():
    def prediction(*present: str, error: str | None = None) -> dict[str, Any]:
        verdicts = [{"element": symbol, "present": symbol in present} for symbol in ("Ge", "Sn")]
        return {"elements": [] if error else verdicts, "error": error}

    assert not disagreement(prediction("Ge"), prediction("Ge"))
    assert disagreement(prediction("Ge"), prediction("Ge", "Sn"))
    assert disagreement(prediction(), prediction(error="no answer"))


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_batches_are_off_unless_a_folder_is_named(client: Client):
    answer = client.request("POST", "/v1/batches", json={"input": "file:///etc/passwd"})
    assert "batches.roots" in refused(answer, 422, "input")


def test_a_batch_over_http(backend: LocalBackend, tmp_path: Path, spectra_table: Callable[..., Any]):
    from defectnet.io.tables import write_table

    write_table(spectra_table(3), tmp_path / "in" / "run.parquet")
    batches = BatchJobSettings(roots=(str(tmp_path / "in"),), results=str(tmp_path / "out"))
    settings = ServiceSettings.model_validate({"tokens": _TOKENS, "batches": batches})
    client = Client(settings, backend)
    headers = {"authorization": "Bearer the batch token"}
    body = {"input": (tmp_path / "in" / "run.parquet").as_uri()}
    first = client.request("POST", "/v1/batches", json=body, headers=headers)
    assert (first.status_code, first.json()["state"]) == (202, "pending")
    assert client.request("POST", "/v1/batches", json=body, headers=headers).status_code == 200
    place = first.headers["location"]
    assert client.request("GET", place, headers=headers).json()["owner"] == "batch"
    assert client.request("DELETE", place, headers=headers).status_code == 204
    refused(client.request("GET", place, headers=headers), 404, "batch_id")
    refused(client.request("POST", "/v1/batches", json={"input": 3}, headers=headers), 422, "input")
