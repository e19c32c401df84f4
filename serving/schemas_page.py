"""The HTTP bodies of the page's own routes and of the hosts, as OpenAPI shows them; they describe and do not parse."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.schemas import BatchAnswer, PredictionItem, ReferenceItem, ReplicaItem, SpectrumItem

__all__ = [
    "REPORT_BODY",
    "ElementsAnswer",
    "GivenHostAnswer",
    "HostAnswer",
    "HostSpectrumAnswer",
    "HostsAnswer",
    "QUESTION_BODY",
    "QuestionAnswer",
    "ReadAnswer",
    "StatusAnswer",
    "StudyAnswer",
]

REPORT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["spectra"],
                    "properties": {
                        "spectra": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 1,
                            "items": {"$ref": "#/components/schemas/SpectrumItem"},
                        },
                        "source": {"type": "string", "description": "What was read, for the report's last table."},
                    },
                }
            }
        },
    }
}

_FILE = {
    "type": "object",
    "required": ["name", "content"],
    "properties": {"name": {"type": "string"}, "content": {"type": "string", "format": "byte"}},
}
QUESTION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["file", "host"],
                    "properties": {
                        "file": _FILE,
                        "host": {"type": "string"},
                        "host_id": {"type": "string", "description": "Whose responses are compared."},
                        "unit": {"type": "string"},
                        "override_unit": {"type": "boolean"},
                        "reference": {
                            "anyOf": [_FILE, {"type": "object", "properties": {"host_id": {"type": "string"}}}]
                        },
                        "candidates": {"type": "array", "items": {"type": "string"}},
                        "kind": {"type": "string"},
                        "prior": {"type": "boolean"},
                    },
                }
            }
        },
    }
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReadItem(BaseModel):
    """One spectrum of a file, or why there is none."""

    id: str
    frequency: list[float] | None = Field(None, description="THz.")
    dos: list[float] | None = Field(None, description="Per THz; the file's own scale.")
    uncertainty: list[float | None] | None = Field(None, description="Standard errors in the unit of `dos`.")
    kind: Literal["vibrational", "neutron"] | None = Field(None, description="Null where the file does not say.")
    format: str = ""
    unit_in_file: str | None = None
    unit_said_by: str | None = None
    unit_overruled: str | None = Field(None, description="What the file says instead, where `unit` overrode it.")
    modes: float | None = Field(None, description="Integral over positive frequencies; 3 for a density an atom.")
    top_thz: float | None = None
    elements: list[str] = Field(default_factory=list, description="Those whose parts the file tells apart.")
    notes: list[str] = Field(default_factory=list)
    broadening: str | None = Field(None, description="How it was smoothed, where the file says.")
    columns: list[str] = Field(default_factory=list, description="A table's columns as they were understood.")
    host: str | None = Field(None, description="Where a table names it.")
    reference: ReferenceItem | None = None
    candidates: list[str] | None = None
    host_id: str | None = None
    reference_kind: str | None = None
    prior: bool | None = None
    error: str | None = None


class QuestionAnswer(_Body):
    """A question made of files."""

    spectrum: SpectrumItem = Field(description="As `POST /v1/predict` takes it.")
    notes: list[str] = Field(description="What was done with the files, and what to doubt: part of the warnings.")


class ReadAnswer(_Body):
    """What was understood of a file."""

    name: str
    spectra: list[ReadItem]


class ElementItem(_Body):
    """One element, as the model and the prior see it."""

    symbol: str
    number: int
    group: int
    period: int
    known: bool = Field(description="Whether the model saw it as a dopant.")
    in_host: bool
    expected: bool = Field(description="Whether a chemist expects it in this host; true for all without a host.")
    share: float = Field(description="Its share of all that is expected.")
    replaces: str | None


class ElementsAnswer(_Body):
    """The periodic table for one host."""

    host: str | None
    elements: list[ElementItem]


class HostItem(_Body):
    """A crystal that can be named."""

    host_id: str
    formula: str
    description: str
    reference: bool = Field(description="Whether its computed density can stand in for a measured reference.")
    responses: bool = Field(description="Whether it is known how its spectrum answers to dopants.")
    packaged: bool = Field(description="Whether every installation has it, by this id.")


class HostsAnswer(_Body):
    """Crystals whose formula begins as asked."""

    hosts: list[HostItem]
    more: bool = Field(description="Whether there are more than are listed.")
    prepares: bool = Field(description="Whether users may give crystals (`POST /v1/hosts`).")


class HostAnswer(HostItem):
    """A crystal that was known before."""

    state: Literal["ready"]


class GivenHostAnswer(_Body):
    """A crystal that a user gave, and how far its job is."""

    host_id: str = Field(description="Made of the content: the same crystal is the same host.")
    name: str
    formula: str | None = Field(description="Null until the job has read it.")
    state: Literal["pending", "running", "ready", "failed", "stopped"]
    step: str
    done: int = Field(description="Steps done, of `steps`.")
    steps: int
    created_at: str = Field(description="UTC, ISO 8601.")
    owner: str = Field(description="Name of the token that gave it.")
    error: str | None


class HostSpectrumAnswer(_Body):
    """A crystal's computed density of states."""

    host_id: str
    unit: Literal["THz"]
    frequency: list[float]
    dos: list[float]
    kind: Literal["vibrational", "neutron"]
    note: str


class SaidItem(_Body):
    """A verdict in words."""

    sentence: str
    trust: Literal["none", "doubt", "care", "plain"]
    doubts: list[str]


class DrawnSpectrum(_Body):
    """A density of 3 modes an atom with as many points as are drawn."""

    frequency_thz: list[float]
    dos: list[float]


class DrawnSpectra(_Body):
    """What was compared."""

    sample: DrawnSpectrum
    reference: DrawnSpectrum | None


class CurvesItem(_Body):
    """The measured change of the density and, where there are responses, what of it each element explains."""

    frequency_thz: list[float]
    measured: list[float]
    each: dict[str, list[float]]
    residual: list[float] | None


class SpokeItem(_Body):
    """How much an element's log-odds fall when a window of the spectrum is made pristine."""

    edges_thz: list[float]
    elements: dict[str, list[float]]


class StudiedItem(_Body):
    """One answer; the curves for a lone spectrum only."""

    prediction: PredictionItem
    said: SaidItem
    spectra: DrawnSpectra | None
    curves: CurvesItem | None
    spoke: SpokeItem | None


class StatusAnswer(_Body):
    """What an operator looks at."""

    replicas: list[ReplicaItem]
    requests: dict[str, Any] = Field(description="Counters of all processes since each began.")
    promotions: list[dict[str, Any]] = Field(description="The latest first: version, when, by whom, gate.")
    batches: list[BatchAnswer]
    hosts: list[GivenHostAnswer] = Field(description="Hosts being prepared.")
    not_known: list[str] = Field(description="What could not be had, and why.")


class StudyAnswer(_Body):
    """One answer a spectrum, in their order."""

    answers: list[StudiedItem]
