"""The HTTP interface: its routes behind one door, and the words of every refusal. Knows nothing of Ray.

A body that cannot be read is refused as a whole (422). A bad spectrum among good ones costs only itself: its
prediction carries an `error`. Where every spectrum is bad there is nothing to answer, and the request is refused with
the first of the errors.
"""

import logging
from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

import defectnet
from defectnet.errors import BusyError, InputError
from defectnet.models import ModelReference
from serving.auth import ACCESS, admit
from serving.backend import Backend, DataPlane
from serving.batch.book import BatchBook
from serving.host_book import HostBook
from serving.host_catalogue import HostCatalogue
from serving.limits import Bodies
from serving.metrics import ObservedRequests
from serving.page.question import question_routes
from serving.page.routes import page_routes
from serving.protocols.batch_jobs import batch_routes
from serving.protocols.hosts import host_routes
from serving.protocols.mlflow_scoring import mlflow_routes
from serving.protocols.native import native_routes
from serving.protocols.open_inference import open_inference_routes
from serving.schemas import describe_requests
from serving.settings import ServiceSettings
from serving.shadow import Shadowing
from serving.tracing import TracedRequests, Traces, Tracing

__all__ = ["make_api"]

logger = logging.getLogger(__name__)


def make_api(
    settings: ServiceSettings,
    backend: Backend,
    book: BatchBook,
    registry: CollectorRegistry | None = None,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Build the ASGI application.

    Args:
        settings: limits, tokens and which protocols' model name.
        backend: what answers.
        book: the batches.
        registry: where requests are counted.
        tracing: where they are traced.
    """
    registry = registry or CollectorRegistry()
    api = FastAPI(
        title="DefectNet",
        version=defectnet.__version__,
        description="Which foreign elements sit in a crystal, and how much of each, from its vibrational spectrum.",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # Counted and traced by the two middlewares below alone, which say nothing of what a request holds.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    api.add_exception_handler(StarletteHTTPException, _refuse)
    api.add_exception_handler(InputError, _refuse_input)
    api.add_exception_handler(BusyError, _refuse_busy)
    api.add_exception_handler(Exception, _hide)
    api.add_middleware(ObservedRequests, registry=registry)
    if isinstance(tracing, Traces):
        api.add_middleware(TracedRequests, traces=tracing)
    routes = api.router
    routes.route_class = _guarded_routes(settings)
    bodies = Bodies(settings)
    data = DataPlane(settings, backend, Shadowing(backend.challenge, settings.shadow.max_waiting, registry))
    native_routes(routes, settings, backend, data, bodies)
    open_inference_routes(routes, settings, backend, data, bodies, ModelReference.parse(settings.model).name)
    mlflow_routes(routes, settings, backend, data, bodies)
    batch_routes(routes, settings, backend, book, bodies)
    hosts = HostBook(settings.hosts, book.jobs)
    catalogue = HostCatalogue(settings.hosts)
    host_routes(routes, catalogue, hosts, bodies)
    question_routes(routes, settings, catalogue, bodies)
    page_routes(routes, settings, backend, data, book, hosts, bodies)
    describe_requests(api)
    return api


def _guarded_routes(settings: ServiceSettings) -> type[APIRoute]:
    """A kind of route that lets in whom `ACCESS` allows, and cannot be made without a decision there."""

    class GuardedRoute(APIRoute):
        def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
            super().__init__(path, endpoint, **options)
            if _reads_itself(endpoint):
                self.app = _straight(self.get_route_handler())

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            method = min(self.methods or ("GET",))  # each route here has one
            access = ACCESS[f"{method} {self.path}"]
            handle = self.endpoint if _reads_itself(self.endpoint) else super().get_route_handler()

            async def guarded(request: Request) -> Response:
                request.state.caller = admit(request, access, settings.tokens)
                response: Response = await handle(request)
                return response

            return guarded

    return GuardedRoute


def _reads_itself(endpoint: Callable[..., Any]) -> bool:
    """Whether a route wants nothing but the request, so that there is nothing for FastAPI to find out for it."""
    wanted = [parameter.annotation for parameter in signature(endpoint).parameters.values()]
    return wanted == [Request]


def _straight(handle: Callable[[Request], Coroutine[Any, Any, Response]]) -> ASGIApp:
    """The application of a route without what FastAPI does for arguments, some 0.06 ms of each request.

    What `handle` raises is answered by the handlers of the whole interface, as ever.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await handle(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _sentence(status: int, text: str, field: str = "", headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": text, "field": field}, status_code=status, headers=headers)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    text = str(error.detail)
    if text == "Not Found":
        return _sentence(404, f"there is nothing at {request.url.path}; see /docs")
    if error.status_code == 405:
        return _sentence(405, f"{request.method} is not possible here; see /docs", headers=error.headers)
    return _sentence(error.status_code, text, text.partition(":")[0] if ":" in text else "", error.headers)


async def _refuse_input(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InputError)
    return _sentence(422, str(error), error.field)


async def _refuse_busy(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BusyError)
    return _sentence(error.status, str(error), headers={"Retry-After": str(max(1, round(error.retry_after_s)))})


async def _hide(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ClientDisconnect):
        logger.error("a request failed", exc_info=error)
    return _sentence(500, "the service failed; try again, and report it if it stays")
