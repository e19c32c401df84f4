"""A picture of a spectrum as it was read from its file, in the file's own unit."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from defectnet.errors import InputError

if TYPE_CHECKING:
    from defectnet.readers import Reading

__all__ = ["plot_reading"]


def plot_reading(reading: "Reading", title: str, path: str | Path) -> None:
    """Draw the density, its errors and the elements' parts, with what was understood below.

    Args:
        reading: the file's spectrum.
        title: the file's name.
        path: where the PNG goes; its folder is made.

    Raises:
        InputError: the picture cannot be written.
    """
    factor = reading.unit.thz
    x, y = reading.spectrum.frequency_thz / factor, reading.spectrum.dos * factor
    figure = Figure(figsize=(8.0, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(x, y, color="#0072B2", linewidth=1.4, label="density")
    if reading.error is not None:
        error = np.nan_to_num(reading.error) * factor
        axes.fill_between(x, y - error, y + error, color="#0072B2", alpha=0.2, linewidth=0, label="standard error")
    for element, part in reading.partial.items():
        axes.plot(x, part * factor, linewidth=0.9, label=element)
    axes.set(xlabel=f"{reading.unit.name}", ylabel=f"density (1/{reading.unit.name})", xlim=(min(0.0, x[0]), x[-1]))
    axes.set_title(title, loc="left")
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(frameon=False)
    figure.text(0.01, -0.01, "\n".join([reading.summary, *reading.notes]), va="top", fontsize=7, wrap=True)
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=150, bbox_inches="tight")
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror})", fix="check the path", field="--png") from None
