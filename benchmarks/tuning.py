"""What the benchmarks of fine-tuning share: figures of a model on labelled rows, before and after."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from defectnet.elements import VOCABULARY
from defectnet.model.artifact import load_artifact
from defectnet.released import released_model
from training.dataset import SpectraArrays
from training.evaluate import network_answerer, score_modes
from training.finetune import FinetuneSettings, finetune

SETTINGS = FinetuneSettings()


def scores(model: Path, table: pa.Table) -> dict[str, dict[str, Any]]:
    """Headline figures (dopants of at least 0.5 %) with a candidate list and without, all with the reference."""
    network, config = load_artifact(model)
    rows = SpectraArrays.from_table(table, config.grid)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    found = score_modes(network_answerer(network), rows, known, config.calibration)
    return {mode: _short(found[mode]) for mode in ("candidate", "guess_free")}


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    headline = figures["headline"]
    return {key: headline[key] for key in ("n_dopants", "f1", "mae_pct", "coverage_90", "recall_at_5")}


def tuned(table: pa.Table, folder: str) -> Path:
    """The released model fine-tuned on the rows of a table; the base itself where cross-validation says so."""
    return finetune(released_model(), table, Path(folder), SETTINGS).artifact
