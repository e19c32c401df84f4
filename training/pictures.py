"""The pictures of an evaluation, drawn from a model and labelled rows."""

from pathlib import Path

import numpy as np

from defectnet.elements import VOCABULARY
from defectnet.model.artifact import ModelConfig
from defectnet.model.explain import attention_map
from defectnet.model.network import DefectNetwork
from training.candidates import everything
from training.dataset import SpectraArrays
from training.evaluate import judge_modes, network_asker
from training.evaluation_plots import (
    plot_attention,
    plot_confusion,
    plot_f1_by_concentration,
    plot_parity,
    plot_periodic_table,
    plot_reliability,
)

__all__ = ["draw_evaluation"]

# Concentration that an example is chosen to be near, fraction: strong enough to be seen in print.
_EXAMPLE_CONCENTRATION = 0.05


def draw_evaluation(network: DefectNetwork, config: ModelConfig, rows: SpectraArrays, folder: str | Path) -> list[Path]:
    """Draw the six pictures of `rows` into `folder`; returns their paths. Without any reference nothing is drawn."""
    folder = Path(folder)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    modes = {
        name.replace("_", " "): judged
        for name, judged in judge_modes(network_asker(network), rows, known, config.calibration).items()
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
    looked = attention_map(network.eval(), row.inputs(everything(row.host, known) | (row.truth > 0)))[0].numpy()
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
