"""The pictures of an evaluation: what `defectnet evaluate` draws beside its figures.

`draw_evaluation` draws them all from a model and labelled rows; every other function draws one, from answers beside the
truth (`defectnet.metrics.Judged`), into a PNG.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY, element
from defectnet.metrics import HEADLINE_PERCENT, Judged, score_range
from defectnet.model.artifact import ModelConfig
from defectnet.model.explain import attention_map
from defectnet.model.network import DefectNetwork
from training.candidates import all_candidates
from training.dataset import SpectraArrays
from training.evaluate import judge_modes, network_answerer

__all__ = [
    "draw_evaluation",
    "plot_attention",
    "plot_confusion",
    "plot_f1_by_concentration",
    "plot_parity",
    "plot_periodic_table",
    "plot_reliability",
]

# Okabe and Ito's palette, as in `defectnet.pages.plots`.
_BLUE, _ORANGE, _GREY, _TEXT = "#0072B2", "#D55E00", "#7A7A7A", "#222222"
_DPI = 130
_LEAST_DOPANTS = 3  # an element's share from fewer is luck
_MOST_CONFUSED = 30
_N_BINS = 15
_RANGE_PERCENT = (0.1, 40.0)
# Concentration that an example is chosen to be near, fraction: strong enough to be seen in print.
_EXAMPLE_CONCENTRATION = 0.05


def draw_evaluation(network: DefectNetwork, config: ModelConfig, rows: SpectraArrays, folder: str | Path) -> list[Path]:
    """Draw the six pictures of `rows` into `folder`; returns their paths. Without any reference nothing is drawn."""
    folder = Path(folder)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    modes = {
        name.replace("_", " "): judged
        for name, judged in judge_modes(network_answerer(network), rows, known, config.calibration).items()
    }
    if not modes:
        return []
    listed, free = modes["candidate"], modes["guess free"]
    plot_parity(listed, folder / "parity.png")
    plot_f1_by_concentration(modes, folder / "f1.png")
    plot_periodic_table(listed, folder / "elements.png")
    plot_reliability(modes, folder / "reliability.png")
    plot_confusion(free, folder / "confusion.png")
    _draw_example(network, rows.where(rows.has_reference), known, folder / "attention.png")
    return sorted(folder.glob("*.png"))


def _draw_example(network: DefectNetwork, rows: SpectraArrays, known: np.ndarray, path: Path) -> None:
    """Attention of the dopants of one spectrum, that of a single dopant nearest to 5 %."""
    single = np.flatnonzero((rows.truth > 0).sum(axis=1) == 1)
    if not single.size:
        return
    nearest = single[np.abs(np.log(rows.truth[single].max(axis=1) / _EXAMPLE_CONCENTRATION)).argmin()]
    row = rows.where(np.array([nearest]))
    dopant = int(row.truth[0].argmax())
    looked = attention_map(network.eval(), row.inputs(all_candidates(row.host, known) | (row.truth > 0)))[0].numpy()
    # Beside the dopant, two elements that are not there and look elsewhere.
    others = [index for index in np.argsort(-np.abs(looked - looked[dopant]).sum(axis=1)) if looked[index].any()][:2]
    width = np.diff(network.grid.edges_thz)
    plot_attention(
        network.grid.centres_thz,
        row.sample[0] / width,
        row.reference[0] / width,
        {VOCABULARY[index]: looked[index] for index in (dopant, *others)},
        f"{row.formula[0]} with {100 * row.truth[0, dopant]:.1f} at.% {VOCABULARY[dopant]}",
        path,
    )


def plot_parity(judged: Judged, path: str | Path) -> None:
    """Estimated against true concentration of every dopant that was called present, a colour for each atomic number."""
    rows, elements = np.nonzero((judged.truth > 0) & judged.present)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    axes = figure.subplots()
    truth, estimate = 100 * judged.truth[rows, elements], 100 * judged.concentration[rows, elements]
    points = axes.scatter(truth, estimate, c=elements + 1, cmap="turbo", vmin=1, vmax=len(VOCABULARY), s=12, alpha=0.7)
    axes.plot(_RANGE_PERCENT, _RANGE_PERCENT, color=_GREY, linewidth=1)
    axes.set(xscale="log", yscale="log", xlim=_RANGE_PERCENT, ylim=_RANGE_PERCENT)
    axes.set(xlabel="True concentration (at.%)", ylabel="Estimate (at.%)")
    figure.colorbar(points, ax=axes, label="Atomic number of the dopant")
    _save(figure, path)


def plot_f1_by_concentration(modes: Mapping[str, Judged], path: str | Path) -> None:
    """Presence F1 in narrow bands of the concentration, one line for each way of asking."""
    edges = np.geomspace(0.2, 25.0, 9)
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    for colour, (name, judged) in zip((_BLUE, _ORANGE, _GREY), modes.items(), strict=False):
        f1 = [score_range(judged, low, high)["f1"] for low, high in pairwise(edges)]
        axes.plot(np.sqrt(edges[:-1] * edges[1:]), np.array(f1, dtype=float), "o-", color=colour, label=name)
    axes.set(xscale="log", ylim=(0, 1), xlabel="Concentration (at.%)", ylabel="Presence F1")
    axes.set_xticks([0.2, 0.5, 1, 2, 5, 10, 25], ["0.2", "0.5", "1", "2", "5", "10", "25"])
    axes.minorticks_off()
    axes.legend(frameon=False)
    _save(figure, path)


def plot_periodic_table(judged: Judged, path: str | Path) -> None:
    """Presence F1 of every element as a dopant of at least 0.5 %, on the periodic table."""
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    axes = figure.subplots()
    dopant = 100 * judged.truth >= HEADLINE_PERCENT
    alarm = judged.asked & (judged.truth <= 0) & judged.present
    table = np.full((10, 18), np.nan)
    for index, symbol in enumerate(VOCABULARY):
        row, column = _place(symbol)
        hits, count = int((dopant & judged.present)[:, index].sum()), int(dopant[:, index].sum())
        label = symbol
        if count >= _LEAST_DOPANTS:
            f1 = 2 * hits / (hits + count + int(alarm[:, index].sum()))
            table[row, column], label = f1, f"{symbol}\n{f1:.2f}"
        axes.text(column, row, label, ha="center", va="center", fontsize=7.5, color=_TEXT)
    image = axes.imshow(np.ma.masked_invalid(table), cmap="YlGn", vmin=0, vmax=1)
    axes.set_axis_off()
    figure.colorbar(image, ax=axes, label=f"Presence F1 (dopants of at least {HEADLINE_PERCENT:g} at.%)", shrink=0.7)
    _save(figure, path)


def plot_reliability(modes: Mapping[str, Judged], path: str | Path) -> None:
    """Observed share against stated probability, one line for each way of asking, above how often each was stated."""
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    edges = np.linspace(0, 1, _N_BINS + 1)
    for colour, (name, judged) in zip((_BLUE, _ORANGE), modes.items(), strict=False):
        p, present = judged.probability[judged.asked], judged.truth[judged.asked] > 0
        bins = np.minimum((p * _N_BINS).astype(int), _N_BINS - 1)
        counts = np.bincount(bins, minlength=_N_BINS)
        filled = counts > 0
        stated, observed = (np.bincount(bins, values, _N_BINS)[filled] / counts[filled] for values in (p, present))
        upper.plot(stated, observed, "o-", color=colour, label=name)
        lower.stairs(counts, edges, color=colour)
    upper.set(ylabel="Share that was present", ylim=(0, 1))
    lower.set(xlabel="Stated probability", ylabel="Pairs", yscale="log", xlim=(0, 1))
    upper.legend(frameon=False)
    _save(figure, path)


def plot_confusion(judged: Judged, path: str | Path) -> None:
    """Mean probability of each absent element in the spectra that hold another, both in the order of their masses.

    Near the diagonal stand elements of near-equal mass; the diagonal itself is the probability of what is present.
    """
    dopant = 100 * judged.truth >= HEADLINE_PERCENT
    counts = dopant.sum(axis=0)
    chosen = np.sort(np.argsort(-counts, kind="stable")[:_MOST_CONFUSED])
    chosen = chosen[counts[chosen] >= _LEAST_DOPANTS]
    matrix = np.full((len(chosen), len(chosen)), np.nan)
    for i, present in enumerate(chosen):
        for j, other in enumerate(chosen):
            rows = dopant[:, present] & judged.asked[:, other] & ((judged.truth[:, other] <= 0) | (i == j))
            if rows.any():
                matrix[i, j] = judged.probability[rows, other].mean()
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap="magma_r", vmin=0)
    names = [VOCABULARY[index] for index in chosen]
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=90)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set(xlabel="Element that is weighed", ylabel="Element that is present")
    figure.colorbar(image, ax=axes, label="Mean probability", shrink=0.8)
    _save(figure, path)


def plot_attention(
    frequency_thz: NDArray[np.float64],
    sample: NDArray[np.float64],
    reference: NDArray[np.float64],
    attention: Mapping[str, NDArray[np.float64]],
    title: str,
    path: str | Path,
) -> None:
    """A sample's density and its reference's above the attention of a few elements to it.

    Args:
        frequency_thz, sample, reference: shape (n,), densities per THz on any scale.
        attention: element → weights of the spectral tokens, shape (t,), which divide the axis in equal numbers of bins.
        title: what the sample is.
        path: where the PNG goes.
    """
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1.4, 1])
    upper.plot(frequency_thz, reference, color=_GREY, label="pristine")
    upper.plot(frequency_thz, sample, color=_BLUE, label="sample")
    upper.set_title(title, loc="left", fontsize=10)
    upper.set(ylabel="Density (1/THz)")
    upper.legend(frameon=False)
    for name, weights in attention.items():
        per_bin = np.repeat(weights, frequency_thz.size // weights.size)
        lower.plot(frequency_thz, per_bin, drawstyle="steps-mid", label=name)
    filled = np.flatnonzero((sample > 1e-3 * sample.max()) | (reference > 1e-3 * reference.max()))
    upper.set_xlim(0, 1.1 * frequency_thz[filled[-1]])
    lower.set(xlabel="Frequency (THz)", ylabel="Attention")
    lower.legend(frameon=False, fontsize=8, ncols=3)
    _save(figure, path)


def _place(symbol: str) -> tuple[int, int]:
    """Row and column of an element on the periodic table, lanthanides and actinides below it."""
    number = VOCABULARY.index(symbol) + 1
    for row, (first, last) in _SERIES.items():
        if first <= number <= last:
            return row, 2 + number - first
    return element(symbol).period - 1, element(symbol).group - 1


# Rows in which lanthanides and actinides are drawn: atomic numbers of the first and the last.
_SERIES = {8: (57, 71), 9: (89, 103)}


def _save(figure: Figure, path: str | Path) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=_DPI, facecolor="white")
