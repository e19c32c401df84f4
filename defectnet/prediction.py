"""The answer to one query: which elements, how probable, how much; or why there is no answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["HESITATION", "ElementVerdict", "Prediction", "worth_showing"]

# Elements that were called absent are shown only from this probability up: there the model hesitated.
HESITATION = 0.1


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Prediction:
    """The answer to one query.

    Attributes:
        elements: most probable first; with a candidate list every candidate, otherwise those not ruled out.
        ood_score: 0 like the training spectra … 1 unlike any of them.
        warnings: what the reader should know before trusting the figures.
        error: None, or why there is no answer; then `elements` is empty.
    """

    sample_id: str
    host: str
    elements: tuple[ElementVerdict, ...]
    ood_score: float | None
    warnings: tuple[str, ...]
    model_name: str
    model_version: str
    error: str | None = None

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
        }

    def _repr_html_(self) -> str:
        # By name: how an answer is drawn stands above what it is, and a plain import would close a circle.
        shown: str = import_module("defectnet.pages.jupyter").prediction_html(self)
        return shown

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prediction":
        """The inverse of `to_dict`: a row of the predictions table, or an item of the service's answer."""
        elements = tuple(ElementVerdict(**verdict) for verdict in values["elements"] or ())
        return cls(**{**values, "elements": elements, "warnings": tuple(values["warnings"] or ())})


def worth_showing(present: bool, probability: float) -> bool:
    """Whether a picture or a table lists an element: it was found, or the model hesitated to rule it out."""
    return present or probability >= HESITATION
