"""Pictures: one spectrum beside its verdict, and an overview of a table of spectra.

Figures are drawn without pyplot, whose global state is neither safe in threads nor needed to write a file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from defectnet.errors import InputError, TableError
from defectnet.prediction import ElementVerdict, Prediction, worth_showing
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, thz_per

if TYPE_CHECKING:
    from defectnet.query import Query

__all__ = ["plot_prediction", "plot_table_overview"]

# Okabe and Ito's palette, which colour-blind readers can tell apart (jfly.uni-koeln.de/color).
_SAMPLE = "#0072B2"
_REFERENCE = "#7A7A7A"
_PRESENT = "#D55E00"
_ABSENT = "#C9C9C9"
_TEXT = "#222222"

_DPI = 150
_MAX_ELEMENTS = 8
_MAX_PANELS = 24
_PANEL_COLUMNS = 4
_MAX_TITLE_DEFECTS = 3  # as many as fit above a panel


def plot_prediction(query: "Query", prediction: Prediction, path: str | Path) -> None:
    """Draw a spectrum (and its pristine reference) beside the verdict on it.

    Args:
        query: the spectrum that was asked about.
        prediction: the verdict; one without elements, or with an error, is said in words.
        path: where the PNG goes; its folder is made.
    """
    figure = Figure(figsize=(11.0, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.65, 1.0])
    _draw_spectrum(left, query)
    _draw_verdict(right, prediction)
    left.set_title(f"{_subscripted(query.host.formula)} · {query.sample_id}", loc="left", color=_TEXT, pad=12)
    right.set_title("Foreign elements", loc="left", color=_TEXT, pad=12)
    notes = [f"{prediction.model_name} {prediction.model_version}", *prediction.warnings]
    figure.text(0.012, -0.01, "\n".join(notes), va="top", fontsize=8, color=_REFERENCE, wrap=True)
    _save(figure, path)


def plot_table_overview(table: pa.Table, path: str | Path) -> None:
    """Draw up to 24 spectra of a spectra table, evenly picked, each with its reference and its known defects.

    Raises:
        TableError: no row of the table has a spectrum.
    """
    rows, failed = [], 0
    for row in table.to_pylist():
        try:
            rows.append((row, Spectrum.from_bins(row["dos"] or [], row["frequency_step_thz"] or 0.0).normalised()))
        except InputError:
            failed += 1
    if not rows:
        raise TableError("no row has a spectrum to draw", fix="see the column `error`", field="input")
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(_MAX_PANELS, len(rows))).astype(int))
    n_columns = min(_PANEL_COLUMNS, len(chosen))
    n_rows = -(-len(chosen) // n_columns)
    figure = Figure(figsize=(3.1 * n_columns, 2.1 * n_rows + 0.6), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for panel, index in zip(panels, chosen, strict=False):
        row, spectrum = rows[index]
        _draw_curves(panel, spectrum, _reference_of(row))
        panel.set_title(_row_title(row), loc="left", fontsize=8.5, color=_TEXT)
        panel.tick_params(labelsize=7.5)
        panel.set_yticks([])
    for panel in panels[len(chosen) :]:
        panel.set_axis_off()
    figure.supxlabel("Frequency (THz)", fontsize=9, color=_TEXT)
    figure.supylabel("Density of states", fontsize=9, color=_TEXT)
    counts = f"{len(chosen)} of {table.num_rows} spectra"
    figure.suptitle(f"{counts}, {failed} without a spectrum" if failed else counts, fontsize=10, color=_TEXT)
    _save(figure, path)


def _draw_spectrum(axes: Axes, query: "Query") -> None:
    """Draw a spectrum and its pristine reference, each of 3 modes per atom, over THz and meV."""
    sample = query.spectrum.normalised()
    _draw_curves(axes, sample, query.reference.normalised() if query.reference else None)
    if query.uncertainty is not None:
        error = query.uncertainty * (sample.dos.max() / query.spectrum.dos.max())
        low, high = sample.dos - error, sample.dos + error  # a NaN leaves a gap
        axes.fill_between(
            sample.frequency_thz, low, high, color=_SAMPLE, alpha=0.35, linewidth=0, label="standard error"
        )
    axes.set_xlabel("Frequency (THz)")
    axes.set_ylabel("Density of states (1/THz, 3 modes per atom)")
    top = axes.secondary_xaxis("top", functions=(_mev_of_thz, _thz_of_mev))
    top.set_xlabel("Energy (meV)", fontsize=8.5)
    top.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=8.5)


def _mev_of_thz(frequency_thz: Any) -> Any:
    return np.asarray(frequency_thz) / thz_per(FrequencyUnit.MEV)


def _thz_of_mev(energy_mev: Any) -> Any:
    return np.asarray(energy_mev) * thz_per(FrequencyUnit.MEV)


def _draw_curves(axes: Axes, spectrum: Spectrum, reference: Spectrum | None) -> None:
    axes.fill_between(spectrum.frequency_thz, spectrum.dos, color=_SAMPLE, alpha=0.18, linewidth=0)
    axes.plot(spectrum.frequency_thz, spectrum.dos, color=_SAMPLE, linewidth=1.5, label="sample")
    end_thz = spectrum.top_thz()
    if reference is not None:
        axes.plot(reference.frequency_thz, reference.dos, color=_REFERENCE, linewidth=1.1, label="pristine host")
        end_thz = max(end_thz, reference.top_thz())
    axes.set_xlim(min(0.0, float(spectrum.frequency_thz[0])), end_thz * 1.08)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_verdict(axes: Axes, prediction: Prediction) -> None:
    if prediction.error is not None:
        _say(axes, f"No verdict:\n{prediction.error}")
        return
    shown = _shown(prediction.elements)
    if not any(verdict.present for verdict in shown):
        first = max(prediction.elements, key=lambda verdict: verdict.probability, default=None)
        hint = f"\n\nclosest: {first.element}, probability {first.probability:.0%}" if first else ""
        _say(axes, f"No foreign element found{hint}")
        return
    positions = np.arange(len(shown))
    percent = np.array([[100 * value for value in (v.concentration, v.low, v.high)] for v in shown])
    colours = [_PRESENT if verdict.present else _ABSENT for verdict in shown]
    axes.barh(positions, percent[:, 0], color=colours, height=0.55)
    below = np.maximum(percent[:, 0] - percent[:, 1], 0.0)
    above = np.maximum(percent[:, 2] - percent[:, 0], 0.0)
    axes.errorbar(percent[:, 0], positions, xerr=[below, above], fmt="none", ecolor=_TEXT, elinewidth=1.2, capsize=3.5)
    right_end = float(percent.max())
    for position, verdict, (value, _, high) in zip(positions.tolist(), shown, percent.tolist(), strict=True):
        label = f"{value:.1f} at.%   p = {verdict.probability:.2f}" + ("" if verdict.present else "   not found")
        axes.text(max(value, high) + 0.03 * right_end, position, label, va="center", fontsize=8.5, color=_TEXT)
    axes.set_yticks(positions, [verdict.element for verdict in shown], fontsize=11)
    axes.set_ylim(max(len(shown), 3) - 0.4, -0.6)
    axes.set_xlim(0, right_end * 1.75)
    axes.set_xlabel("Concentration (at.% of all atoms, 90 % interval)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _shown(elements: Sequence[ElementVerdict]) -> list[ElementVerdict]:
    """What is worth a bar: the elements found first, then those that the model hesitated about."""
    worth = [verdict for verdict in elements if worth_showing(verdict.present, verdict.probability)]
    return sorted(worth, key=lambda verdict: (not verdict.present, -verdict.probability))[:_MAX_ELEMENTS]


def _say(axes: Axes, words: str) -> None:
    axes.set_axis_off()
    axes.text(0.0, 0.6, words, transform=axes.transAxes, fontsize=12, va="center", color=_TEXT, wrap=True)


def _reference_of(row: Mapping[str, Any]) -> Spectrum | None:
    try:
        return Spectrum.from_bins(row["reference_dos"], row["frequency_step_thz"]).normalised()
    except InputError:
        return None


def _row_title(row: Mapping[str, Any]) -> str:
    host, defects = _subscripted(row["host"]), row["defects"]
    if not defects:
        return host if defects is None else f"{host}, pristine"
    largest = sorted(defects, key=lambda defect: -defect["concentration"])
    named = [f"{defect['element']} {100 * defect['concentration']:.1f} %" for defect in largest[:_MAX_TITLE_DEFECTS]]
    return f"{host}: {', '.join(named)}" + (" …" if len(largest) > _MAX_TITLE_DEFECTS else "")


def _subscripted(formula: str) -> str:
    """A formula with its numbers as subscripts; the digits' own signs, so that no markup is parsed."""
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def _save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, bbox_inches="tight", pad_inches=0.15, facecolor="white")
