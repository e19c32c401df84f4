"""The service as a user meets it: over HTTP, on a loopback port, with a registry behind it."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pyarrow as pa
import pytest
from support.random_models import Registry, random_artifact, tamper

from defectnet.client import Client
from serving.local import running_service
from serving.settings import ServiceSettings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Make = Callable[..., dict[str, Any]]

# The promise: a promotion is live within this time.
LIVE_WITHIN_S = 10.0


@pytest.fixture(scope="module", params=["joined", "split"])
def form(request: pytest.FixtureRequest) -> str:
    """Which processes listen: those that hold the model, or others before them."""
    form: str = request.param
    return form


@pytest.fixture(scope="module")
def url(registry: Registry, artifact: Path, form: Literal["joined", "split"]) -> Iterator[str]:
    registry.register(artifact, "champion")
    settings = ServiceSettings(tracking_uri=registry.uri, port=0, max_spectra=8, max_body_bytes=100_000, form=form)
    with running_service(settings) as address:
        yield address
    with pytest.raises(httpx.TransportError):
        httpx.get(address, trust_env=False)


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        yield client


def serving_version(http: httpx.Client) -> str:
    version: str = http.get("/v1/model").json()["version"]
    return version


def test_predict(http: httpx.Client, spectrum: Make):
    answer = http.post("/v1/predict", json={"spectra": [spectrum(id=str(i)) for i in range(8)]})
    assert answer.status_code == 200
    assert [p["sample_id"] for p in answer.json()["predictions"]] == [str(i) for i in range(8)]
    assert {p["model_version"] for p in answer.json()["predictions"]} == {serving_version(http)}


def test_model(http: httpx.Client):
    model = http.get("/v1/model").json()
    assert model["reference"] == "models:/defectnet@champion"
    assert model["problem"] is None
    assert "Ge" in model["vocabulary"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"spectra": [', 422, "body"),
        (b'{"spectra": []}', 422, "spectra"),
        (b'{"spectra": [1,2,3,4,5,6,7,8,9]}', 422, "spectra"),
        (b'{"spectra": [{"dos": [NaN]}]}', 422, "spectra[0].dos[0]"),
        (b'{"spectra": [], "spectra": []}', 422, "spectra"),
        (b" " * 100_001, 413, "body"),
    ],
)
def test_refusals_pass_the_proxy(http: httpx.Client, body: bytes, status: int, field: str):
    answer = http.post("/v1/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    "changes", [{"dos": [-1.0] * 120}, {"unit": "GHz"}, {"candidates": ["Xx"]}, {"host": "not a formula"}]
)
def test_bad_spectrum(http: httpx.Client, spectrum: Make, changes: dict[str, Any]):
    assert http.post("/v1/predict", json={"spectra": [spectrum(**changes)]}).status_code == 422
    both = http.post("/v1/predict", json={"spectra": [spectrum(**changes), spectrum()]})
    assert both.status_code == 200
    assert [p["error"] is None for p in both.json()["predictions"]] == [False, True]


def test_the_client_in_both_forms(url: str, spectra_table: Callable[..., pa.Table]):
    with Client(url) as client:
        assert client.model()["replicas"][0]["version"] == client.model()["version"]
        parts = list(client.stream(spectra_table(20, bad=(3,)), rows=6))
        table = pa.concat_tables(parts)
        assert table["sample_id"].to_pylist() == [f"s{index}" for index in range(20)]
        assert [error is None for error in table["error"].to_pylist()].count(False) == 1
        assert set(table.filter(pa.compute.is_null(table["error"]))["model_version"].to_pylist()) == {
            client.model()["version"]
        }


def test_metrics_tell_of_every_process(http: httpx.Client, spectrum: Make, form: str):
    http.post("/v1/predict", json={"spectra": [spectrum()]})
    text = http.get("/metrics").text
    for name in ("queue_seconds_count", "compute_seconds_count", "batch_spectra_sum", "spectra_total", "model_info"):
        assert re.search(rf'^defectnet_{name}{{.*process="model-', text, re.MULTILINE), name
    listening = "model" if form == "joined" else "ingress"
    assert re.search(rf'^defectnet_requests_total{{process="{listening}-.*route="/v1/predict"', text, re.MULTILINE)


def test_a_deadline_drops_what_was_asked(http: httpx.Client, spectrum: Make):
    body = {"spectra": [spectrum(candidates=None)] * 8}
    answer = http.post("/v1/predict", json=body, headers={"x-request-timeout-seconds": "0.001"})
    assert answer.status_code in (408, 504)  # the proxy's own limit may be faster than the service's


def test_promotion_is_live_in_seconds_and_no_request_fails(
    url: str, http: httpx.Client, registry: Registry, spectrum: Make, tmp_path: Path
):
    before = serving_version(http)
    body = json.dumps({"spectra": [spectrum()]}).encode()
    versions: list[str] = []
    failures: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
                    if answer.status_code == 200:
                        versions.append(answer.json()["predictions"][0]["model_version"])
                    else:
                        failures.append(answer.text)
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    users = [threading.Thread(target=ask) for _ in range(3)]
    for user in users:
        user.start()
    try:
        second = registry.register(random_artifact(tmp_path / "second", 2))
        registry.promote(second)
        promoted_at = time.monotonic()
        while versions[-1:] != [second] and time.monotonic() < promoted_at + LIVE_WITHIN_S:
            time.sleep(0.05)
        assert versions[-1] == second
    finally:
        stop.set()
        for user in users:
            user.join()
    assert failures == []
    assert set(versions) == {before, second}


def test_a_broken_promotion_leaves_the_old_version_serving(
    http: httpx.Client, registry: Registry, spectrum: Make, tmp_path: Path
):
    good = serving_version(http)
    broken = registry.register(tamper(random_artifact(tmp_path / "broken", 3)), "champion")
    deadline = time.monotonic() + LIVE_WITHIN_S
    while not (problem := http.get("/v1/model").json()["problem"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert problem == f"version {broken} is broken or altered and was refused; version {good} goes on serving"
    answer = http.post("/v1/predict", json={"spectra": [spectrum()]}).json()
    assert answer["predictions"][0]["model_version"] == good
    registry.promote(good)
    deadline = time.monotonic() + LIVE_WITHIN_S
    while http.get("/v1/model").json()["problem"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert http.get("/v1/model").json()["problem"] is None
