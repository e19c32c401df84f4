"""Traces of OpenTelemetry, where `trace_endpoint` names a collector: a span for each request, and one for each batch.

A request's span continues the one that the client or a proxy names (`traceparent`, https://www.w3.org/TR/trace-context/).
A batch computes for several requests at a time, so that its span is the child of the first one's and linked to the
others'. In a span stand the route, the status and the number of spectra: no spectrum, no formula, no token.

Without an endpoint nothing of OpenTelemetry is imported, and a request pays for one comparison.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from defectnet.extras import require
from defectnet.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

__all__ = ["NoTraces", "TracedRequests", "Traces", "Tracing", "current_parent", "open_tracing"]

# The span of the request that this task answers, as `traceparent` has it: it goes to another process as it is.
_CURRENT: ContextVar[str | None] = ContextVar("traceparent", default=None)
_PARENT = "traceparent"
# The first status of a request that the service, not its caller, is to blame for.
_SERVER_ERROR = 500


def current_parent() -> str | None:
    """The `traceparent` of the request that is answered now; None where nothing is traced."""
    return _CURRENT.get()


class Tracing(Protocol):
    """What the service tells a tracer."""

    def batch(self, parents: Sequence[str | None], spectra: int) -> AbstractContextManager[None]:
        """A batch computes for requests with these `traceparent`s."""


class NoTraces:
    """Nobody collects traces."""

    def batch(self, parents: Sequence[str | None], spectra: int) -> AbstractContextManager[None]:
        return nullcontext()


class Traces:
    """Spans that go to a collector.

    Args:
        exporter: where they go, in the background.
        process: the name of this process.
        at_once: whether each goes when it ends, as a test wants it.
    """

    def __init__(self, exporter: "SpanExporter", process: str, *, at_once: bool = False) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

        named = {"service.name": "defectnet", "service.version": __version__, "service.instance.id": process}
        # A provider of its own: Ray has one, too, which is none of ours.
        self._provider = TracerProvider(resource=Resource.create(named))
        self._provider.add_span_processor(SimpleSpanProcessor(exporter) if at_once else BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("defectnet.serving", __version__)

    @contextmanager
    def batch(self, parents: Sequence[str | None], spectra: int) -> Iterator[None]:
        from opentelemetry.trace import Link, SpanKind, get_current_span

        contexts = [_read(parent) for parent in parents if parent is not None]
        links = [Link(get_current_span(context).get_span_context()) for context in contexts[1:]]
        attributes = {"defectnet.batch.spectra": spectra, "defectnet.batch.requests": len(parents)}
        with self.tracer.start_as_current_span(
            "batch",
            context=contexts[0] if contexts else None,
            kind=SpanKind.INTERNAL,
            links=links,
            attributes=attributes,
        ):
            yield

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class TracedRequests:
    """ASGI middleware that makes a span of each request."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app, self._traces = app, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind, StatusCode

        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
            await send(message)

        sent = dict(scope["headers"]).get(_PARENT.encode(), b"").decode("latin-1")
        with self._traces.tracer.start_as_current_span(scope["method"], _read(sent), SpanKind.SERVER) as span:
            token = _CURRENT.set(_written())
            try:
                await self._app(scope, receive, observed)
            finally:
                _CURRENT.reset(token)
                # The route's pattern, never the path, which may hold what a stranger chose.
                route = getattr(scope.get("route"), "path", "none")
                span.update_name(f"{scope['method']} {route}")
                span.set_attributes(
                    {"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status}
                )
                if status >= _SERVER_ERROR or not status:
                    span.set_status(StatusCode.ERROR)


def open_tracing(endpoint: str | None, process: str) -> Tracing:
    """Traces that go to a collector's OTLP/HTTP address, or none.

    Raises:
        MissingExtraError: OpenTelemetry's exporter is not installed.
    """
    if endpoint is None:
        return NoTraces()
    require("trace", "tracing the service")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return Traces(OTLPSpanExporter(endpoint=endpoint), process)


def _read(parent: str) -> "Context":
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({_PARENT: parent})


def _written() -> str | None:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_PARENT)
