"""The gate: a worse model is refused with a table, a forced one says why, and what is as good passes.

How models answer is made up here, good or bad by the first word of their cards: training one would take minutes.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.synthetic import synthetic_table

from defectnet.io.tables import write_table
from defectnet.metrics import Judged
from defectnet.model.artifact import ModelConfig, read_card, save_artifact
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.models import MODEL_NAME
from training import promotion, registry
from training.dataset import SpectraArrays, rows_of_split
from training.promotion import compare, markdown, promote
from training.tracking import tracking_client

pytestmark = pytest.mark.slow

TABLE = synthetic_table(240)
GRID = FrequencyGrid(n_bins=64)


def answered(rows: SpectraArrays, *, error: float) -> Judged:
    """Answers whose concentrations are off by the factor `error` or its inverse, and which miss a dopant as often."""
    rng = np.random.default_rng(0)
    truth = rows.truth.astype(np.float64)
    found = np.where(truth > 0, truth * np.exp(error * rng.choice([-1, 1], truth.shape)), 0.004)
    present = (truth > 0) & (rng.random(truth.shape) > error / 2)
    return Judged(
        asked=rows.host <= 0,
        truth=truth,
        probability=np.where(present, 0.9, 0.1),
        present=present,
        concentration=found,
        low=found * 0.9,
        high=found * 1.1,
    )


@pytest.fixture(autouse=True)
def benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def judged(model: promotion._Model, table: pa.Table) -> tuple[SpectraArrays, Judged]:
        rows = SpectraArrays.from_table(rows_of_split(table, "test"), GRID)
        return rows, answered(rows, error=0.05 if read_card(model.folder).startswith("good") else 0.5)

    monkeypatch.setattr(promotion, "_judged", judged)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_table(TABLE, tmp_path / "benchmark.parquet")
    return tmp_path / "benchmark.parquet"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    config = ModelConfig(grid=GRID, network=NetworkSettings(width=16, encoder_layers=1, decoder_layers=1))
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    for name in ("good", "bad"):
        save_artifact(folder / name, network=DefectNetwork(config.network, GRID), config=config, card=name)
    return {name: folder / name for name in ("good", "bad")}


def tags(version: str) -> dict[str, str]:
    return dict(tracking_client().get_model_version(MODEL_NAME, version).tags)


def test_refused_forced_rolled_back(artifacts: dict[str, Path], benchmark: Path) -> None:
    good, bad = registry.register(artifacts["good"]), registry.register(artifacts["bad"])
    assert promote(good, benchmark).promoted  # the first has no champion to beat
    refused = promote(bad, benchmark)
    assert not refused.promoted
    assert registry.champion() == good
    assert "**worse**" in markdown(refused)
    assert tags(bad)["gate"] == "refused"
    assert "guessed f1 total" in tags(bad)["gate_failed"]

    assert promote(bad, benchmark, force="to see the alarm go off").promoted
    assert registry.champion() == bad
    assert tags(bad)["gate_reason"] == "to see the alarm go off"
    assert registry.rollback() == good
    assert registry.champion() == good


def test_a_better_one_and_an_equal_one_pass(artifacts: dict[str, Path], benchmark: Path) -> None:
    bad, good = registry.register(artifacts["bad"]), registry.register(artifacts["good"])
    again = registry.register(artifacts["good"])
    for version in (bad, good, again):
        assert promote(version, benchmark).promoted
        assert registry.champion() == version
    assert tags(good)["gate"] == "passed"
    assert float(tags(good)["gate_guessed_f1_total"]) > 0.3
    assert len(tags(good)["gate_benchmark_sha256"]) == 64


def test_the_same_model_gains_and_loses_nothing(artifacts: dict[str, Path]) -> None:
    checks = compare(artifacts["good"], artifacts["good"], TABLE)
    assert {check.way for check in checks} == {"guessed"}
    assert {check.figure for check in checks} == {"f1", "mae_pct", "coverage_90"}
    assert {check.scope for check in checks} == {"total", "at 2 % and above", "below 2 %"}
    assert all(check.gain == 0.0 and check.noise == (0.0, 0.0) and check.passed for check in checks)


def test_noise_is_about_hosts(artifacts: dict[str, Path]) -> None:
    (check,) = (
        c for c in compare(artifacts["good"], artifacts["bad"], TABLE) if (c.figure, c.scope) == ("f1", "total")
    )
    assert check.gain > 0
    assert check.noise[0] < check.gain < check.noise[1]
    assert np.ptp(check.noise) > 0.01
