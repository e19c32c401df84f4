"""One self-contained HTML page about one verdict: what a person attaches to a logbook.

Its words are those of the service's page, and its pictures the same drawing, as SVG in the page; it loads nothing, runs
no script, and says so in its content security policy.
"""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from defectnet.check import Check
from defectnet.io.tables import read_spectra
from defectnet.model.explain import Explanation, Neighbour, explain, nearest
from defectnet.model.predictor import Predictor
from defectnet.pages.panels import Curve, Panel, draw_panels
from defectnet.pages.verdict_sentence import at_percent, probability_words, say
from defectnet.prediction import Curves, Prediction
from defectnet.query import Query
from defectnet.readers.query import QueryReading
from defectnet.version import __version__

__all__ = ["report_answer", "write_report"]

# Everything that comes from a file is escaped by the template engine, not by whoever writes the page.
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

Array = NDArray[np.float64]

# Colours of elements, as the page has them: each-0 to each-5.
_COLOURS = 6
_TRUST = {"none": "No answer", "doubt": "Doubtful", "care": "Read with care", "plain": "Answer"}


def write_report(
    path: str | Path,
    query: Query,
    prediction: Prediction,
    *,
    explanation: Explanation,
    neighbours: Sequence[Neighbour] = (),
    curves: Curves | None = None,
    check: Check | None = None,
    source: str = "",
    card: str = "",
) -> None:
    """Write the page; its folder is made.

    Args:
        query, prediction: the question and the answer.
        explanation: what spoke for each element.
        neighbours: the nearest simulated spectra; may be empty.
        curves: the measured change and what the found elements make of it (`Predictor.curves`).
        check: the check by simulation, where it was made.
        source: what was read.
        card: the model's card, shown folded.
    """
    page = _PAGES.get_template("report.html").render(
        query=query,
        prediction=prediction,
        said=say(prediction),
        found=any(verdict.present for verdict in prediction.elements),
        trust=_TRUST[say(prediction).trust],
        percent=at_percent,
        probability=probability_words,
        neighbours=neighbours,
        check=check,
        card=card,
        versions=_versions(query, prediction, source),
        spectrum_picture=_curves_picture(query, curves),
        explanation_picture=_explanation_picture(explanation, attention=prediction.fit is None)
        if explanation.occlusion
        else None,
        check_picture=None if check is None else _check_picture(check),
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def report_answer(
    path: str | Path,
    predictor: Predictor,
    question: QueryReading,
    prediction: Prediction,
    *,
    check: Check | None = None,
    similar: str | Path | None = None,
) -> None:
    """Explain an answer and write the page about it.

    Args:
        predictor: what answered.
        question: from files (`defectnet.readers.query.read_query`).
        check: the check by simulation (`datagen.answer_check.check_prediction`), where it was made.
        similar: a Parquet of simulated spectra, or a folder of them, whose nearest are listed.

    Raises:
        TableError: `similar` is no table of spectra.
    """
    prediction = predictor.with_alternatives(question.query, prediction)
    neighbours = [] if similar is None else nearest(question.query, read_spectra(similar), predictor.config.grid)
    write_report(
        path,
        question.query,
        prediction,
        explanation=explain(predictor, question.query, prediction),
        neighbours=neighbours,
        curves=predictor.curves(question.query, prediction),
        check=check,
        source=f"{question.file.name} ({question.reading.summary})",
        card=predictor.card,
    )


def _versions(query: Query, prediction: Prediction, source: str) -> dict[str, str]:
    said = {
        "read from": source,
        "kind of spectrum": query.kind,
        "pristine reference": "given" if query.reference is not None else "none",
        "candidates": "every element" if query.candidates is None else ", ".join(query.candidates),
        "model": f"{prediction.model_name} {prediction.model_version}",
        "DefectNet": __version__,
        "Python": platform.python_version(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return {name: value for name, value in said.items() if value}


def _curves_picture(query: Query, curves: Curves | None) -> str:
    """The measured change with what explains it, where that is known, and the two densities."""
    sample = query.spectrum.normalised()
    scale = sample.dos.max() / query.spectrum.dos.max()
    error = None if query.uncertainty is None else query.uncertainty * scale
    density = [Curve("sample", "sample", sample.frequency_thz, sample.dos, error)]
    if query.reference is not None:
        reference = query.reference.normalised()
        density.insert(0, Curve("pristine reference", "reference", reference.frequency_thz, reference.dos))
    panels = [Panel("Density of states", density)]
    if curves is not None:
        x, fitted = curves.frequency_thz, curves.measured - curves.residual
        change = [Curve("measured change", "measured", x, curves.measured, filled=True)]
        change += [Curve(name, _each(k), x, y) for k, (name, y) in enumerate(curves.each.items())]
        if curves.each:
            change.append(Curve("fitted sum", "fitted", x, fitted))
        residual = Curve("residual", "residual", x, curves.residual, filled=True)
        panels = [Panel("Change", change, 210), Panel("Residual", [residual], 90), *panels]
    return draw_panels(panels, summary="The sample's density of states, its pristine host's, and the change")


def _explanation_picture(explanation: Explanation, *, attention: bool) -> str:
    """For each element what each window spoke, and where the network's attention lay, on a scale of its own.

    An answer by comparison is not that network's: its attention would say nothing of it.
    """
    panels = []
    for k, (element, spoke) in enumerate(explanation.occlusion.items()):
        x, y = _steps(explanation.window_edges_thz, spoke)
        drawn = [Curve(element, _each(k), x, y, filled=True)]
        if attention and element in explanation.attention:
            density = explanation.attention[element] / np.diff(explanation.token_edges_thz)
            x, y = _steps(explanation.token_edges_thz, density / density.max() * max(float(spoke.max()), 1e-6))
            drawn.append(Curve("attention, scaled", "reference", x, y))
        panels.append(Panel(f"{element}, log-odds", drawn, 110))
    top = float(explanation.window_edges_thz[-1])
    return draw_panels(panels, summary="What each part of the spectrum spoke for each element", top_thz=top)


def _check_picture(check: Check) -> str:
    drawn = [
        Curve("measured", "measured", check.frequency_thz, check.measured, filled=True),
        Curve("simulated, as answered", "reference", check.frequency_thz, check.answered),
        Curve("simulated, refined", "fitted", check.frequency_thz, check.refined),
    ]
    panel = Panel("Change (1/THz)", drawn, 220, () if check.agrees else tuple(check.worst))
    summary = "The measured change of the spectrum beside the simulated one"
    return draw_panels([panel], summary=summary, top_thz=float(check.frequency_thz[-1]))


def _each(place: int) -> str:
    return f"each-{place % _COLOURS}"


def _steps(edges: Array, values: Array) -> tuple[Array, Array]:
    """Windows as a curve with corners: each value from its left edge to its right one."""
    return np.repeat(edges, 2)[1:-1], np.repeat(values, 2)
