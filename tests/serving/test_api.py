"""The HTTP interface without Ray: what it answers, and how it refuses."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.local_api import Client, LocalBackend, refused

from defectnet.errors import BusyError, InputError
from defectnet.query import Query
from serving.auth import hash_token
from serving.schemas import ModelAnswer, PredictAnswer, PredictRequest, ReferenceItem, SpectrumItem
from serving.settings import ServiceSettings

Make = Callable[..., dict[str, Any]]


def test_one_prediction_a_spectrum_in_order(client: Client, spectrum: Make):
    answer = client.predict(spectrum(id="a"), spectrum(id="b", host="GaAs", candidates=None), spectrum(id=None))
    assert answer.status_code == 200
    predictions = PredictAnswer.model_validate(answer.json()).predictions
    assert [(p.sample_id, p.host) for p in predictions] == [("a", "Si"), ("b", "GaAs"), ("", "Si")]
    assert {p.model_version for p in predictions} == {"3"}
    assert [v.element for v in predictions[0].elements] == ["Ge"]


def test_a_bad_spectrum_costs_only_itself(client: Client, spectrum: Make):
    answer = client.predict(spectrum(id="a"), spectrum(id="b", unit="GHz"), "no object", spectrum(id="c"))
    assert answer.status_code == 200
    predictions = PredictAnswer.model_validate(answer.json()).predictions
    assert [p.error is None for p in predictions] == [True, False, False, True]
    assert predictions[1].sample_id == "b"
    assert predictions[1].error == "unit: unknown unit 'GHz'; use THz, meV or cm-1"
    assert predictions[1].elements == []


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"dos": [-1.0] * 60 + [1.0] * 60}, "dos", "negative density"),
        ({"dos": [1.0, 2.0]}, "dos", "2 densities for 120"),
        ({"unit": "GHz"}, "unit", "use THz, meV or cm-1"),
        ({"unit": None}, "unit", "missing"),
        ({"host": "not a formula"}, "host", "formula"),
        ({"host": ""}, "host", "formula"),
        ({"candidates": ["Xx"]}, "candidates", "Xx"),
        ({"candidates": []}, "candidates", "empty"),
        ({"kind": "raman"}, "kind", "not a density"),
        ({"frequency": [1e400] * 120}, "frequency", "inf"),
        ({"dos": [0.0] * 120}, "dos", "no density"),
        ({"dos": "many"}, "dos", "not a list of numbers"),
        ({"frequency": [0.1] * 600, "dos": [0.1] * 600}, "frequency", "more than 500"),
        ({"reference": {"frequency": [0.1] * 600, "dos": [0.1] * 600}}, "frequency", "more than 500"),
    ],
)
def test_a_lone_bad_spectrum_is_refused(client: Client, spectrum: Make, changes: Any, field: str, said: str):
    body = json.dumps({"spectra": [spectrum(**changes)]}).replace("Infinity", "1e400")
    assert said in refused(client.send(body.encode()), 422, f"spectra[0].{field}")


@pytest.mark.parametrize("item", [3, None, [], "text", {}, {"hosts": "Si"}])
def test_an_item_that_is_no_spectrum(client: Client, item: Any):
    answer = client.predict(item)
    refused(answer, 422, answer.json()["field"])
    assert answer.json()["field"].startswith("spectra[0]")


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b"", "body", "empty"),
        (b'{"spectra": [', "body", "not JSON"),
        (b"[]", "spectra", "no list"),
        (b"{}", "spectra", "no list"),
        (b'{"spectra": []}', "spectra", "at least one"),
        (b'{"spectra": {}}', "spectra", "at least one"),
        (b'{"spectra": [1,1,1,1,1]}', "spectra", "defectnet score"),
        (b'{"spectra": [1], "spectrum": 2}', "spectrum", "unknown key"),
        (b'{"spectra": [{"dos": [1, NaN]}]}', "spectra[0].dos[1]", "repair"),
        (b'{"spectra": [{"host": "Si", "host": "Ge"}]}', "host", "twice"),
    ],
)
def test_a_body_that_cannot_be_read(client: Client, body: bytes, field: str, said: str):
    assert said in refused(client.send(body), 422, field)


def test_too_long_a_body_is_refused_by_its_declared_length(client: Client):
    assert "64,000" in refused(client.send(b" " * 64_001), 413, "body")


def test_bytes_are_counted_as_they_arrive(client: Client):
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 8000
            yield b" " * 8000

    headers = {"content-type": "application/json"}
    answer = client.request("POST", "/v1/predict", content=endless(), headers=headers)
    refused(answer, 413, "body")
    assert sent <= 64_000 + 2 * 8000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_only_declared_json(client: Client, kind: str):
    refused(client.send(b"{}", kind), 415, "content-type")


def test_tokens(backend: LocalBackend, spectrum: Make):
    guarded = Client(ServiceSettings(tokens={"beamline": hash_token("sesame")}), backend)
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = guarded.predict(spectrum(), headers=headers)
        refused(answer, 401, "authorization")
        assert answer.headers["www-authenticate"] == "Bearer"
        refused(guarded.request("GET", "/v1/model", headers=headers), 401, "authorization")
    assert guarded.predict(spectrum(), headers={"authorization": "Bearer sesame"}).status_code == 200
    assert guarded.request("GET", "/v2/health/ready").status_code == 200


def test_model_and_health(client: Client):
    assert ModelAnswer.model_validate(client.request("GET", "/v1/model").json()).version == "3"
    assert client.request("GET", "/v2/health/live").json() == {"status": "live"}
    assert client.request("GET", "/v2/health/ready").json() == {"status": "ready"}


def test_busy(client: Client, spectrum: Make):
    client.backend.fault = BusyError(2.4)
    answer = client.predict(spectrum())
    assert "busy" in refused(answer, 503)
    assert answer.headers["retry-after"] == "2"


def test_a_failure_shows_no_internals(client: Client, spectrum: Make):
    client.backend.fault = RuntimeError("/secret/path of a password")
    assert "secret" not in refused(client.predict(spectrum()), 500)


def test_unknown_routes(client: Client):
    assert "/docs" in refused(client.request("GET", "/v1/nothing"), 404)
    assert "/docs" in refused(client.request("GET", "/v1/predict"), 405)


def test_documented_keys_are_the_keys_that_are_read(spectrum: Make):
    whole = spectrum(kind="vibrational", prior=True, reference={"unit": "THz", "frequency": [1.0], "dos": [1.0]})
    whole |= {"uncertainty": [], "host_id": "mp-149", "reference_kind": "measured"}
    assert set(whole) == set(SpectrumItem.model_fields)
    assert set(whole["reference"]) == set(ReferenceItem.model_fields)
    with pytest.raises(InputError) as unknown:
        Query.from_json({"no such key": 1})
    assert all(name in unknown.value.fix for name in SpectrumItem.model_fields)


def test_worked_examples_work(client: Client):
    schemas = client.request("GET", "/openapi.json").json()["components"]["schemas"]
    example = schemas["PredictRequest"]["examples"][0]
    PredictRequest.model_validate(example)
    PredictAnswer.model_validate(schemas["PredictAnswer"]["examples"][0])
    answer = client.request("POST", "/v1/predict", json=example)
    assert all(p.error is None for p in PredictAnswer.model_validate(answer.json()).predictions)
