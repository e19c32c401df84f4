"""Ray Train trains the network that compares: both workers hold the same weights, and a killed one resumes to them."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.responses import made_up_library, made_up_rows

from defectnet.io.ray_session import ray_session
from defectnet.io.tables import write_table
from defectnet.model.artifact import load_artifact
from defectnet.model.comparison.comparer import ComparerSettings
from defectnet.released import released_model
from training.comparison.fit import averaged
from training.comparison.rows import ComparisonRows
from training.comparison.run import train_comparison
from training.comparison.settings import CompareSettings
from training.ray_workers import fit_on_workers
from training.tracking import experiment_id, tracking_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SETTINGS = CompareSettings(
    steps=6,
    batch_size=9,
    learning_rate=5e-3,
    warmup_steps=2,
    checkpoint_steps=2,
    workers=2,
    network=ComparerSettings(width=16, layers=1, heads=2),
)


def trained(
    rows: ComparisonRows, output: Path, *, kill_at: int | None = None
) -> tuple[list[dict[str, Any]], list[int]]:
    """Weights of both ranks at the end of a run, and the steps that MLflow has; rank 1 is killed once after a step."""
    output.mkdir()
    client = tracking_client()
    run_id = client.create_run(experiment_id(client, "test")).info.run_id

    def worker(config: dict[str, Any]) -> None:
        import os
        import signal

        from training.comparison import workers

        report, died = workers.report_progress, output / "died"

        def dying(rank: int, metrics: dict[str, float], save: Any) -> None:
            report(rank, metrics, save)
            if rank == 1 and metrics["step"] == kill_at and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        workers.report_progress = dying
        trainer = workers.compare_worker(config)
        assert trainer.share is not None
        tensors = trainer.network.state_dict() | {f"average.{name}": value for name, value in trainer.average.items()}
        safetensors.torch.save_file(
            {name: value.clone() for name, value in tensors.items()}, output / f"rank-{trainer.share.rank}.safetensors"
        )

    config = {"settings": SETTINGS.model_dump(), "start": None}
    checkpoint = fit_on_workers(worker, config, rows, SETTINGS, output, run_id, counter="step")
    ranks = [safetensors.torch.load_file(output / f"rank-{rank}.safetensors") for rank in (0, 1)]
    kept = averaged(checkpoint, SETTINGS).state_dict()
    assert all(torch.equal(ranks[0][f"average.{name}"], value) for name, value in kept.items())
    if kill_at is not None:
        assert (output / "died").exists()
    return ranks, [metric.step for metric in client.get_metric_history(run_id, "presence_loss")]


def test_two_workers_hold_the_same_weights_and_a_killed_one_resumes_to_them(
    in_training: ComparisonRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with ray_session(dashboard=True, log_to_driver=True):
        (first, second), steps = trained(in_training, tmp_path / "whole")
        assert steps == [2, 4, 6]
        assert first.keys() == second.keys()
        assert all(torch.isfinite(value).all() for value in first.values())
        assert all(torch.equal(first[name], second[name]) for name in first)

        (again, _), steps = trained(in_training, tmp_path / "killed", kill_at=4)
        assert steps == [2, 4, 6]  # none twice
        assert all(torch.equal(first[name], again[name]) for name in first)

        write_table(made_up_rows(), tmp_path / "rows.parquet")
        write_table(made_up_library()._tables[0], tmp_path / "responses.parquet")
        artifact = train_comparison(
            tmp_path / "rows.parquet", tmp_path / "responses.parquet", released_model(), tmp_path / "run", SETTINGS
        )
    network, config = load_artifact(artifact)
    assert config.comparer == SETTINGS.network
    assert network.comparer is not None
    # The same rows, settings and number of workers: the same weights.
    found = network.comparer.state_dict()
    assert all(torch.equal(found[name], first[f"average.{name}"]) for name in found)
    run_id = json.loads((tmp_path / "run" / "run.json").read_text())["mlflow_run_id"]
    history = tracking_client().get_metric_history(run_id, "presence_loss")
    assert [metric.step for metric in history] == [2, 4, 6]
    assert all(math.isfinite(metric.value) for metric in history)
