"""The answer to one query: which elements, how probable, how much; or why there is no answer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CANNOT_TELL",
    "HESITATION",
    "MOST_UNEXPLAINED",
    "MOVED_BY_MEASURING",
    "Alternative",
    "Curves",
    "ElementVerdict",
    "Fit",
    "Prediction",
    "why_undecided",
    "worth_showing",
]

# Elements that were called absent are shown only from this probability up: there the model hesitated.
HESITATION = 0.1
# How the first warning of an answer begins that nothing could be compared with: it suggests, and finds nothing.
CANNOT_TELL = "cannot tell"
# An answer that leaves more than this share of the measured change unexplained says so first.
MOST_UNEXPLAINED = 1 / 3
# Nor is nothing found where the measured change moves more than this share of the modes. On 114 hosts counting noise of
# 1e5 counts moves at most 0.7 %, an axis that is 0.6 % off 2.9 %; dopants of more than 5 % of the atoms move 5 to 17 %.
MOVED_BY_MEASURING = 0.03


@dataclass(frozen=True, init=False)
class ElementVerdict:
    """What the model says of one element.

    Attributes:
        present: the verdict.
        probability: calibrated probability that the element is present.
        concentration: fraction of all atoms, *if* the element is present.
        low, high: 90 % interval of the concentration, fractions of all atoms, if the element is present.
    """

    element: str
    present: bool
    probability: float
    concentration: float
    low: float
    high: float

    def __init__(
        self, element: str, present: bool, probability: float, concentration: float, low: float, high: float
    ) -> None:
        # Some thirty are made for an answer; past the guard of frozen fields one takes half the time.
        self.__dict__.update(
            element=element, present=present, probability=probability, concentration=concentration, low=low, high=high
        )


@dataclass(frozen=True)
class Alternative:
    """A set of elements, how much of each (fractions of all atoms), and the share of the change that they explain."""

    elements: tuple[str, ...]
    concentrations: tuple[float, ...]
    explained: float


@dataclass(frozen=True)
class Fit:
    """How an answer was held against computed responses.

    Attributes:
        host_id: the crystal of the response library whose responses were compared.
        explained: share of the measured change's square that the found elements explain at the stated amounts; with a
            computed reference, and where the sample's axis is probably off the reference's, of what is left of it
            without what a wrong axis makes.
        moved: share of the modes that lie elsewhere than in the reference, smoothed; 0 … 1.
        sources: element → where its response comes from, such as "endmember", "potential:nequix" or "springs".
        alternatives: the sets of elements that explain the change best, best first; only where they were asked for.
    """

    host_id: str
    explained: float
    sources: Mapping[str, str]
    alternatives: tuple[Alternative, ...] = ()
    moved: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, in the layout of `PREDICTIONS_SCHEMA`."""
        return {
            "host_id": self.host_id,
            "explained": self.explained,
            "moved": self.moved,
            "sources": [{"element": element, "source": source} for element, source in self.sources.items()],
            "alternatives": [
                {"elements": list(one.elements), "concentrations": list(one.concentrations), "explained": one.explained}
                for one in self.alternatives
            ],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Fit":
        """The inverse of `to_dict`."""
        return cls(
            host_id=values["host_id"],
            explained=values["explained"],
            moved=values.get("moved") or 0.0,
            sources={one["element"]: one["source"] for one in values["sources"] or ()},
            alternatives=tuple(
                Alternative(tuple(one["elements"]), tuple(one["concentrations"]), one["explained"])
                for one in values["alternatives"] or ()
            ),
        )


@dataclass(frozen=True, eq=False)
class Curves:
    """A measured change beside what the found elements' responses make of it; all smoothed alike.

    Attributes:
        frequency_thz: shape (n,), THz, on the measured axis.
        measured, residual: shape (n,), the change, and what is left of it; modes per atom and THz.
        each: element → shape (n,), its part.
    """

    frequency_thz: NDArray[np.float64]
    measured: NDArray[np.float64]
    each: Mapping[str, NDArray[np.float64]]
    residual: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The answer to one query.

    Attributes:
        elements: most probable first; with a candidate list every candidate, otherwise those not ruled out.
        ood_score: 0 like the training spectra … 1 unlike any of them.
        warnings: what the reader should know before trusting the figures.
        error: None, or why there is no answer; then `elements` is empty.
        fit: how the answer was held against computed responses; None where the host or its reference is not known.
    """

    sample_id: str
    host: str
    elements: tuple[ElementVerdict, ...]
    ood_score: float | None
    warnings: tuple[str, ...]
    model_name: str
    model_version: str
    error: str | None = None
    fit: Fit | None = None

    @classmethod
    def failed(
        cls, sample_id: str, host: str, error: object, *, model_name: str = "", model_version: str = ""
    ) -> "Prediction":
        """No answer, and why; no model is named where none has seen the spectrum."""
        return cls(sample_id, host, (), None, (), model_name, model_version, str(error))

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, in the layout of `PREDICTIONS_SCHEMA`."""
        # `dataclasses.asdict` copies every figure deeply: a fifth of the whole time of a prediction.
        return vars(self) | {
            "elements": [dict(vars(verdict)) for verdict in self.elements],
            "warnings": list(self.warnings),
            "fit": None if self.fit is None else self.fit.to_dict(),
        }

    def _repr_html_(self) -> str:
        # By name: how an answer is drawn stands above what it is, and a plain import would close a circle.
        shown: str = import_module("defectnet.pages.jupyter").prediction_html(self)
        return shown

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prediction":
        """The inverse of `to_dict`: a row of the predictions table, or an item of the service's answer."""
        elements = tuple(ElementVerdict(**verdict) for verdict in values["elements"] or ())
        fit = None if values.get("fit") is None else Fit.from_dict(values["fit"])
        return cls(**{**values, "elements": elements, "warnings": tuple(values["warnings"] or ()), "fit": fit})


def why_undecided(warnings: Iterable[str]) -> str | None:
    """The warning that says why an answer finds nothing because nothing could be compared; None of any other answer."""
    return next((warning for warning in warnings if warning.startswith(CANNOT_TELL)), None)


def worth_showing(present: bool, probability: float) -> bool:
    """Whether a picture or a table lists an element: it was found, or the model hesitated to rule it out."""
    return present or probability >= HESITATION
