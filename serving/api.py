"""The HTTP interface: routes, what they refuse, and in which words. Knows nothing of Ray.

A body that cannot be read as `{"spectra": [...]}` is refused as a whole (422). A bad spectrum among good ones costs
only itself: its prediction carries an `error`. Where every spectrum is bad there is nothing to answer, and the request
is refused with the first of the errors.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

import defectnet
from defectnet.errors import InputError
from defectnet.predictor import Prediction
from defectnet.query import Query
from serving.auth import authorised_as
from serving.limits import read_json_body
from serving.schemas import ErrorAnswer, HealthAnswer, ModelAnswer, PredictAnswer, PredictRequest
from serving.settings import ServiceSettings
from serving.strict_json import loads_strict

__all__ = ["Backend", "BusyError", "make_api"]

logger = logging.getLogger(__name__)

_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorAnswer, "description": "No valid bearer token."},
    413: {"model": ErrorAnswer, "description": "The body is too long."},
    415: {"model": ErrorAnswer, "description": "The body is not declared as JSON."},
    422: {"model": ErrorAnswer, "description": "The body, or every spectrum in it, is wrong."},
    503: {"model": ErrorAnswer, "description": "Busy; try again after Retry-After seconds."},
}
# Checking a spectrum takes some 0.1 ms; after so many the event loop gets a turn, for the other requests.
_YIELD_EVERY = 16


class BusyError(Exception):
    """The backend has more to do than it wants to queue."""

    def __init__(self, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__("busy")


class Backend(Protocol):
    """What answers behind the interface."""

    async def predict(self, queries: list[Query]) -> list[dict[str, Any]]:
        """One answer a query, in order; raises `BusyError`."""

    async def describe(self) -> dict[str, Any]:
        """The model that answers now."""


def make_api(settings: ServiceSettings, backend: Backend) -> FastAPI:
    """Build the ASGI application."""
    api = FastAPI(
        title="DefectNet",
        version=defectnet.__version__,
        description="Which foreign elements sit in a crystal, and how much of each, from its vibrational spectrum.",
        redoc_url=None,
    )
    api.add_exception_handler(StarletteHTTPException, _refuse)
    api.add_exception_handler(InputError, _refuse_input)
    api.add_exception_handler(BusyError, _refuse_busy)
    api.add_exception_handler(Exception, _hide)

    def authorise(request: Request) -> None:
        if authorised_as(request.headers.get("authorization"), settings.tokens) is None:
            raise HTTPException(
                401, "authorization: no valid token; send `Authorization: Bearer TOKEN`", {"WWW-Authenticate": "Bearer"}
            )

    @api.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses=_REFUSALS,
        openapi_extra={"requestBody": _request_body("PredictRequest")},
        summary="Read spectra",
    )
    async def predict(request: Request) -> JSONResponse:
        authorise(request)
        items = _spectra_of(loads_strict(await read_json_body(request, settings.max_body_bytes)), settings.max_spectra)
        checked = await _check(items, settings.max_points)
        queries = [entry for entry in checked if isinstance(entry, Query)]
        if not queries:
            raise _first_error(checked)
        answers = iter(await backend.predict(queries))
        predictions = [
            next(answers) if isinstance(entry, Query) else _failed(item, entry)
            for item, entry in zip(items, checked, strict=True)
        ]
        return JSONResponse({"predictions": predictions})

    @api.get(
        "/v1/model", response_model=ModelAnswer, responses={k: _REFUSALS[k] for k in (401, 503)}, summary="The model"
    )
    async def model(request: Request) -> JSONResponse:
        authorise(request)
        return JSONResponse(await backend.describe())

    # Open to everyone, as load balancers need them: they tell nothing but that there is a service.
    @api.get("/v2/health/live", response_model=HealthAnswer, summary="Is the process alive?")
    async def live() -> JSONResponse:
        return JSONResponse({"status": "live"})

    @api.get("/v2/health/ready", response_model=HealthAnswer, responses={503: _REFUSALS[503]}, summary="Can it answer?")
    async def ready() -> JSONResponse:
        await backend.describe()
        return JSONResponse({"status": "ready"})

    _describe_request(api)
    return api


def _spectra_of(body: Any, max_spectra: int) -> list[Any]:
    if not isinstance(body, dict) or set(body) != {"spectra"}:
        unknown = next((key for key in body if key != "spectra"), None) if isinstance(body, dict) else None
        if unknown is not None:
            raise InputError("is an unknown key", fix='send {"spectra": [...]}', field=unknown[:64])
        raise InputError("has no list of spectra", fix='send {"spectra": [...]}', field="spectra")
    items = body["spectra"]
    if not isinstance(items, list) or not items:
        raise InputError("is empty or no list", fix="send at least one spectrum", field="spectra")
    if len(items) > max_spectra:
        raise InputError(
            f"{len(items)} spectra are more than the {max_spectra} of a request",
            fix="send them in parts, or use `defectnet score`",
            field="spectra",
        )
    return items


async def _check(items: Sequence[Any], max_points: int) -> list[Query | InputError]:
    checked: list[Query | InputError] = []
    for index, item in enumerate(items):
        if index % _YIELD_EVERY == _YIELD_EVERY - 1:
            await asyncio.sleep(0)
        try:
            _check_length(item, max_points)
            checked.append(Query.from_json(item))
        except InputError as error:
            checked.append(error)
    return checked


def _check_length(item: Any, max_points: int) -> None:
    parts = (item, item.get("reference")) if isinstance(item, dict) else ()
    for part in parts:
        for name in ("frequency", "dos"):
            values = part.get(name) if isinstance(part, dict) else None
            if isinstance(values, list) and len(values) > max_points:
                raise InputError(f"{len(values)} points are more than {max_points}", fix="resample it", field=name)


def _first_error(checked: Sequence[Query | InputError]) -> InputError:
    """The refusal of a request in which no spectrum is good."""
    error = next(entry for entry in checked if isinstance(entry, InputError))
    # `spectrum` is the item itself, not a key of it.
    field = "spectra[0]" if error.field in ("", "spectrum") else f"spectra[0].{error.field}"
    message = str(error).removeprefix(f"{error.field}: ").removesuffix(f"; {error.fix}" if error.fix else "")
    return InputError(message, fix=error.fix, field=field)


def _failed(item: Any, error: Query | InputError) -> dict[str, Any]:
    def text(key: str) -> str:
        value = item.get(key) if isinstance(item, dict) else None
        return value if isinstance(value, str) else ""

    # No model has seen it, so none is named.
    return Prediction(text("id"), text("host"), (), None, (), "", "", str(error)).to_dict()


def _sentence(status: int, text: str, field: str = "", headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": text, "field": field}, status_code=status, headers=headers)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    text = {
        404: f"there is nothing at {request.url.path}; see /docs",
        405: f"{request.method} is not possible here; see /docs",
    }.get(error.status_code, str(error.detail))
    field = text.partition(":")[0] if error.status_code not in (404, 405) and ":" in text else ""
    return _sentence(error.status_code, text, field, error.headers)


async def _refuse_input(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, InputError)
    return _sentence(422, str(error), error.field)


async def _refuse_busy(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BusyError)
    wait_s = max(1, round(error.retry_after_s))
    return _sentence(503, f"busy; try again in {wait_s} s", headers={"Retry-After": str(wait_s)})


async def _hide(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ClientDisconnect):
        logger.error("a request failed", exc_info=error)
    return _sentence(500, "the service failed; try again, and report it if it stays")


def _request_body(name: str) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _describe_request(api: FastAPI) -> None:
    """Add the request's schema to the OpenAPI document: the body is read by hand, so FastAPI does not know it."""
    plain: Callable[[], dict[str, Any]] = api.openapi

    def with_request() -> dict[str, Any]:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "PredictRequest" not in schemas:
            schema = PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas["PredictRequest"] = schema
        return document

    api.openapi = with_request  # type: ignore[method-assign]
