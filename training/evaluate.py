"""Evaluate a model on hosts that it never saw, beside what needs no spectrum, as JSON and as a Markdown table.

Two ways of asking, as in the reference: *candidate* (the true dopants and ten random distractors are listed) and
*guess_free* (every element that was a dopant in training is weighed); each with and without the pristine reference.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.metrics import Judged, score_answers
from defectnet.model.artifact import ModelConfig, load_artifact
from defectnet.model.calibration import Calibration
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork
from training.baselines import BASELINES, Fitter
from training.calibrate import calibrate_answers
from training.candidates import all_candidates, candidate_lists
from training.dataset import SpectraArrays, require_rows
from training.inference import Answerer, Answers, judge, run_network

__all__ = [
    "evaluate",
    "evaluate_network",
    "judge_modes",
    "markdown",
    "network_answerer",
    "score_baseline",
    "score_modes",
    "write_report",
]

_SEED = 20260725  # of the distractors; fixed, so that every model meets the same lists
_SUFFIXES = ("", "_without_reference")
_COLUMNS = ("f1", "mae_pct", "r2", "coverage_90", "recall_at_3", "recall_at_5", "recall_at_10")
_TITLES = ("F1", "MAE (% abs.)", "R²", "coverage of 90 %", "recall@3", "recall@5", "recall@10")


def evaluate(artifact: str | Path, table: pa.Table, split: str = "test") -> dict[str, Any]:
    """Evaluate an artifact folder on the rows of `split` of a labelled spectra table.

    Returns:
        {"model": modes, "model_without_prior": modes, "prior": modes, "constant": modes, "n_spectra", "n_hosts",
        "split"}; modes are "candidate", "guess_free" and the same with "_without_reference", each with the figures of
        `defectnet.metrics.score_answers`.

    Raises:
        ArtifactError, TableError: either cannot be read, or the split is empty.
    """
    network, config = load_artifact(artifact)
    return evaluate_network(network, config, SpectraArrays.from_table(table, config.grid), split)


def evaluate_network(network: DefectNetwork, config: ModelConfig, data: SpectraArrays, split: str) -> dict[str, Any]:
    """`evaluate`, of what is already in memory."""
    rows = require_rows(data, split)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    report: dict[str, Any] = {
        "split": split,
        "n_spectra": len(rows),
        "n_hosts": len(set(rows.formula)),
        "model": score_modes(network_answerer(network), rows, known, config.calibration),
        "model_without_prior": score_modes(
            network_answerer(network, prior=False), rows, known, config.calibration, prior=False
        ),
    }
    if len(data.of_split("train")) and len(data.of_split("validation")):
        for name in ("prior", "constant"):
            report[name] = score_baseline(BASELINES[name], data, rows, known, config.grid)
    return report


def network_answerer(network: DefectNetwork, *, prior: bool = True) -> Answerer:
    """The network as an answerer, with the chemical prior or without."""

    def answer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return run_network(network, data, asked, prior=prior)

    return answer


def score_baseline(
    fitter: Fitter,
    data: SpectraArrays,
    rows: SpectraArrays,
    known: NDArray[np.bool_],
    grid: FrequencyGrid,
    *,
    suffixes: Sequence[str] = _SUFFIXES,
) -> dict[str, dict[str, object]]:
    """Fit a baseline on the training rows of `data`, calibrate it on the validation rows, and score it on `rows`.

    It is fitted anew for spectra without their reference.
    """
    train, validation = data.of_split("train"), data.of_split("validation")
    scores: dict[str, dict[str, object]] = {}
    for suffix in suffixes:
        near, held = (one.without_reference() if suffix else one for one in (train, validation))
        answerer = fitter(near, held, grid)
        # A baseline that is never sure must be free to call present what is hardly likely, or its F1 is always 0.
        mode, _ = calibrate_answers(answerer, held, known, seed=_SEED, threshold_bounds=(0.0, 1.0))
        calibration = Calibration(with_reference=mode, without_reference=mode)
        scores |= score_modes(answerer, rows, known, calibration, suffixes=(suffix,))
    return scores


def markdown(report: Mapping[str, Any]) -> str:
    """The figures as Markdown: one table for all dopants of at least 0.5 %, one by band."""
    lines = [
        f"{report['n_spectra']} spectra of {report['n_hosts']} hosts of the {report['split']} split, by",
        "formula. Dopants of at least 0.5 % of all atoms:",
        "",
        "| mode | model | " + " | ".join(_TITLES) + " | ECE |",
        "|---|---|" + "---|" * (len(_TITLES) + 1),
    ]
    who = [name for name, modes in report.items() if isinstance(modes, Mapping)]
    modes = list(report["model"])
    for mode in modes:
        for name in who:
            if mode not in report[name]:
                continue
            figures = report[name][mode]
            cells = [_cell(figures["headline"][column]) for column in _COLUMNS] + [_cell(figures["ece"])]
            lines.append(f"| {_words(mode)} | {_words(name)} | " + " | ".join(cells) + " |")
    lines += ["", "By true concentration (% of all atoms):", ""]
    lines += ["| mode | band | dopants | " + " | ".join(_TITLES[:4]) + " |", "|---|---|---|" + "---|" * 4]
    for mode in modes:
        for band, figures in report["model"][mode]["bands"].items():
            cells = [_cell(figures[column]) for column in _COLUMNS[:4]]
            lines.append(f"| {_words(mode)} | {band} | {figures['n_dopants']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_report(report: Mapping[str, Any], folder: str | Path) -> tuple[Path, Path]:
    """Write `evaluation.json` and `evaluation.md` into `folder`; returns both paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_text = folder / "evaluation.json", folder / "evaluation.md"
    as_json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    as_text.write_text(markdown(report), encoding="utf-8")
    return as_json, as_text


def score_modes(
    answerer: Answerer,
    rows: SpectraArrays,
    known: NDArray[np.bool_],
    calibration: Calibration,
    *,
    prior: bool = True,
    suffixes: Sequence[str] = _SUFFIXES,
) -> dict[str, dict[str, object]]:
    """The figures of each way of asking: "candidate" and "guess_free", each with the `suffixes`."""
    scores: dict[str, dict[str, object]] = {}
    for suffix in suffixes:
        for name, judged in judge_modes(answerer, rows, known, calibration, suffix, prior=prior).items():
            scores[name + suffix] = score_answers(judged)
    return scores


def judge_modes(
    answerer: Answerer,
    rows: SpectraArrays,
    known: NDArray[np.bool_],
    calibration: Calibration,
    suffix: str = "",
    *,
    prior: bool = True,
) -> dict[str, Judged]:
    """Answers beside the truth, with a candidate list and without, for the rows that have a reference (suffix "") or
    for all of them without theirs; nothing where there is no such row."""
    free = all_candidates(rows.host, known)
    # A true dopant that no training row held still belongs on the list; without one, missing it is a fair miss.
    listed = candidate_lists(rows.truth, rows.host, known, np.random.default_rng(_SEED))
    chosen = np.ones(len(rows), dtype=bool) if suffix else rows.has_reference
    data = rows.without_reference() if suffix else rows.where(chosen)
    mode = calibration.without_reference if suffix else calibration.with_reference
    if not len(data):
        return {}
    return {
        name: judge(answerer(data, asked[chosen]), data.truth, mode, mode.presence(candidates=listed_, prior=prior))
        for name, asked, listed_ in (("candidate", listed, True), ("guess_free", free, False))
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
