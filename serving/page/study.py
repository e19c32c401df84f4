"""What the page shows of one answer beside its figures: the curves, which part of the spectrum spoke, the report.

It needs the model, so a replica computes it (`serving.replica.Model.study`); it knows nothing of HTTP.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError
from defectnet.model.explain import explain
from defectnet.model.predictor import Predictor
from defectnet.pages.report import write_report
from defectnet.prediction import Curves
from defectnet.query import Query
from defectnet.spectrum import Spectrum

__all__ = ["study"]

# Points of a drawn curve: more than a wide screen has pixels for it.
_DRAWN_POINTS = 800
_HEADROOM = 1.08


def study(predictor: Predictor, query: Query, *, source: str | None = None) -> dict[str, Any]:
    """Answer one query and say why.

    Args:
        source: what was read, in words; where it is given the report is written too.

    Returns:
        `prediction`; `spectra`: the sample's and the reference's densities, 3 modes an atom; `curves`: the measured
        change and, where there are responses, each element's part of it and what is left; `spoke`: what each window of
        the spectrum spoke for each element; `report`: a page in HTML, or None.

    Raises:
        InputError: there is no answer.
    """
    (prediction,) = predictor.predict([query])
    if prediction.error is not None:
        raise InputError(f"no answer ({prediction.error})", fix="check the spectrum", field="spectra[0]")
    prediction = predictor.with_alternatives(query, prediction)
    explanation = explain(predictor, query, prediction)
    curves = predictor.curves(query, prediction)
    report = None
    if source is not None:
        with tempfile.TemporaryDirectory(prefix="defectnet-report-") as folder:
            path = Path(folder) / "report.html"
            write_report(
                path, query, prediction, explanation=explanation, curves=curves, source=source, card=predictor.card
            )
            report = path.read_text(encoding="utf-8")
    return {
        "prediction": prediction.to_dict(),
        "spectra": {
            "sample": _drawn(query.spectrum),
            "reference": None if query.reference is None else _drawn(query.reference),
        },
        "curves": _curves(query, curves),
        "spoke": {
            "edges_thz": _plain(explanation.window_edges_thz),
            "elements": {name: _plain(values) for name, values in explanation.occlusion.items()},
        },
        "report": report,
    }


def _curves(query: Query, curves: Curves | None) -> dict[str, Any] | None:
    """The predictor's own curves, else the measured change alone; None where there is no reference."""
    if curves is not None:
        return {
            "frequency_thz": _plain(curves.frequency_thz),
            "measured": _plain(curves.measured),
            "each": {name: _plain(values) for name, values in curves.each.items()},
            "residual": _plain(curves.residual),
        }
    if query.reference is None:
        return None
    # No finer than the coarser of the two was measured, or the difference would show the bins and not the crystal.
    step = max(float(np.median(np.diff(s.frequency_thz))) for s in (query.spectrum, query.reference))
    top = _HEADROOM * max(query.spectrum.top_thz(), query.reference.top_thz())
    step = max(step, top / _DRAWN_POINTS)
    n_bins = max(8, int(np.ceil(top / step)))
    sample = query.spectrum.normalised().resampled(step, n_bins)
    reference = query.reference.normalised().resampled(step, n_bins)
    return {
        "frequency_thz": _plain(sample.frequency_thz),
        "measured": _plain(sample.dos - reference.dos),
        "each": {},
        "residual": None,
    }


def _drawn(spectrum: Spectrum) -> dict[str, list[float]]:
    """A normalised spectrum with at most as many points as can be drawn."""
    whole = spectrum.normalised()
    if whole.frequency_thz.size > _DRAWN_POINTS:
        whole = whole.resampled(_HEADROOM * whole.top_thz() / _DRAWN_POINTS, _DRAWN_POINTS)
    return {"frequency_thz": _plain(whole.frequency_thz), "dos": _plain(whole.dos)}


def _plain(values: NDArray[np.float64]) -> list[float]:
    """Six digits are more than a picture shows, and half the bytes."""
    return [float(f"{value:.6g}") for value in np.asarray(values, dtype=float)]
