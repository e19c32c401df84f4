"""Version 1 of this project's own interface: spectra as JSON or Arrow, the model, promotions, metrics, health."""

import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from defectnet.errors import InputError, SettingsError
from defectnet.query import Query
from serving.backend import Backend, DataPlane, Item, read_each
from serving.json_bodies import JsonAnswer, loads_body
from serving.limits import ARROW, JSON, Bodies, media_type
from serving.metrics import exposition
from serving.protocols import arrow
from serving.schemas import HealthAnswer, ModelAnswer, PredictAnswer, RefreshAnswer, refusals, request_body
from serving.settings import ServiceSettings
from serving.webhook import verify

__all__ = ["items_from_json", "native_routes"]

_ARROW_ANSWER = {"content": {ARROW: {"schema": {"type": "string", "format": "binary"}}}}


def native_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, data: DataPlane, bodies: Bodies
) -> None:
    """Add the routes."""

    @routes.post(
        "/v1/predict",
        response_model=PredictAnswer,
        responses={**refusals(401, 403, 408, 413, 415, 422, 503, 504), 200: _ARROW_ANSWER},
        openapi_extra=request_body("PredictRequest", ARROW),
        summary="Read spectra, as JSON or as an Arrow IPC stream of the spectra table",
    )
    async def predict(request: Request) -> Response:
        async with bodies.read(request, (JSON, ARROW)) as body:
            came_as_arrow = media_type(request) == ARROW
            if came_as_arrow:
                table = arrow.read_stream(body, max_rows=settings.max_arrow_rows, max_points=settings.max_points)
                items = await read_each(arrow.read_items(table), lambda item: item)
            else:
                items = await items_from_json(_spectra_of(loads_body(body)), settings)
            predictions = await data.predict(items, request)
        accepted = request.headers.get("accept", "*/*")
        if ARROW in accepted or (came_as_arrow and JSON not in accepted):
            return Response(arrow.write_stream(predictions), media_type=ARROW)
        return JsonAnswer({"predictions": predictions})

    _model_routes(routes, backend)
    _webhook_route(routes, backend, bodies, _read_secret(settings.webhook_secret_file))
    _watching_routes(routes, backend)


def _model_routes(routes: APIRouter, backend: Backend) -> None:
    @routes.get("/v1/model", response_model=ModelAnswer, responses=refusals(401, 503), summary="The model")
    async def model(_: Request) -> JSONResponse:
        replicas = await backend.describe()
        problems = [replica["problem"] for replica in replicas if replica["problem"]]
        short = [{key: replica[key] for key in ("process", "version", "loaded_at", "problem")} for replica in replicas]
        described = {key: value for key, value in replicas[0].items() if key != "process"}
        return JSONResponse(described | {"problem": problems[0] if problems else None, "replicas": short})

    @routes.post(
        "/v1/model/refresh",
        response_model=RefreshAnswer,
        status_code=202,
        responses=refusals(401, 403, 503),
        summary="Look at the registry now, not at the next poll",
    )
    async def refresh(_: Request) -> JSONResponse:
        await backend.refresh()
        return JSONResponse({"status": "looking"}, 202)


def _webhook_route(routes: APIRouter, backend: Backend, bodies: Bodies, secret: bytes | None) -> None:
    @routes.post(
        "/v1/webhooks/mlflow",
        response_model=RefreshAnswer,
        status_code=202,
        responses=refusals(401, 404, 413, 415, 503),
        openapi_extra=request_body("WebhookRequest"),
        summary="MLflow tells of a promotion, signed with HMAC-SHA256",
    )
    async def webhook(request: Request) -> JSONResponse:
        if secret is None:
            raise HTTPException(404, "webhooks: none is configured; set webhook_secret_file, or rely on polling")
        async with bodies.read(request) as body:
            if not verify(request.headers, body, secret, time.time()):
                raise HTTPException(
                    401, "x-mlflow-signature: does not match; check the webhook's secret and the clocks"
                )
        # What it says is not used: the registry is asked, as at every poll, so a copy of it can do no harm.
        await backend.refresh()
        return JSONResponse({"status": "looking"}, 202)


def _watching_routes(routes: APIRouter, backend: Backend) -> None:
    @routes.get("/metrics", response_class=Response, responses=refusals(401, 503), summary="For Prometheus")
    async def metrics(_: Request) -> Response:
        return Response(exposition(await backend.metrics()), headers={"content-type": CONTENT_TYPE_LATEST})

    @routes.get("/v2/health/live", response_model=HealthAnswer, summary="Is the process alive?")
    async def live(_: Request) -> JSONResponse:
        return JSONResponse({"status": "live"})

    @routes.get("/v2/health/ready", response_model=HealthAnswer, responses=refusals(503), summary="Can it answer?")
    async def ready(_: Request) -> JSONResponse:
        await backend.ready()
        return JSONResponse({"status": "ready"})


async def items_from_json(spectra: Any, settings: ServiceSettings, *, field: str = "spectra") -> list[Item]:
    """Check a list of spectra as `POST /v1/predict` has them; raises `InputError` where it is no list, or too long."""
    if not isinstance(spectra, list) or not spectra:
        raise InputError("is empty or no list", fix="send at least one spectrum", field=field)
    if len(spectra) > settings.max_spectra:
        raise InputError(
            f"{len(spectra)} spectra are more than the {settings.max_spectra} of a request",
            fix="send them in parts, as an Arrow stream, or use `defectnet score`",
            field=field,
        )

    def read(raw: Any) -> Item:
        try:
            _check_length(raw, settings.max_points)
            return Item(Query.from_json(raw))
        except InputError as error:
            return Item(error, _text(raw, "id"), _text(raw, "host"))

    return await read_each(spectra, read)


def _spectra_of(body: Any) -> Any:
    if not isinstance(body, dict) or set(body) != {"spectra"}:
        unknown = next((key for key in body if key != "spectra"), None) if isinstance(body, dict) else None
        if unknown is not None:
            raise InputError("is an unknown key", fix='send {"spectra": [...]}', field=unknown[:64])
        raise InputError("has no list of spectra", fix='send {"spectra": [...]}', field="spectra")
    return body["spectra"]


def _check_length(item: Any, max_points: int) -> None:
    parts = (item, item.get("reference")) if isinstance(item, dict) else ()
    for part in parts:
        for name in ("frequency", "dos", "uncertainty", "reference_dos"):
            values = part.get(name) if isinstance(part, dict) else None
            if isinstance(values, list) and len(values) > max_points:
                raise InputError(f"{len(values)} points are more than {max_points}", fix="resample it", field=name)


def _text(item: Any, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    return value if isinstance(value, str) else ""


def _read_secret(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"cannot read webhook_secret_file {path}: {error.strerror}; check the path") from None
    if not secret:
        raise SettingsError(f"webhook_secret_file {path} is empty; write the webhook's secret into it")
    return secret
