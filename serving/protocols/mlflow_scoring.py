"""MLflow's scoring server, as far as its clients can tell: `/ping`, `/version` and `/invocations`.

A row is a spectrum with the keys of `POST /v1/predict`, whichever of MLflow's layouts carries it. Text in columns of
CSV cannot hold a spectrum and is not read.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

import defectnet
from defectnet.errors import InputError
from serving.backend import Backend, DataPlane
from serving.json_bodies import JsonAnswer, loads_body
from serving.limits import Bodies
from serving.protocols.native import items_from_json
from serving.schemas import PredictAnswer, refusals, request_body
from serving.settings import ServiceSettings

__all__ = ["mlflow_routes"]

_LAYOUTS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def mlflow_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, data: DataPlane, bodies: Bodies
) -> None:
    """Add the routes."""

    @routes.post(
        "/invocations",
        response_model=PredictAnswer,
        responses=refusals(401, 403, 408, 413, 415, 422, 503, 504),
        openapi_extra=request_body("InvocationsRequest"),
        summary="As MLflow's scoring server",
    )
    async def invocations(request: Request) -> JsonAnswer:
        async with bodies.read(request) as body:
            layout, rows = _rows(loads_body(body))
            items = await items_from_json(rows, settings, field=layout)
            return JsonAnswer({"predictions": await data.predict(items, request)})

    async def ping(_: Request) -> Response:
        await backend.ready()
        return Response("\n", media_type="application/json")

    for path in ("/ping", "/health"):
        routes.get(path, responses=refusals(503), summary="Can it answer?")(ping)

    @routes.get("/version", summary="The version of this service")
    async def version(_: Request) -> Response:
        return Response(defectnet.__version__, media_type="text/plain")


def _rows(body: Any) -> tuple[str, Any]:
    """The layout of a body and its rows as objects.

    Raises:
        InputError: none of MLflow's layouts, or one that contradicts itself.
    """
    layouts = [key for key in _LAYOUTS if key in body] if isinstance(body, dict) else []
    if len(layouts) != 1:
        raise InputError(f"must hold exactly one of {', '.join(_LAYOUTS)}", fix="choose one", field="body")
    if unknown := set(body) - {layouts[0], "params"}:
        raise InputError("is an unknown key", fix=f"send {layouts[0]} alone", field=min(unknown)[:64])
    if body.get("params"):
        raise InputError("the model takes none", fix="leave them out", field="params")
    layout = layouts[0]
    content = body[layout]
    if layout == "dataframe_split":
        return layout, _from_split(content)
    if layout == "inputs" and isinstance(content, dict):
        return layout, _from_columns(content)
    return layout, content


def _from_split(content: Any) -> list[dict[str, Any]]:
    columns = content.get("columns") if isinstance(content, dict) else None
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise InputError("has no list of names", fix="name the columns", field="dataframe_split.columns")
    if len(set(columns)) != len(columns):
        raise InputError("a name is given twice", fix="keep one", field="dataframe_split.columns")
    if not isinstance(data, list):
        raise InputError("has no list of rows", fix="give one list a row", field="dataframe_split.data")
    for index, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InputError(
                f"must be a list of {len(columns)} values", fix="one a column", field=f"dataframe_split.data[{index}]"
            )
    # pandas writes a cell without a value as null: it was not given.
    return [{k: v for k, v in zip(columns, row, strict=True) if v is not None} for row in data]


def _from_columns(content: dict[str, Any]) -> list[dict[str, Any]]:
    lengths = {len(column) if isinstance(column, list) else -1 for column in content.values()}
    if len(lengths) != 1 or lengths == {-1}:
        raise InputError("the columns must be lists of one length", fix="give one value a row", field="inputs")
    return [
        {name: column[index] for name, column in content.items() if column[index] is not None}
        for index in range(lengths.pop())
    ]
