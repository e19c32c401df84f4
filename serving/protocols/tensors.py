"""Tensors of the Open Inference Protocol: as JSON, and as bytes after the JSON (the binary tensor data extension).

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol/binary-tensor-data-extension
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

from defectnet.errors import InputError
from serving.json_bodies import loads_body

__all__ = ["HEADER_LENGTH", "InferenceRequest", "Tensor", "read_request", "write_response"]

HEADER_LENGTH = "inference-header-content-length"

_NUMPY: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_MAX_DIMENSIONS = 4
_MAX_TENSORS = 32


@dataclass(frozen=True)
class Tensor:
    """A tensor; one of BYTES is an array of `str` objects."""

    datatype: str
    array: NDArray[Any]


@dataclass(frozen=True)
class InferenceRequest:
    """What was asked.

    Attributes:
        id: the caller's name for the request, which comes back.
        outputs: wanted tensors by name, and whether as bytes; None means all of them.
        binary: whether outputs that are not named come as bytes.
    """

    id: str | None
    inputs: dict[str, Tensor]
    outputs: dict[str, bool] | None
    binary: bool


def read_request(body: bytes, header_length: str | None) -> InferenceRequest:
    """Read an inference request.

    Args:
        body: JSON, followed by the bytes of the tensors that are sent so.
        header_length: the header `Inference-Header-Content-Length`, the length of the JSON where bytes follow it.

    Raises:
        InputError: the JSON, the lengths or the shapes contradict each other.
    """
    if header_length is None:
        split = len(body)
    elif header_length.isdecimal() and int(header_length[:20]) <= len(body):
        split = int(header_length)
    else:
        raise InputError("is no length within the body", fix="send the length of the JSON", field=HEADER_LENGTH)
    document = _object(loads_body(body[:split]), "body")
    tail = memoryview(body)[split:]
    inputs: dict[str, Tensor] = {}
    for described in _objects(document.get("inputs"), "inputs"):
        name = _name(described)
        if name in inputs:
            raise InputError("the tensor is given twice", fix="keep one", field=name)
        size = _object(described.get("parameters", {}), name).get("binary_data_size")
        if size is None:
            inputs[name] = _from_json(described, name)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail):
            raise InputError("binary_data_size goes beyond the body", fix="send it whole", field=name)
        inputs[name] = _from_bytes(described, tail[:size], name)
        tail = tail[size:]
    if len(tail):
        raise InputError(f"{len(tail)} bytes belong to no tensor", fix="name them in the JSON", field="body")
    parameters = _object(document.get("parameters", {}), "parameters")
    binary = parameters.get("binary_data_output") is True
    outputs = None
    if document.get("outputs"):
        outputs = {
            _name(output): _object(output.get("parameters", {}), "outputs").get("binary_data", binary) is True
            for output in _objects(document["outputs"], "outputs")
        }
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise InputError("is no text", fix="send a string", field="id")
    return InferenceRequest(request_id, inputs, outputs, binary)


def write_response(model: str, version: str, request: InferenceRequest, tensors: dict[str, Tensor]) -> Response:
    """The answer, with those tensors as bytes that were asked for so."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name in request.outputs or tensors:
        tensor = tensors[name]
        entry: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": list(tensor.array.shape)}
        if request.outputs[name] if request.outputs else request.binary:
            parts.append(_to_bytes(tensor))
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensor.array.ravel().tolist()
        described.append(entry)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request.id is not None:
        document["id"] = request.id
    header = json.dumps(document, allow_nan=False).encode()
    if not parts:
        return Response(header, media_type="application/json")
    content = b"".join((header, *parts))
    return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(len(header))})


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("is not an object", fix="see the Open Inference Protocol", field=field[:64])
    return value


def _objects(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_TENSORS:
        raise InputError(f"is no list of 1 to {_MAX_TENSORS} tensors", fix="see the model's metadata", field=field)
    return [_object(entry, field) for entry in value]


def _name(described: dict[str, Any]) -> str:
    name = described.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 64:
        raise InputError("a tensor has no name", fix="see the model's metadata", field="name")
    return name


def _shape(described: dict[str, Any], field: str) -> tuple[int, ...]:
    shape = described.get("shape")
    if (
        not isinstance(shape, list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in shape)
    ):
        raise InputError("has no shape", fix="give a list of lengths", field=field)
    return tuple(shape)


def _from_json(described: dict[str, Any], field: str) -> Tensor:
    datatype, shape = described.get("datatype"), _shape(described, field)
    data: list[Any] = []
    _flatten(described.get("data"), data, _MAX_DIMENSIONS, field)
    if len(data) != math.prod(shape):
        raise InputError(f"{len(data)} values for the shape {list(shape)}", fix="make them match", field=field)
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in data):
            raise InputError("holds something that is no text", fix="send strings", field=field)
        array = np.empty(len(data), object)
        array[:] = data
    elif isinstance(datatype, str) and datatype in _NUMPY:
        try:
            with np.errstate(all="ignore"):
                array = np.array(data, dtype=_NUMPY[datatype])
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"holds a value that is no {datatype}", fix="send numbers", field=field) from None
    else:
        raise _unknown_type(field)
    return Tensor(datatype, array.reshape(shape))


def _flatten(data: Any, into: list[Any], depth: int, field: str) -> None:
    if not isinstance(data, list) or depth < 0:
        raise InputError("has no list of values", fix="send them row by row", field=field)
    for value in data:
        if isinstance(value, list):
            _flatten(value, into, depth - 1, field)
        else:
            into.append(value)


def _from_bytes(described: dict[str, Any], content: memoryview, field: str) -> Tensor:
    datatype, shape = described.get("datatype"), _shape(described, field)
    count = math.prod(shape)
    if datatype == "BYTES":
        texts = _texts(content, count, field)
        array = np.empty(len(texts), object)
        array[:] = texts
    elif isinstance(datatype, str) and datatype in _NUMPY:
        kind = np.dtype(_NUMPY[datatype]).newbyteorder("<")
        if len(content) != count * kind.itemsize:
            raise InputError(f"{len(content)} bytes for the shape {list(shape)}", fix="make them match", field=field)
        array = np.frombuffer(content, kind)
    else:
        raise _unknown_type(field)
    return Tensor(datatype, array.reshape(shape))


def _texts(content: memoryview, count: int, field: str) -> list[str]:
    """Texts, each after its length in four bytes."""
    texts: list[str] = []
    place = 0
    try:
        while place < len(content):
            (length,) = struct.unpack_from("<I", content, place)
            place += 4
            if length > len(content) - place:
                raise ValueError
            texts.append(str(content[place : place + length], "utf-8"))
            place += length
    except (struct.error, ValueError):
        raise InputError("is no row of texts", fix="send UTF-8, each after its length", field=field) from None
    if len(texts) != count:
        raise InputError(f"{len(texts)} texts for {count} values", fix="make them match", field=field)
    return texts


def _to_bytes(tensor: Tensor) -> bytes:
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array).tobytes()
    encoded = [str(text).encode() for text in tensor.array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _unknown_type(field: str) -> InputError:
    return InputError("has a datatype that is not known", fix=f"use BYTES or {', '.join(_NUMPY)}", field=field)
