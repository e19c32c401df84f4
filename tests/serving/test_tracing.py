"""Spans of requests and batches, through the interface and the model as a replica has them, without Ray."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support.local_api import ScriptedJobs

from defectnet import extras
from defectnet.errors import MissingExtraError, SettingsError
from serving.api import make_api
from serving.backends import OwnModel
from serving.batch.book import BatchBook
from serving.replica import Model
from serving.settings import ServiceSettings
from serving.tracing import NoTraces, Traces, current_parent, open_tracing

Make = Callable[..., dict[str, Any]]

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
PARENT = f"00-{TRACE:032x}-{SPAN:016x}-01"


@pytest.fixture
def spans(artifact: Path, spectrum: Make) -> Callable[..., list[ReadableSpan]]:
    """Sends bodies at the same time and gives the spans that come of it."""

    def send(*bodies: Any, **headers: str) -> list[ReadableSpan]:
        exporter = InMemorySpanExporter()
        traces = Traces(exporter, "here", at_once=True)
        settings = ServiceSettings(model=str(artifact))
        model = Model(settings, str(artifact), tracing=traces)
        book = BatchBook(settings.batches, ScriptedJobs(), "sqlite:///none.db")
        api = make_api(settings, OwnModel(model, None, settings.max_batch_size), book, tracing=traces)

        async def run() -> None:
            transport = httpx.ASGITransport(api)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                await asyncio.gather(*(client.post("/v1/predict", json=body, headers=headers) for body in bodies))

        try:
            asyncio.run(run())
        finally:
            model.close()
            traces.close()
        return list(exporter.get_finished_spans())

    return send


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def test_a_request_continues_the_callers_trace_and_its_batch_is_below_it(spans: Any, spectrum: Make):
    made = spans({"spectra": [spectrum(), spectrum()]}, traceparent=PARENT)
    (request,), (batch,) = named(made, "POST /v1/predict"), named(made, "batch")
    assert request.context.trace_id == batch.context.trace_id == TRACE
    assert request.parent.span_id == SPAN
    assert batch.parent.span_id == request.context.span_id
    assert request.attributes["http.response.status_code"] == 200
    assert batch.attributes["defectnet.batch.spectra"] == 2
    assert batch.end_time <= request.end_time


def test_a_batch_of_several_requests_is_linked_to_all_of_them(spans: Any, spectrum: Make):
    made = spans(*[{"spectra": [spectrum()]}] * 6)
    requests, batches = named(made, "POST /v1/predict"), named(made, "batch")
    assert len(requests) == 6
    assert sum(batch.attributes["defectnet.batch.requests"] for batch in batches) == 6
    reached = {batch.parent.span_id for batch in batches}
    reached |= {link.context.span_id for batch in batches for link in batch.links}
    assert reached == {request.context.span_id for request in requests}


def test_a_refusal_is_a_span_and_no_spectrum_stands_in_any(spans: Any, spectrum: Make):
    (refused,) = spans({"spectra": [spectrum(host="Unobtainium")]})
    assert refused.attributes["http.response.status_code"] == 422
    assert "Unobtainium" not in refused.to_json()
    assert refused.status.is_ok or refused.status.status_code.name == "UNSET", "the caller's mistake, not the service's"


def test_a_malformed_parent_begins_a_trace_of_its_own(spans: Any, spectrum: Make):
    (request,) = named(spans({"spectra": [spectrum()]}, traceparent="00-nonsense"), "POST /v1/predict")
    assert request.parent is None


def test_without_an_endpoint_there_are_no_traces():
    assert isinstance(open_tracing(None, "here"), NoTraces)
    assert current_parent() is None


def test_a_missing_exporter_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(extras, "_is_there", lambda package: False)
    with pytest.raises(MissingExtraError, match=r"defectnet\[trace\]"):
        open_tracing("http://127.0.0.1:4318/v1/traces", "here")


def test_an_endpoint_is_an_address():
    with pytest.raises((SettingsError, ValueError), match="trace_endpoint"):
        ServiceSettings(trace_endpoint="collector")
