"""What the benchmarks of fine-tuning share: figures of a model on labelled rows, before and after."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from defectnet.elements import VOCABULARY
from defectnet.model.artifact import load_artifact
from defectnet.model.predictor import Prediction, Predictor
from defectnet.query import Query, iterate_rows
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


def series_rows(model: Path, table: pa.Table, candidates: tuple[str, ...], element: str) -> list[dict[str, Any]]:
    """True and predicted concentration of one element in each row, fractions of all atoms, with the interval."""
    predictor = Predictor.load(model)
    rows = []
    for row in iterate_rows(table.select(["sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind"])):
        query = Query.from_row({**row, "candidates": list(candidates)})
        free = Query.from_row(row)
        listed, unlisted = predictor.predict([query, free])
        rows.append({"id": row["sample_id"], **_of(listed, element), "guess_free": _of(unlisted, element)})
    for made, defects in zip(rows, table["defects"].to_pylist(), strict=True):
        made["x_true"] = round(sum(d["concentration"] for d in defects if d["element"] == element), 5)
    return rows


def _of(prediction: Prediction, element: str) -> dict[str, Any]:
    for verdict in prediction.elements:
        if verdict.element == element:
            figures = (verdict.probability, verdict.concentration, verdict.low, verdict.high)
            names = ("probability", "x", "low", "high")
            others = [v.element for v in prediction.elements if v.present and v.element != element]
            return {
                "present": verdict.present,
                **{name: round(value, 5) for name, value in zip(names, figures, strict=True)},
                "others": others,
            }
    return {"present": False, "probability": 0.0, "x": None, "low": None, "high": None, "others": []}


def series_summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Detection, error, order and coverage over a series; x is the share of all atoms."""
    truth = np.array([row["x_true"] for row in rows])
    found = np.array([row["x"] if row["x"] is not None else 0.0 for row in rows])
    inside = [row["low"] is not None and row["low"] <= row["x_true"] <= row["high"] for row in rows]
    rank = np.corrcoef(truth.argsort().argsort(), found.argsort().argsort())[0, 1] if len(rows) > 2 else np.nan
    return {
        "members": len(rows),
        "detected": sum(row["present"] for row in rows),
        "wrong_elements": sum(bool(row["others"]) for row in rows),
        "mae_x": round(float(np.abs(found - truth).mean()), 5),
        "rank_correlation": round(float(rank), 3),
        "inside_90_interval": sum(inside),
    }


def compare(table: pa.Table, tune_on: list[int], candidates: tuple[str, ...], element: str) -> dict[str, Any]:
    """A series before fine-tuning (all members) and after it (those that were not tuned on)."""
    held = [index for index in range(table.num_rows) if index not in tune_on]
    before = series_rows(released_model(), table, candidates, element)
    with tempfile.TemporaryDirectory() as folder:
        after = series_rows(tuned(table.take(tune_on), folder), table.take(held), candidates, element)
    return {
        "before": {"summary": series_summary(before), "members": before},
        "before_same_members": series_summary([before[index] for index in held]),
        "fine_tuned_on": [before[index]["x_true"] for index in tune_on],
        "after": {"summary": series_summary(after), "members": after},
    }
