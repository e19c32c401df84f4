"""The client, against a scripted service; tests/serving talks to the real one with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from defectnet.client import Client
from defectnet.errors import InputError, ServiceError
from defectnet.host import Host
from defectnet.io.tables import PREDICTIONS_SCHEMA
from defectnet.query import Query
from defectnet.spectrum import Spectrum

Answer = httpx.Response | Exception


class Service:
    """Answers as it is told, and remembers what it was asked."""

    def __init__(self, answers: Iterator[Answer] | Callable[[httpx.Request], Answer]) -> None:
        self.answers, self.requests, self.slept = answers, list[httpx.Request](), list[float]()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers(request) if callable(self.answers) else next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: Any) -> Client:
        return Client("http://test", transport=httpx.MockTransport(self), sleep=self.slept.append, **options)


def prediction(sample_id: str = "a", error: str | None = None) -> dict[str, Any]:
    return {
        "sample_id": sample_id,
        "host": "Si",
        "elements": [],
        "ood_score": 0.1,
        "warnings": [],
        "model_name": "defectnet",
        "model_version": "3",
        "error": error,
    }


def ok(*predictions: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"predictions": list(predictions)})


QUERY = Query("a", Host("Si"), Spectrum(np.arange(1.0, 11.0), np.ones(10)), candidates=("Ge",))


def test_a_query_and_its_json_are_the_same_question():
    service = Service(iter([ok(prediction()), ok(prediction())]))
    with service.client(token="sesame", timeout_s=7) as client:
        (answer,) = client.predict([QUERY])
        item = {"id": "a", "host": "Si", "unit": "THz", "kind": "vibrational", "frequency": list(range(1, 11))}
        client.predict([item | {"dos": [1] * 10, "candidates": ["Ge"]}])
    assert (answer.sample_id, answer.model_version) == ("a", "3")
    first, second = (Query.from_json(_body(request)["spectra"][0]) for request in service.requests)
    assert first.candidates == second.candidates == QUERY.candidates
    np.testing.assert_array_equal(first.spectrum.dos, second.spectrum.dos)
    assert service.requests[0].headers["authorization"] == "Bearer sesame"
    assert service.requests[0].headers["x-request-timeout-seconds"] == "7"


def test_a_question_without_the_prior_goes_without_it():
    service = Service(lambda _: ok(prediction()))
    with service.client() as client:
        for prior in (True, False):
            client.predict([replace(QUERY, prior=prior)])
    assert [Query.from_json(_body(request)["spectra"][0]).prior for request in service.requests] == [True, False]


def _body(request: httpx.Request) -> Any:
    import json

    return json.loads(request.content)


def test_it_tries_again_and_waits_as_long_as_it_is_told():
    busy = httpx.Response(503, headers={"retry-after": "3"}, json={"error": "busy", "field": ""})
    service = Service(iter([httpx.ConnectError("no"), busy, httpx.ReadError("cut"), ok(prediction())]))
    client = service.client()
    assert len(client.predict([QUERY])) == 1
    assert service.slept == [0.2, 3.0, 0.8]
    assert client.retries == 3


def test_it_gives_up_with_one_sentence():
    service = Service(lambda _: httpx.ConnectError("no"))
    with pytest.raises(ServiceError, match="does not answer"):
        service.client(attempts=3).model()
    assert len(service.requests) == 3


@pytest.mark.parametrize(
    ("status", "kind"), [(422, InputError), (413, InputError), (401, ServiceError), (500, ServiceError)]
)
def test_a_refusal_is_not_sent_again(status: int, kind: type[Exception]):
    service = Service(iter([httpx.Response(status, json={"error": "unit: use THz", "field": "unit"})]))
    with pytest.raises(kind, match="unit: use THz"):
        service.client().predict([QUERY])


def test_a_bare_500_is_a_proxy_that_lost_its_backend():
    good = httpx.Response(200, json={"predictions": [prediction("a")]})
    service = Service(iter([httpx.Response(500, text="Internal Server Error"), good]))
    assert len(service.client().predict([QUERY])) == 1
    assert len(service.requests) == 2


def test_an_answer_from_something_else():
    with pytest.raises(ServiceError, match="status 418"):
        Service(iter([httpx.Response(418, text="<html>")])).client().model()


def _answer_table(request: httpx.Request) -> httpx.Response:
    table = pa.ipc.open_stream(request.content).read_all()
    rows = [prediction(name, "host: no" if host == "X" else None) for name, host in _ids(table)]
    if all(row["error"] for row in rows):
        return httpx.Response(422, json={"error": "spectra[0].host: no", "field": "spectra[0].host"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, PREDICTIONS_SCHEMA) as stream:
        stream.write_table(pa.Table.from_pylist(rows, schema=PREDICTIONS_SCHEMA))
    return httpx.Response(200, content=sink.getvalue().to_pybytes())


def _ids(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["sample_id"].to_pylist(), table["host"].to_pylist(), strict=True))


def spectra(*hosts: str) -> pa.Table:
    ids = [f"s{index}" for index in range(len(hosts))]
    steps = [0.1] * len(hosts)
    return pa.table({"sample_id": ids, "host": hosts, "frequency_step_thz": steps, "dos": [[1.0] * 10] * len(hosts)})


def test_a_stream_keeps_its_order_and_bad_rows_cost_only_themselves():
    service = Service(_answer_table)
    parts = list(service.client().stream(spectra("Si", "Si", "X", "X", "Si"), rows=2, in_flight=3))
    table = pa.concat_tables(parts)
    assert table["sample_id"].to_pylist() == [f"s{index}" for index in range(5)]
    assert [error is None for error in table["error"].to_pylist()] == [True, True, False, False, True]


def test_a_stream_reads_no_further_than_it_must():
    read = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield spectra("Si")

    stream = Service(_answer_table).client().stream(tables(), in_flight=2)
    next(stream)
    assert read <= 2
    stream.close()  # type: ignore[attr-defined]


def test_batches():
    states = iter(["pending", "running", "succeeded", "failed", "running", "running"])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            return httpx.Response(204)
        return httpx.Response(200, json={"id": "b-1", "state": next(states), "error": "no Parquet"})

    service = Service(answer)
    client = service.client()
    assert client.start_batch("file:///data/run.parquet")["state"] == "pending"
    assert client.wait_for_batch("b-1")["state"] == "succeeded"
    with pytest.raises(ServiceError, match="failed: no Parquet"):
        client.wait_for_batch("b-1")
    with pytest.raises(ServiceError, match="has not ended"):
        client.wait_for_batch("b-1", timeout_s=1.0)
    client.delete_batch("b-1")
    assert service.requests[-1].url.path == "/v1/batches/b-1"


def test_a_host_is_given_and_waited_for():
    states = iter(["pending", "running", "ready"])

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"host_id": "h-1", "state": next(states), "error": None})

    service = Service(answer)
    with service.client() as client:
        given = client.give_host(b"data_x", "my crystal.cif")
        assert client.wait_for_host(given["host_id"])["state"] == "ready"
    first = service.requests[0]
    assert (first.method, first.url.path, first.url.params["name"]) == ("POST", "/v1/hosts", "my crystal.cif")
    assert first.content == b"data_x"
    assert [request.url.path for request in service.requests[1:]] == ["/v1/hosts/h-1"] * 2
    assert len(service.slept) == 1


def test_a_host_that_fails_is_one_sentence():
    failed = {"host_id": "h-1", "state": "failed", "error": "a site is shared or partly empty"}
    service = Service(lambda _: httpx.Response(200, json=failed))
    with service.client() as client, pytest.raises(ServiceError, match=r"host h-1 failed: a site is shared"):
        client.wait_for_host("h-1")
