"""Evaluate a model on hosts that it never saw, beside a constant, as JSON and as a Markdown table.

Two ways of asking, as in the reference: *candidate* (the true dopants and ten random distractors are listed) and
*guess_free* (every element that was a dopant in training is weighed); each with and without the pristine reference.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.artifact import ModelConfig, load_artifact
from defectnet.calibration import Calibration
from defectnet.elements import VOCABULARY
from defectnet.metrics import score_answers
from defectnet.network import LOG_CONCENTRATION_BOUNDS, DefectNetwork
from training.calibrate import calibrate_answers
from training.candidates import everything, guesses
from training.dataset import SpectraArrays, require_rows
from training.inference import Answers, Asker, ask, judge

__all__ = ["constant_baseline", "evaluate", "evaluate_network", "markdown", "write_report"]

_SEED = 20260725  # of the distractors; fixed, so that every model meets the same lists
_COLUMNS = ("f1", "mae_pct", "r2", "coverage_90", "recall_at_3", "recall_at_5", "recall_at_10")
_TITLES = ("F1", "MAE (% abs.)", "R²", "coverage of 90 %", "recall@3", "recall@5", "recall@10")


def evaluate(artifact: str | Path, table: pa.Table, split: str = "test") -> dict[str, Any]:
    """Evaluate an artifact folder on the rows of `split` of a labelled spectra table.

    Returns:
        {"model": modes, "constant": modes, "n_spectra", "n_hosts", "split"}; modes are "candidate", "guess_free" and
        the same with "_without_reference", each with the figures of `defectnet.metrics.score_answers`.

    Raises:
        ArtifactError, TableError: either cannot be read, or the split is empty.
    """
    network, config = load_artifact(artifact)
    return evaluate_network(network, config, SpectraArrays.from_table(table, config.grid), split)


def evaluate_network(network: DefectNetwork, config: ModelConfig, data: SpectraArrays, split: str) -> dict[str, Any]:
    """`evaluate`, of what is already in memory."""
    rows = require_rows(data, split)
    known = np.isin(VOCABULARY, config.trained_on.dopants)

    def asker(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return ask(network, data, asked)

    report: dict[str, Any] = {
        "split": split,
        "n_spectra": len(rows),
        "n_hosts": len(set(rows.formula)),
        "model": _score_modes(asker, rows, known, config.calibration),
    }
    train, validation = data.of_split("train"), data.of_split("validation")
    if len(train) and len(validation):
        constant = constant_baseline(train)
        # A baseline that is never sure must be free to call present what is hardly likely, or its F1 is always 0.
        mode, _ = calibrate_answers(constant, validation, known, seed=_SEED, threshold_bounds=(0.0, 1.0))
        calibration = Calibration(with_reference=mode, without_reference=mode)
        report["constant"] = _score_modes(constant, rows, known, calibration)
    return report


def constant_baseline(train: SpectraArrays) -> Asker:
    """What one knows without a spectrum: how often each element was a dopant, and at which median concentration."""
    present = train.truth > 0
    possible = np.maximum((train.host <= 0).sum(axis=0), 1)
    frequency = np.clip(present.sum(axis=0) / possible, 1e-4, 1 - 1e-4)
    log_all = np.log(train.truth[present].astype(np.float64))
    median, spread = np.full(len(VOCABULARY), np.median(log_all)), np.full(len(VOCABULARY), max(log_all.std(), 1e-3))
    for element in np.flatnonzero(present.any(axis=0)):
        median[element] = np.median(np.log(train.truth[present[:, element], element].astype(np.float64)))

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        shape = asked.shape
        return Answers(
            presence_logit=np.where(asked, np.log(frequency / (1 - frequency)), -np.inf),
            log_concentration=np.where(asked, median, LOG_CONCENTRATION_BOUNDS[0]),
            log_spread=np.broadcast_to(np.log(spread), shape),
            pooled=np.zeros((shape[0], 1)),
        )

    return answer


def markdown(report: Mapping[str, Any]) -> str:
    """The figures as Markdown: one table for all dopants of at least 0.5 %, one by band."""
    lines = [
        f"{report['n_spectra']} spectra of {report['n_hosts']} hosts of the {report['split']} split, by",
        "formula. Dopants of at least 0.5 % of all atoms:",
        "",
        "| mode | model | " + " | ".join(_TITLES) + " | ECE |",
        "|---|---|" + "---|" * (len(_TITLES) + 1),
    ]
    who = [name for name in ("model", "constant") if name in report]
    modes = list(report["model"])
    for mode in modes:
        for name in who:
            figures = report[name][mode]
            cells = [_cell(figures["headline"][column]) for column in _COLUMNS] + [_cell(figures["ece"])]
            lines.append(f"| {mode.replace('_', ' ')} | {name} | " + " | ".join(cells) + " |")
    lines += ["", "By true concentration (% of all atoms):", ""]
    lines += ["| mode | band | dopants | " + " | ".join(_TITLES[:4]) + " |", "|---|---|---|" + "---|" * 4]
    for mode in modes:
        for band, figures in report["model"][mode]["bands"].items():
            cells = [_cell(figures[column]) for column in _COLUMNS[:4]]
            lines.append(f"| {mode.replace('_', ' ')} | {band} | {figures['n_dopants']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_report(report: Mapping[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Write `evaluation.json` and `evaluation.md` into `folder`; returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_text = folder / "evaluation.json", folder / "evaluation.md"
    as_json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    as_text.write_text(markdown(report), encoding="utf-8")
    return as_json, as_text


def _score_modes(
    asker: Asker, rows: SpectraArrays, known: NDArray[np.bool_], calibration: Calibration
) -> dict[str, dict[str, object]]:
    free = everything(rows.host, known)
    # A true dopant that no training row held still belongs on the list; without one, missing it is a fair miss.
    listed = guesses(rows.truth, rows.host, known, np.random.default_rng(_SEED))
    scores = {}
    for suffix, data, mode in (
        ("", rows.where(rows.has_reference), calibration.with_reference),
        ("_without_reference", rows.without_reference(), calibration.without_reference),
    ):
        chosen = rows.has_reference if not suffix else np.ones(len(rows), dtype=bool)
        if not len(data):
            continue
        for name, asked, presence in (
            ("candidate", listed[chosen], mode.with_candidates),
            ("guess_free", free[chosen], mode.guess_free),
        ):
            scores[name + suffix] = score_answers(judge(asker(data, asked), data.truth, mode, presence))
    return scores


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
