"""A training run of the comparison: rows and responses in, a model that compares out; MLflow beside it.

    output/run.json                     what the run is of: hashes of data and settings, its MLflow run
    output/comparer-state.safetensors   the latest checkpoint, where this process trains
    output/checkpoints/                 the latest two, where Ray Train's workers do
    output/comparison.json              the figures on the test hosts, by regime
    output/model/                       the artifact: the base model with the network that compares

The same call goes on where a killed one stopped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from defectnet.errors import SettingsError, TableError
from defectnet.io.tables import read_spectra
from defectnet.model.artifact import load_artifact, read_card, save_artifact
from defectnet.model.network import DefectNetwork
from defectnet.responses import response_library
from training.comparison.evaluate import calibrate_comparison, evaluate_comparison
from training.comparison.fit import fit_comparer
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings
from training.comparison.workers import fit_comparer_on_workers
from training.dataset import dataset_sha256
from training.registry import ARTIFACT_PATH
from training.tracking import log_metrics, open_run

__all__ = ["comparison_card", "comparison_table", "train_comparison"]

_FIGURES = ("f1", "r2", "mae_pct", "coverage_90", "recall_at_5")
_TITLES = ("F1", "R²", "MAE (% abs.)", "coverage of 90 %", "recall@5")
_COMPARER = "comparer."
_MARK = "## By comparison with computed responses"
_CARD = """{mark}
A host that is in the response library, with its pristine spectrum, is answered by comparing the measured change with
computed responses. On hosts that were not trained on, dopants of at least 0.5 % of all atoms, an element counting as
found from a probability of one half up; *control* is the same model given the pristine spectrum as sample:

{table}
Regimes: hard lists have one response of one source for each candidate, end members or a potential; in the others
candidates have springs, or better where a distractor has better too. The labels are end members' throughout.
"""


def train_comparison(
    data: str | Path, responses: str | Path, base: str | Path, output: str | Path, settings: CompareSettings
) -> Path:
    """Train the network that compares onto the model at `base`; returns the new artifact's folder.

    Args:
        data: a spectra table, a file or a folder.
        responses: a response library, a file or a folder, or "packaged".
        base: the artifact that answers where there is nothing to compare with.
        output: for the checkpoint, the figures and the artifact.

    Raises:
        SettingsError: `output` holds a run of other data, responses or settings.
        TableError: the rows or the responses cannot be read, or no row has responses.
        ArtifactError: `base` is no artifact.
        StorageError, DefectNetError: the cluster has no room for the rows, or was lost.
    """
    output = Path(output).resolve()
    library = response_library(responses)
    if library is None:
        raise TableError("there is no response library", fix="name one", field="responses")
    network, config = load_artifact(base)
    output.mkdir(parents=True, exist_ok=True)
    client, run_id = open_run(
        output, settings, dataset_sha256(data), settings.sha256(responses), experiment=settings.experiment
    )
    rows = ComparisonRows.from_table(read_spectra(data), library)
    start = network.comparer if settings.go_on else None
    if settings.go_on and (start is None or config.comparer != settings.network):
        raise SettingsError("go_on: the base model does not compare, or with another network; set go_on: false")
    former = {} if start is None else {name: value.clone() for name, value in start.state_dict().items()}
    if settings.workers:
        comparer = fit_comparer_on_workers(rows, settings, output, run_id, start=start)
    else:
        comparer = fit_comparer(
            rows,
            settings,
            output,
            report=lambda metrics: log_metrics(client, run_id, metrics, int(metrics["step"])),
            start=start,
        )
    if start is not None and settings.former_share:
        comparer.load_state_dict(_between(comparer.state_dict(), former, settings.former_share))
    calibration = calibrate_comparison(comparer, rows, Mismatch(settings.mismatch))
    figures = evaluate_comparison(comparer, calibration, rows)
    (output / "comparison.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    whole = DefectNetwork(config.network, config.grid, settings.network)
    # The base model may have one too, of another size.
    kept = {name: value for name, value in network.state_dict().items() if not name.startswith(_COMPARER)}
    whole.load_state_dict(kept | {_COMPARER + name: value for name, value in comparer.state_dict().items()})
    config = config.model_copy(update={"comparer": settings.network, "comparison": calibration})
    artifact = output / "model"
    save_artifact(artifact, network=whole, config=config, card=comparison_card(read_card(base), figures))
    client.log_artifacts(run_id, str(artifact), ARTIFACT_PATH)
    client.set_terminated(run_id)
    return artifact


def _between(weights: Mapping[str, Tensor], others: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """The weighted mean of two networks' weights, with this share of the `others`."""
    return {
        name: torch.lerp(value, others[name].to(value), share) if value.is_floating_point() else value
        for name, value in weights.items()
    }


def comparison_card(card: str, figures: Mapping[str, Any]) -> str:
    """A base model's card with the figures of the comparison at its end, in place of former ones."""
    before = card.partition(_MARK)[0].rstrip()
    return f"{before}\n\n" + _CARD.format(mark=_MARK, table=comparison_table(figures))


def comparison_table(figures: Mapping[str, Any]) -> str:
    """The figures of `evaluate_comparison` as a Markdown table."""
    lines = [
        "| regime | hosts | spectra | " + " | ".join(_TITLES) + " | first of single ones ≥ 2 % | ECE | control F1 |",
        "|---|" + "---|" * (len(_TITLES) + 5),
    ]
    for name, one in figures.items():
        cells = [_cell(one["headline"][figure]) for figure in _FIGURES]
        cells += [_cell(one["single_top1"]), _cell(one["ece"]), _cell(one["control"]["headline"]["f1"])]
        words = name.replace("_", " ")
        lines.append(f"| {words} | {one['n_hosts']} | {one['n_spectra']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
