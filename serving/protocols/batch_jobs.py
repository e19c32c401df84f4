"""Jobs on files: `POST /v1/batches`, then `GET` until it is done, `DELETE` to stop it or to throw the result away."""

import asyncio

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from defectnet.errors import InputError
from defectnet.io.strict_json import loads_strict
from defectnet.models import ModelReference
from serving.backend import Backend
from serving.batch.book import BatchBook
from serving.limits import Bodies
from serving.schemas import BatchAnswer, refusals, request_body
from serving.settings import ServiceSettings

__all__ = ["batch_routes"]


def batch_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, book: BatchBook, bodies: Bodies
) -> None:
    """Add the routes."""
    nothing = HTTPException(404, "batch_id: there is no such batch of yours; see the answer to POST /v1/batches")

    @routes.post(
        "/v1/batches",
        response_model=BatchAnswer,
        status_code=202,
        responses={
            200: {"model": BatchAnswer, "description": "The same was asked for before."},
            **refusals(401, 403, 408, 413, 415, 422, 429, 503),
        },
        openapi_extra=request_body("BatchRequest"),
        summary="Score a Parquet of spectra",
    )
    async def create(request: Request) -> JSONResponse:
        async with bodies.read(request) as body:
            uri = _input_of(loads_strict(body))
        current = (await backend.describe())[0]
        model = str(ModelReference.parse(settings.model).at(current["version"]))
        batch, started = await asyncio.to_thread(
            book.create, uri, model, current["version"], request.state.caller
        )  # fmt: skip
        return JSONResponse(batch, 202 if started else 200, headers={"location": f"/v1/batches/{batch['id']}"})

    @routes.get(
        "/v1/batches/{batch_id}",
        response_model=BatchAnswer,
        responses=refusals(401, 403, 404),
        summary="How far a batch is",
    )
    async def get(batch_id: str, request: Request) -> JSONResponse:
        batch = await asyncio.to_thread(book.get, batch_id, request.state.caller)
        if batch is None:
            raise nothing
        return JSONResponse(batch)

    @routes.delete(
        "/v1/batches/{batch_id}",
        status_code=204,
        responses=refusals(401, 403, 404),
        summary="Stop a batch and remove its result",
    )
    async def delete(batch_id: str, request: Request) -> Response:
        if not await asyncio.to_thread(book.delete, batch_id, request.state.caller):
            raise nothing
        return Response(status_code=204)


def _input_of(body: object) -> str:
    if not isinstance(body, dict) or set(body) != {"input"} or not isinstance(body["input"], str):
        raise InputError("must be one URI", fix='send {"input": "file:///…"}', field="input")
    return body["input"]
