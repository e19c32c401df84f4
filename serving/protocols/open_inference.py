"""The Open Inference Protocol, version 2, over HTTP, with its extension for binary tensors.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol

A request's spectra are the rows of its tensors; those of one request have one number of points. Missing tensors are
what is left out of `POST /v1/predict`. Every output has one row a spectrum and one column an element of the periodic
table's first 94 (the output `element` names them); an element that the model rules out has zeros.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray

import defectnet
from defectnet.elements import VOCABULARY
from defectnet.errors import InputError
from defectnet.query import Query
from serving.backend import Backend, DataPlane, Item, read_each
from serving.limits import JSON, Bodies
from serving.protocols.tensors import HEADER_LENGTH, Tensor, read_request, write_response
from serving.schemas import HealthAnswer, InferAnswer, ModelMetadata, ServerMetadata, refusals, request_body
from serving.settings import ServiceSettings

__all__ = ["open_inference_routes"]

_OCTETS = "application/octet-stream"
_FLOATS = ("FP16", "FP32", "FP64")
# Input tensors: those that hold numbers with one row of points a spectrum, one text a spectrum, one truth value.
_NUMBERS = ("frequency", "dos", "reference_frequency", "reference_dos", "uncertainty")
_TEXTS = ("host", "unit", "id", "kind", "candidates", "host_id", "reference_kind")
_TRUTHS = ("prior",)
_REQUIRED = ("host", "unit", "frequency", "dos")
_FIGURES = ("probability", "concentration", "low", "high")
# Output tensors: datatype and number of columns; none means one value a spectrum.
_OUTPUTS: dict[str, tuple[str, int | None]] = {
    "present": ("BOOL", len(VOCABULARY)),
    **dict.fromkeys(_FIGURES, ("FP32", len(VOCABULARY))),
    "ood_score": ("FP32", None),
    "warnings": ("BYTES", None),
    "error": ("BYTES", None),
}
_COLUMN = {symbol: index for index, symbol in enumerate(VOCABULARY)}


def open_inference_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, data: DataPlane, bodies: Bodies, served: str
) -> None:
    """Add the routes; `served` is the model's name in them."""

    async def version_now(version: str | None = None) -> str:
        now: str = (await backend.describe())[0]["version"]
        _same(version, [now])
        return now

    @routes.get("/v2", response_model=ServerMetadata, responses=refusals(401), summary="The server")
    async def server(_: Request) -> JSONResponse:
        return JSONResponse(
            {"name": "defectnet", "version": defectnet.__version__, "extensions": ["binary_tensor_data"]}
        )

    @routes.get("/v2/models/{name}", response_model=ModelMetadata, responses=refusals(401, 404, 503))
    async def metadata(name: str, _: Request) -> JSONResponse:
        _known(name, served)
        return JSONResponse(_metadata(served, await version_now()))

    @routes.get("/v2/models/{name}/versions/{version}", response_model=ModelMetadata, responses=refusals(401, 404, 503))
    async def metadata_of_version(name: str, version: str, _: Request) -> JSONResponse:
        _known(name, served)
        return JSONResponse(_metadata(served, await version_now(version)))

    @routes.get("/v2/models/{name}/ready", response_model=HealthAnswer, responses=refusals(404, 503))
    async def ready(name: str, _: Request) -> JSONResponse:
        _known(name, served)
        await backend.ready()
        return JSONResponse({"status": "ready"})

    @routes.get("/v2/models/{name}/versions/{version}/ready", response_model=HealthAnswer, responses=refusals(404, 503))
    async def ready_version(name: str, version: str, _: Request) -> JSONResponse:
        _known(name, served)
        await version_now(version)
        return JSONResponse({"status": "ready"})

    _infer_routes(routes, settings, data, bodies, served)


def _infer_routes(routes: APIRouter, settings: ServiceSettings, data: DataPlane, bodies: Bodies, served: str) -> None:
    async def answer(request: Request, version: str | None) -> Response:
        async with bodies.read(request, (JSON, _OCTETS), undeclared=True) as body:
            wanted = read_request(body, request.headers.get(HEADER_LENGTH))
            items = await read_each(_spectra(wanted.inputs, settings), _read)
            for name in wanted.outputs or ():
                if name not in _OUTPUTS and name != "element":
                    raise InputError(
                        f"there is no output {name[:64]!r}", fix="see the model's metadata", field="outputs"
                    )
            predictions = await data.predict(items, request)
        versions = [prediction["model_version"] for prediction in predictions if prediction["model_version"]]
        _same(version, versions)
        # Several only where a promotion came between two batches of this very request; the last one made is named.
        return write_response(served, versions[-1], wanted, _outputs(predictions))

    responses = refusals(401, 403, 404, 408, 413, 415, 422, 503, 504)
    extra = request_body("InferRequest", _OCTETS)

    @routes.post("/v2/models/{name}/infer", response_model=InferAnswer, responses=responses, openapi_extra=extra)
    async def infer(name: str, request: Request) -> Response:
        _known(name, served)
        return await answer(request, None)

    @routes.post(
        "/v2/models/{name}/versions/{version}/infer",
        response_model=InferAnswer,
        responses=responses,
        openapi_extra=extra,
    )
    async def infer_version(name: str, version: str, request: Request) -> Response:
        _known(name, served)
        return await answer(request, version)


def _known(name: str, served: str) -> None:
    if name != served:
        raise HTTPException(404, f"name: there is no model {name[:64]!r} here; ask for {served!r}")


def _same(wanted: str | None, found: Iterable[str]) -> None:
    if wanted is not None and (other := next((version for version in found if version != wanted), None)):
        raise HTTPException(404, f"version: {wanted[:64]!r} is not served; ask for {other!r}, or for none")


def _metadata(name: str, version: str) -> dict[str, Any]:
    inputs = [{"name": tensor, "datatype": "FP32", "shape": [-1, -1]} for tensor in _NUMBERS]
    inputs += [{"name": tensor, "datatype": "BYTES", "shape": [-1]} for tensor in _TEXTS]
    inputs += [{"name": tensor, "datatype": "BOOL", "shape": [-1]} for tensor in _TRUTHS]
    outputs: list[dict[str, Any]] = [{"name": "element", "datatype": "BYTES", "shape": [len(VOCABULARY)]}]
    for tensor, (datatype, columns) in _OUTPUTS.items():
        outputs.append({"name": tensor, "datatype": datatype, "shape": [-1] if columns is None else [-1, columns]})
    return {"name": name, "versions": [version], "platform": "defectnet", "inputs": inputs, "outputs": outputs}


def _spectra(inputs: dict[str, Tensor], settings: ServiceSettings) -> list[dict[str, Any]]:
    """The rows of the input tensors as the objects that `Query.from_json` reads."""
    for name in inputs:
        if name not in (*_NUMBERS, *_TEXTS, *_TRUTHS):
            raise InputError(f"there is no input {name[:64]!r}", fix="see the model's metadata", field="inputs")
    for name in _REQUIRED:
        if name not in inputs:
            raise InputError("the tensor is missing", fix="send it", field=name)
    rows = inputs["frequency"].array.shape[0] if inputs["frequency"].array.ndim == 2 else 0
    if not 0 < rows <= settings.max_spectra:
        raise InputError(
            "must have two dimensions, the first between 1 and " + str(settings.max_spectra),
            fix="send one row a spectrum",
            field="frequency",
        )
    columns: dict[str, list[Any]] = {}
    for name, tensor in inputs.items():
        array = tensor.array
        if name in _NUMBERS:
            if tensor.datatype not in _FLOATS or array.ndim != 2 or array.shape[0] != rows:
                raise InputError(f"must be FP32 with {rows} rows", fix="send one row a spectrum", field=name)
            if array.shape[1] > settings.max_points:
                raise InputError(
                    f"{array.shape[1]} points are more than {settings.max_points}", fix="resample", field=name
                )
            columns[name] = list(array.astype(np.float64))
        else:
            wanted = "BOOL" if name in _TRUTHS else "BYTES"
            if tensor.datatype != wanted or array.size != rows:
                raise InputError(f"must be {wanted} with {rows} values", fix="send one a spectrum", field=name)
            columns[name] = array.reshape(rows).tolist()
    if ("reference_frequency" in columns) != ("reference_dos" in columns):
        raise InputError("one of the two is missing", fix="send both or neither", field="reference_dos")
    return [_row({name: column[index] for name, column in columns.items()}) for index in range(rows)]


def _row(values: dict[str, Any]) -> dict[str, Any]:
    # An empty text is one that was not given: a tensor has no other way to leave one out.
    row = {key: value for key, value in values.items() if not (isinstance(value, str) and value == "")}
    if "reference_frequency" in row:
        row["reference"] = {"frequency": row.pop("reference_frequency"), "dos": row.pop("reference_dos")}
    if "candidates" in row:
        row["candidates"] = [symbol.strip() for symbol in row["candidates"].split(",")]
    return row


def _read(row: dict[str, Any]) -> Item:
    try:
        return Item(Query.from_json(row))
    except InputError as error:
        return Item(error, row.get("id", ""), row.get("host", ""))


def _outputs(predictions: list[dict[str, Any]]) -> dict[str, Tensor]:
    rows = len(predictions)
    figures: dict[str, NDArray[Any]] = {
        name: np.zeros((rows, len(VOCABULARY)), np.float32 if name in _FIGURES else np.bool_)
        for name in ("present", *_FIGURES)
    }
    for index, prediction in enumerate(predictions):
        for verdict in prediction["elements"]:
            column = _COLUMN[verdict["element"]]
            for name, array in figures.items():
                array[index, column] = verdict[name]
    texts = {
        "element": list(VOCABULARY),
        "warnings": ["\n".join(prediction["warnings"]) for prediction in predictions],
        "error": [prediction["error"] or "" for prediction in predictions],
    }
    scores = [prediction["ood_score"] or 0.0 for prediction in predictions]
    return {
        **{name: Tensor(_OUTPUTS[name][0], array) for name, array in figures.items()},
        "ood_score": Tensor("FP32", np.array(scores, np.float32)),
        **{name: Tensor("BYTES", np.array(values, object)) for name, values in texts.items()},
    }
