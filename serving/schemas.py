"""The HTTP bodies of version 1, as OpenAPI shows them.

These models describe; they do not parse. A request is read by `defectnet.query.Query`, which says of every mistake
where it is and how to mend it, for HTTP and for tables alike; a test holds the two to the same keys.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ErrorAnswer",
    "HealthAnswer",
    "ModelAnswer",
    "PredictAnswer",
    "PredictRequest",
    "PredictionItem",
    "ReferenceItem",
    "SpectrumItem",
    "VerdictItem",
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


class PredictAnswer(_Body):
    """One prediction for each spectrum, in their order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"predictions": [_EXAMPLE_PREDICTION]}]})

    predictions: list[PredictionItem]


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
    card: str = Field(description="Its card, Markdown: data, figures and limits.")
    problem: str | None = Field(description="Null, or why a promoted version is not live.")


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
