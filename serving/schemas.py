"""The HTTP bodies of version 1, as OpenAPI shows them.

These models describe; they do not parse. A request is read by `defectnet.query.Query`, which says of every mistake
where it is and how to mend it, for HTTP and for tables alike; a test holds the two to the same keys.
"""

from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BatchAnswer",
    "ErrorAnswer",
    "HealthAnswer",
    "InferAnswer",
    "ModelAnswer",
    "ModelMetadata",
    "PredictAnswer",
    "PredictRequest",
    "PredictionItem",
    "ReferenceItem",
    "RefreshAnswer",
    "ReplicaItem",
    "ServerMetadata",
    "SpectrumItem",
    "VerdictItem",
    "describe_requests",
    "refusals",
    "request_body",
]

# Silicon with a few per cent of germanium, in meV as a neutron instrument would give it, far too coarse to be of use.
_EXAMPLE_SPECTRUM: dict[str, Any] = {
    "id": "beamtime-0417-03",
    "host": "Si",
    "unit": "meV",
    "frequency": [5.0, 12.0, 19.0, 26.0, 33.0, 40.0, 47.0, 54.0, 61.0, 64.0],
    "dos": [0.004, 0.021, 0.047, 0.022, 0.027, 0.034, 0.029, 0.045, 0.062, 0.008],
}
_EXAMPLE_REQUEST: dict[str, Any] = {
    "spectra": [_EXAMPLE_SPECTRUM, _EXAMPLE_SPECTRUM | {"id": "guessed", "candidates": ["Ge", "C"]}]
}


_EXAMPLE_VERDICT = {
    "element": "Ge",
    "present": True,
    "probability": 0.97,
    "concentration": 0.041,
    "low": 0.029,
    "high": 0.057,
}
_EXAMPLE_PREDICTION: dict[str, Any] = {
    "sample_id": "beamtime-0417-03",
    "host": "Si",
    "elements": [_EXAMPLE_VERDICT],
    "ood_score": 0.08,
    "warnings": [],
    "model_name": "defectnet",
    "model_version": "3",
    "error": None,
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReferenceItem(_Body):
    """The pristine host's density of states, where it is known; it makes the answer better."""

    unit: Literal["THz", "meV", "cm-1"] | None = Field(None, description="Unit of this axis; the sample's if left out.")
    frequency: list[float] = Field(description="Increasing, in `unit`.")
    dos: list[float] = Field(description="Density at each frequency; any scale.")


class SpectrumItem(_Body):
    """A spectrum and what is known of its crystal."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE_SPECTRUM]})

    id: str | None = Field(None, description="Your name for the sample; it comes back as `sample_id`.")
    host: str = Field(description="Formula of the pristine crystal, such as GaAs or Si0.9Ge0.1.")
    unit: Literal["THz", "meV", "cm-1"] = Field(description="Unit of `frequency`.")
    frequency: list[float] = Field(description="Increasing, at least 8 points, in `unit`.")
    dos: list[float] = Field(description="Density of states at each frequency; any scale, not negative beyond noise.")
    reference: ReferenceItem | None = None
    candidates: list[str] | None = Field(None, description="Elements that may be present; leave out to weigh them all.")
    kind: Literal["vibrational", "neutron"] | None = Field(
        None, description="`neutron` for a density weighted by cross-section over mass; `vibrational` if left out."
    )
    uncertainty: list[float | None] | None = Field(
        None, description="Standard error of each of `dos`, null where there is none; widens the intervals."
    )
    prior: bool | None = Field(
        None, description="False: the spectrum alone, without what a chemist expects of this host; true if left out."
    )
    host_id: str | None = Field(None, description="The crystal that is meant, of `GET /v1/hosts`; else the best fit.")
    reference_kind: Literal["measured", "computed"] | None = Field(None, description="`measured` if left out.")


class PredictRequest(_Body):
    """One spectrum or many."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_EXAMPLE_REQUEST]})

    spectra: list[SpectrumItem] = Field(min_length=1)


class VerdictItem(_Body):
    """What the model says of one element."""

    element: str
    present: bool = Field(description="The verdict.")
    probability: float = Field(description="Calibrated probability that the element is present.")
    concentration: float = Field(description="Fraction of all atoms, if the element is present.")
    low: float = Field(description="Lower end of the 90 % interval, fraction of all atoms.")
    high: float = Field(description="Upper end of the 90 % interval, fraction of all atoms.")


class SourceItem(_Body):
    """Where the response to an element comes from."""

    element: str
    source: str = Field(description="Such as endmember, potential:nequix or springs.")


class AlternativeItem(_Body):
    """A set of elements that would explain the change too."""

    elements: list[str]
    concentrations: list[float] = Field(description="Fractions of all atoms.")
    explained: float


class FitItem(_Body):
    """How the answer was held against computed responses."""

    host_id: str
    explained: float = Field(description="Share of the measured change that the found elements explain.")
    moved: float = Field(description="Share of the modes that lie elsewhere than in the reference.")
    sources: list[SourceItem]
    alternatives: list[AlternativeItem] = Field(description="Best first; only where they were asked for.")


class PredictionItem(_Body):
    """The answer to one spectrum; where `error` is set, there is no other."""

    sample_id: str
    host: str
    elements: list[VerdictItem] = Field(description="Most probable first.")
    ood_score: float | None = Field(description="0 like the training spectra … 1 unlike any of them.")
    warnings: list[str]
    model_name: str
    model_version: str
    error: str | None = Field(None, description="Null, or which field is wrong and how to mend it.")
    fit: FitItem | None = Field(None, description="Null where the host's responses, or its reference, are not known.")


class PredictAnswer(_Body):
    """One prediction for each spectrum, in their order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"predictions": [_EXAMPLE_PREDICTION]}]})

    predictions: list[PredictionItem]


class ReplicaItem(_Body):
    """One process that holds the model."""

    process: str
    version: str
    loaded_at: str = Field(description="UTC, ISO 8601.")
    problem: str | None


class ModelAnswer(_Body):
    """The model that answers now, and why it may not be the one that was asked for."""

    name: str
    version: str
    run_id: str | None = Field(description="The MLflow run that trained it, where it came from a registry.")
    reference: str = Field(description="What this service was told to serve.")
    weights_sha256: str
    loaded_at: str = Field(description="UTC, ISO 8601.")
    vocabulary: list[str] = Field(description="Elements weighed when no candidates are given.")
    hosts_seen: list[str] = Field(description="Elements that were part of some training host.")
    kinds: list[str] = Field(description="Kinds of spectrum it was trained on.")
    grid: dict[str, Any] = Field(description="The input transform; frequencies in THz.")
    metrics: dict[str, float] = Field(description="Figures of its training run, where it came from a registry.")
    card: str = Field(description="Its card, Markdown: data, figures and limits.")
    problem: str | None = Field(description="Null, or why a promoted version is not live.")
    replicas: list[ReplicaItem] = Field(description="What each process holds; they differ for seconds, if at all.")


class HealthAnswer(_Body):
    """Whether the service lives, or can answer."""

    status: Literal["live", "ready"]


class ErrorAnswer(_Body):
    """Why a request was refused: one sentence with the field and the fix."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"error": "spectra[0].unit: unknown unit 'GHz'; use THz, meV or cm-1", "field": "spectra[0].unit"}
            ]
        },
    )

    error: str
    field: str = Field(description="The field at fault; empty where there is none.")


class RefreshAnswer(_Body):
    """The registry is being looked at; `GET /v1/model` tells what came of it."""

    status: Literal["looking"]


class BatchRequest(_Body):
    """A file to score, or a folder of them."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input": "file:///data/2026/run.parquet"}]}
    )

    input: str = Field(description="`file:///…` of a Parquet of spectra, as the service sees it.")


class BatchReport(BaseModel):
    """What a finished batch did."""

    rows: int
    errors: int = Field(description="Rows with an `error` instead of a prediction.")
    rows_per_s: float
    model_version: str


class BatchAnswer(_Body):
    """How far a batch is."""

    id: str
    state: Literal["pending", "running", "succeeded", "failed", "stopped"]
    input: str
    result: str | None = Field(description="`file:///…` of a folder of Parquet predictions, once it is whole.")
    rows_done: int
    rows: int | None = Field(description="Null until they are counted.")
    model_version: str
    created_at: str = Field(description="UTC, ISO 8601.")
    owner: str = Field(description="Name of the token that asked.")
    report: BatchReport | None
    error: str | None


class InvocationsRequest(BaseModel):
    """One of MLflow's layouts; each row is a spectrum as in `PredictRequest`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dataframe_records": [_EXAMPLE_SPECTRUM]}]})

    dataframe_split: dict[str, Any] | None = None
    dataframe_records: list[SpectrumItem] | None = None
    instances: list[SpectrumItem] | None = None
    inputs: list[SpectrumItem] | dict[str, list[Any]] | None = None
    params: dict[str, Any] | None = Field(None, description="The model takes none.")


class WebhookRequest(BaseModel):
    """What MLflow sends; only its signature is used."""

    entity: str
    action: str
    timestamp: str
    data: dict[str, Any]


class TensorItem(BaseModel):
    """A tensor of the Open Inference Protocol."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = Field(None, description="Absent where the values follow the JSON as bytes.")


class RequestedOutput(BaseModel):
    """A tensor that is wanted."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


_EXAMPLE_TENSORS: list[Any] = [
    {"name": "host", "datatype": "BYTES", "shape": [1], "data": ["Si"]},
    {"name": "unit", "datatype": "BYTES", "shape": [1], "data": ["meV"]},
    {"name": "frequency", "datatype": "FP32", "shape": [1, 10], "data": _EXAMPLE_SPECTRUM["frequency"]},
    {"name": "dos", "datatype": "FP32", "shape": [1, 10], "data": _EXAMPLE_SPECTRUM["dos"]},
]


class InferRequest(BaseModel):
    """An inference request of the Open Inference Protocol."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": _EXAMPLE_TENSORS}]})

    id: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    inputs: list[TensorItem]
    outputs: list[RequestedOutput] | None = None


class InferAnswer(BaseModel):
    """One row a spectrum; columns are elements, named by the output `element`."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[TensorItem]


class TensorMetadata(_Body):
    """Name, datatype and shape; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Body):
    """What an inference request may hold."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(_Body):
    """The server and the protocol's extensions that it knows."""

    name: str
    version: str
    extensions: list[str]


_REFUSALS: dict[int, str] = {
    401: "No valid token, or signature.",
    403: "The token has not the role.",
    404: "There is no such thing.",
    408: "The body took too long to arrive.",
    413: "The body is too long.",
    415: "The body is declared as nothing that is understood here.",
    422: "The body, or every spectrum in it, is wrong.",
    429: "Too many batches; try again after Retry-After seconds.",
    503: "Busy; try again after Retry-After seconds.",
    504: "The answer took longer than the request may.",
}
# Bodies that are read by hand, so that FastAPI does not know them.
_REQUESTS = (PredictRequest, BatchRequest, InvocationsRequest, InferRequest, WebhookRequest)
_REF = "#/components/schemas/"


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI shows of a route's refusals."""
    return {status: {"model": ErrorAnswer, "description": _REFUSALS[status]} for status in statuses}


def request_body(name: str, *binary: str) -> dict[str, Any]:
    """What OpenAPI shows of a route's body: JSON by its schema, and media types that are bytes."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": _REF + name}}}
    content |= {kind: {"schema": {"type": "string", "format": "binary"}} for kind in binary}
    return {"requestBody": {"required": True, "content": content}}


def describe_requests(api: FastAPI) -> None:
    """Add the schemas that `request_body` names to the OpenAPI document."""
    plain: Callable[[], dict[str, Any]] = api.openapi

    def with_requests() -> dict[str, Any]:
        document = plain()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for request in _REQUESTS:
            if request.__name__ not in schemas:
                schema = request.model_json_schema(ref_template=_REF + "{model}")
                for name, part in schema.pop("$defs", {}).items():
                    schemas.setdefault(name, part)
                schemas[request.__name__] = schema
        return document

    api.openapi = with_requests  # type: ignore[method-assign]
