"""`POST /v1/study`: answers in words, and for one spectrum why; `POST /v1/report`: the same as a page to keep."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response

from defectnet.errors import InputError
from defectnet.io.strict_json import loads_strict
from defectnet.pages.verdict_sentence import say
from defectnet.prediction import Prediction
from defectnet.query import Query
from serving.backend import Backend, DataPlane, Item, first_error
from serving.limits import Bodies
from serving.protocols.native import items_from_json
from serving.schemas import refusals, request_body
from serving.schemas_page import REPORT_BODY, StudyAnswer
from serving.settings import ServiceSettings

__all__ = ["answering_routes"]

_LONGEST_SOURCE = 200
_STATUSES = (401, 403, 408, 413, 415, 422, 503, 504)

T = TypeVar("T")


def answering_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, data: DataPlane, bodies: Bodies
) -> None:
    """Add the routes."""

    @routes.post(
        "/v1/study",
        response_model=StudyAnswer,
        responses=refusals(*_STATUSES),
        openapi_extra=request_body("PredictRequest"),
        summary="Answers in words; for a lone spectrum also the curves behind it",
    )
    async def study(request: Request) -> JSONResponse:
        items, _ = await _asked(request, bodies, settings, {"spectra"})
        if len(items) == 1 and isinstance(query := items[0].read, Query):
            studied = await _within(settings, backend.study(query, None))
            return JSONResponse({"answers": [_in_words(studied)]})
        predictions = await data.predict(items, request)
        return JSONResponse({"answers": [_in_words({"prediction": one}) for one in predictions]})

    @routes.post(
        "/v1/report",
        response_class=Response,
        responses={**refusals(*_STATUSES), 200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
        openapi_extra=REPORT_BODY,
        summary="One answer as a page in HTML that stands alone",
    )
    async def report(request: Request) -> Response:
        items, source = await _asked(request, bodies, settings, {"spectra", "source"})
        if len(items) != 1:
            raise InputError("a report is about one spectrum", fix="ask for each by itself", field="spectra")
        query = items[0].read
        if not isinstance(query, Query):
            raise first_error(items)
        studied = await _within(settings, backend.study(query, source))
        # Whoever opens it here and not from a disk gets no more than it brings itself.
        headers = {"content-disposition": 'attachment; filename="defectnet.html"', "x-content-type-options": "nosniff"}
        return Response(studied["report"], media_type="text/html", headers=headers)


async def _asked(request: Request, bodies: Bodies, settings: ServiceSettings, keys: set[str]) -> tuple[list[Item], str]:
    async with bodies.read(request) as body:
        asked = loads_strict(body)
        if not isinstance(asked, dict) or "spectra" not in asked or not set(asked) <= keys:
            raise InputError("has no list of spectra", fix='send {"spectra": [...]}', field="spectra")
        source = asked.get("source") or ""
        if not isinstance(source, str):
            raise InputError("is not text", fix="give a string", field="source")
        return await items_from_json(asked["spectra"], settings), source[:_LONGEST_SOURCE]


async def _within(settings: ServiceSettings, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(settings.request_timeout_s):
            return await work
    except TimeoutError:
        raise HTTPException(504, f"no answer within {settings.request_timeout_s:g} s; ask again") from None


def _in_words(studied: dict[str, Any]) -> dict[str, Any]:
    said = say(Prediction.from_dict(studied["prediction"]))
    words = {"sentence": said.sentence, "trust": said.trust, "doubts": list(said.doubts)}
    detail = {key: studied.get(key) for key in ("spectra", "curves", "spoke")}
    return {"prediction": studied["prediction"], "said": words} | detail
