"""One self-contained HTML page about one verdict: what a person attaches to a logbook.

Pictures are SVG inside of the page; it loads nothing, runs no script, and says so in its content security policy.
"""

import base64
import io
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from defectnet.check import Check
from defectnet.io.tables import read_spectra
from defectnet.model.explain import Explanation, Neighbour, explain, nearest
from defectnet.model.predictor import Predictor
from defectnet.pages.plots import draw_spectrum
from defectnet.prediction import Prediction
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

# Okabe and Ito's palette.
_COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00")


def write_report(
    path: str | Path,
    query: Query,
    prediction: Prediction,
    *,
    explanation: Explanation,
    neighbours: Sequence[Neighbour] = (),
    check: Check | None = None,
    source: str = "",
    card: str = "",
) -> None:
    """Write the page; its folder is made.

    Args:
        query, prediction: the question and the answer.
        explanation: what spoke for each element.
        neighbours: the nearest simulated spectra; may be empty.
        check: the check by simulation, where it was made.
        source: what was read.
        card: the model's card, shown folded.
    """
    page = _PAGES.get_template("report.html").render(
        query=query,
        prediction=prediction,
        found=[verdict for verdict in prediction.elements if verdict.present],
        neighbours=neighbours,
        check=check,
        card=card,
        versions=_versions(query, prediction, source),
        spectrum_picture=_image(_spectrum_figure(query)),
        explanation_picture=_image(_explanation_figure(explanation)) if explanation.occlusion else None,
        check_picture=None if check is None else _image(_check_figure(check)),
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
    neighbours = [] if similar is None else nearest(question.query, read_spectra(similar), predictor.config.grid)
    write_report(
        path,
        question.query,
        prediction,
        explanation=explain(predictor, question.query, prediction),
        neighbours=neighbours,
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


def _image(figure: Figure) -> str:
    """The picture as what the attribute `src` of an image holds."""
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream)
    return f"data:image/svg+xml;base64,{base64.b64encode(stream.getvalue().encode()).decode()}"


def _spectrum_figure(query: Query) -> Figure:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    axes = figure.subplots()
    draw_spectrum(axes, query)
    return figure


def _explanation_figure(explanation: Explanation) -> Figure:
    elements = list(explanation.occlusion)
    figure = Figure(figsize=(9.0, 1.5 * len(elements) + 0.7), layout="constrained")
    panels = figure.subplots(len(elements), 1, sharex=True, squeeze=False)[:, 0]
    edges, tokens = explanation.window_edges_thz, explanation.token_edges_thz
    for panel, element, colour in zip(panels, elements, _COLOURS, strict=False):
        panel.bar(edges[:-1], explanation.occlusion[element], np.diff(edges), align="edge", color=colour, alpha=0.8)
        panel.axhline(0.0, color="#222222", linewidth=0.6)
        panel.set_ylabel(f"{element}\nlog-odds", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(0.0, edges[-1])
        if element in explanation.attention:
            beside = panel.twinx()
            density = explanation.attention[element] / np.diff(tokens)
            beside.stairs(density, tokens, color="#222222", linewidth=1.0)
            beside.set_ylim(bottom=0)
            beside.set_yticks([])
            beside.spines[["top", "left", "right"]].set_visible(False)
    panels[-1].set_xlabel("Frequency (THz)")
    return figure


def _check_figure(check: Check) -> Figure:
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(check.frequency_thz, check.measured, color="#0072B2", linewidth=1.6, label="measured")
    axes.plot(check.frequency_thz, check.answered, color="#C9C9C9", linewidth=1.2, label="simulated, as answered")
    axes.plot(check.frequency_thz, check.refined, color="#D55E00", linewidth=1.4, label="simulated, refined")
    axes.axhline(0.0, color="#222222", linewidth=0.6)
    for low, high, share in () if check.agrees else check.worst:
        axes.axvspan(low, high, color="#D55E00", alpha=0.25 * share, linewidth=0)
    axes.set_xlabel("Frequency (THz)")
    axes.set_ylabel("Change of the density (1/THz)")
    axes.legend(frameon=False, fontsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0.0, check.frequency_thz[-1])
    return figure
