"""One self-contained HTML page about one verdict: what a person attaches to a logbook.

Pictures are SVG inside of the page; it loads nothing, runs no script, and says so in its content security policy.
"""

import base64
import io
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

import defectnet
from defectnet.check import Check
from defectnet.model.explain import Explanation, Neighbour
from defectnet.model.predictor import Prediction
from defectnet.pages.plots import draw_spectrum
from defectnet.query import Query

__all__ = ["write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .25rem .8rem; border-bottom: 1px solid #ddd; }
td.number { text-align: right; font-variant-numeric: tabular-nums; } tr.absent { color: #777; }
img { max-width: 100%; } .verdict { font-size: 1.2rem; font-weight: 600; } .small { color: #666; font-size: .85rem; }
.warning { border-left: 4px solid #d55e00; padding: .3rem .8rem; margin: .4rem 0; background: #fdf3ec; }
.agrees { border-left: 4px solid #009e73; padding: .3rem .8rem; background: #eef8f4; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } img { break-inside: avoid; } }
"""
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
    error: NDArray[np.float64] | None = None,
    source: str = "",
    card: str = "",
) -> None:
    """Write the page; its folder is made.

    Args:
        query, prediction: the question and the answer.
        explanation: what spoke for each element.
        neighbours: the nearest simulated spectra; may be empty.
        check: the check by simulation, where it was made.
        error: shape (n,), standard error of the sample's density, NaN where there is none.
        source: what was read.
        card: the model's card, shown folded.
    """
    parts = [
        f"<h1>{escape(query.host.formula)} · {escape(query.sample_id)}</h1>",
        f'<p class="verdict">{escape(_verdict(prediction))}</p>',
        *(f'<p class="warning">{escape(warning)}</p>' for warning in prediction.warnings),
        "<h2>Spectrum</h2>",
        _image(_spectrum_figure(query, error), "The sample's density of states and its pristine host's"),
        "<h2>Elements</h2>",
        _elements_table(prediction),
        '<p class="small">at.%: share of all atoms if the element is present, with its 90 % interval. '
        f"Out-of-distribution score {_number(prediction.ood_score)} (0 like the training spectra, 1 unlike any).</p>",
        *_explained(explanation),
        *_checked(check),
        *_compared(neighbours),
        "<h2>How this was made</h2>",
        _versions(query, prediction, source),
    ]
    if card:
        parts.append(f"<details><summary>The model's card</summary><pre>{escape(card)}</pre></details>")
    title = escape(f"DefectNet: {query.host.formula} {query.sample_id}")
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _verdict(prediction: Prediction) -> str:
    found = [verdict for verdict in prediction.elements if verdict.present]
    if not found:
        return "No foreign element found."
    return "Found: " + ", ".join(
        f"{v.element} {100 * v.concentration:.2g} at.% ({100 * v.low:.2g} to {100 * v.high:.2g})" for v in found
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _elements_table(prediction: Prediction) -> str:
    rows = [
        f'<tr class="{"present" if v.present else "absent"}"><td>{escape(v.element)}</td>'
        f'<td class="number">{100 * v.concentration:.2f}</td>'
        f'<td class="number">{100 * v.low:.2f} to {100 * v.high:.2f}</td>'
        f'<td class="number">{v.probability:.2f}</td><td>{"present" if v.present else "not found"}</td></tr>'
        for v in prediction.elements
    ]
    head = "<tr><th>element</th><th>at.%</th><th>90 % interval</th><th>probability</th><th>verdict</th></tr>"
    return f'<table id="elements">{head}{"".join(rows)}</table>'


def _explained(explanation: Explanation) -> list[str]:
    if not explanation.occlusion:
        return []
    return [
        "<h2>Which part of the spectrum spoke</h2>",
        _image(_explanation_figure(explanation), "What each part of the spectrum spoke for each element"),
        '<p class="small">Bars: how much an element\'s log-odds fall when this window is made pristine (above zero it '
        "spoke for the element, below against it). Line: where the network's attention for the element lay.</p>",
    ]


def _checked(check: Check | None) -> list[str]:
    if check is None:
        return []
    rows = [
        f'<tr><td>{escape(r.element)}</td><td class="number">{100 * r.answered:.2f}</td>'
        f'<td class="number">{100 * r.fitted:.2f} ± {100 * r.error:.2f}</td></tr>'
        for r in check.concentrations
    ]
    head = "<tr><th>element</th><th>answered at.%</th><th>fitted at.%</th></tr>"
    return [
        "<h2>Check by simulation</h2>",
        f'<p id="check" class="{"agrees" if check.agrees else "warning"}">{escape(check.sentence)}</p>',
        _image(_check_figure(check), "The measured change of the spectrum beside the simulated one"),
        f"<table>{head}{''.join(rows)}</table>" if rows else "",
        '<p class="small">The answer was simulated with an interatomic potential and compared with the measured '
        "change; what the simulation itself gets wrong counts against the answer too.</p>",
    ]


def _compared(neighbours: Sequence[Neighbour]) -> list[str]:
    if not neighbours:
        return []
    rows = [
        f"<tr><td>{escape(n.host)}</td><td>{escape(n.defects)}</td>"
        f'<td class="number">{100 * n.distance:.1f} %</td><td class="small">{escape(n.sample_id)}</td></tr>'
        for n in neighbours
    ]
    head = "<tr><th>host</th><th>dopants</th><th>modes elsewhere</th><th>id</th></tr>"
    return ["<h2>Nearest simulated spectra</h2>", f'<table id="nearest">{head}{"".join(rows)}</table>']


def _versions(query: Query, prediction: Prediction, source: str) -> str:
    said = {
        "read from": source,
        "kind of spectrum": query.kind,
        "pristine reference": "given" if query.reference is not None else "none",
        "candidates": "every element" if query.candidates is None else ", ".join(query.candidates),
        "model": f"{prediction.model_name} {prediction.model_version}",
        "DefectNet": defectnet.__version__,
        "Python": platform.python_version(),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    return "<table>" + "".join(f"<tr><td>{k}</td><td>{escape(v)}</td></tr>" for k, v in said.items() if v) + "</table>"


def _image(figure: Figure, words: str) -> str:
    stream = io.StringIO()
    FigureCanvasSVG(figure).print_svg(stream)
    data = base64.b64encode(stream.getvalue().encode()).decode()
    return f'<img alt="{escape(words)}" src="data:image/svg+xml;base64,{data}">'


def _spectrum_figure(query: Query, error: NDArray[np.float64] | None) -> Figure:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    axes = figure.subplots()
    draw_spectrum(axes, query)
    if error is not None:
        # The curve is drawn normalised; its errors shrink with it.
        scale = query.spectrum.normalised().dos.max() / query.spectrum.dos.max()
        low, high = (query.spectrum.normalised().dos + sign * scale * error for sign in (-1, 1))
        axes.fill_between(query.spectrum.frequency_thz, low, high, color="#0072B2", alpha=0.35, linewidth=0)
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
