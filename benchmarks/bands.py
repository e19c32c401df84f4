"""Pictures of a composition series: the density of the host and of its alloys, beside published positions of bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from writing import RESULTS

from defectnet.spectrum import Spectrum
from defectnet.units import thz_per

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

__all__ = ["Panel", "draw_bands"]

Array = NDArray[np.float64]

# Sigma of the smoothing, THz; above that of the densities themselves.
SMOOTHING_THZ = 0.15


@dataclass(frozen=True)
class Panel:
    """One panel of a picture.

    Attributes:
        title: above it.
        table: the members, a spectra table with `partial_dos`.
        pristine: the host's density by element, modes per THz; None where the host is not to be drawn.
        element: only its part of the densities, over its share of all atoms; "" for the whole.
    """

    title: str
    table: pa.Table
    pristine: Mapping[str, Array] | None
    element: str = ""


def draw_bands(
    name: str, panels: Sequence[Panel], unit: str, published: Mapping[str, float], moved: Sequence[float] = ()
) -> Path:
    """Draw the panels side by side into `results/NAME.png`; returns its path.

    Args:
        unit: of the axis, "cm-1" or "meV".
        published: measured positions of bands in that unit, by the name that is written above them.
        moved: where measurements saw the dopant move most, in that unit: dashed.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 4.6), squeeze=False, constrained_layout=True
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        _draw(axis, panel, unit)
        for label, position in published.items():
            axis.axvline(position, color="0.55", lw=0.9, ls=":")
            axis.text(position, 1.0, label, transform=axis.get_xaxis_transform(), ha="center", va="bottom", fontsize=7)
        for position in moved:
            axis.axvline(position, color="C3", lw=0.9, ls="--")
        axis.set_title(panel.title, fontsize=10, pad=16)
        axis.set(xlabel={"cm-1": "cm⁻¹"}.get(unit, unit), ylabel="density of states (shifted)", yticks=[])
    path = RESULTS / f"{name}.png"
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _draw(axis: Axes, panel: Panel, unit: str) -> None:
    rows = panel.table.to_pylist()
    curves: list[tuple[str, Array, float]] = []
    if panel.pristine is not None:
        curves.append(("host", np.sum(list(panel.pristine.values()), axis=0), rows[0]["frequency_step_thz"]))
    for row in rows:
        density, share = np.array(row["dos"]), row["defects"][0]["concentration"]
        if panel.element:
            parts = {part["element"]: np.array(part["dos"]) for part in row["partial_dos"]}
            density = parts[panel.element] / share
        curves.append((f"{row['defects'][0]['element']} {share:.1%}", density, row["frequency_step_thz"]))
    lift = 0.45 * max(float(density.max()) for _, density, _ in curves)
    last = 0.0
    for place, (label, density, step) in enumerate(curves):
        spectrum = Spectrum.from_bins(density, step)
        x, y = spectrum.frequency_thz / thz_per(unit), spectrum.broadened(sigma_thz=SMOOTHING_THZ).dos
        colour = "k" if label == "host" else plt.cm.viridis(place / len(curves))  # type: ignore[attr-defined]
        axis.plot(x, y + lift * place, color=colour, lw=1.2)
        axis.text(1.0, lift * (place + 0.15), f"{label} ", transform=axis.get_yaxis_transform(), ha="right", fontsize=7)
        last = max(last, float(x[np.flatnonzero(density > 0)[-1]]))
    axis.set_xlim(0, 1.12 * last)
