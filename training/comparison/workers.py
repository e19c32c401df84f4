"""The network that compares, trained by Ray Train's workers, each on its share of every batch."""

from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch

from defectnet.model.comparison.comparer import Comparer
from training.comparison.fit import ComparerTrainer, Share, averaged, run_steps
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings
from training.ray_workers import fit_on_workers, go_on, in_step, let_through, report_progress

__all__ = ["compare_worker", "fit_comparer_on_workers"]


def fit_comparer_on_workers(
    rows: ComparisonRows, settings: CompareSettings, output: Path, run_id: str, *, start: Comparer | None = None
) -> Comparer:
    """Train on the training rows by Ray workers; a run that was killed goes on from its last checkpoint.

    Args:
        output: for the checkpoints, an absolute path that every node reaches.
        run_id: the MLflow run that the first worker's figures go to.
        start: weights to begin with.

    Raises:
        StorageError: the cluster has no room for the rows.
        DefectNetError: the cluster was lost.
    """
    config = {"settings": settings.model_dump(), "start": None if start is None else start.state_dict()}
    checkpoint = fit_on_workers(_worker, config, rows, settings, output, run_id, counter="step")
    return averaged(checkpoint, settings)


def _worker(config: dict[str, Any]) -> None:
    compare_worker(config)


def compare_worker(config: dict[str, Any]) -> ComparerTrainer:
    """What each Ray Train worker runs; returns where it stands at the end."""
    let_through(run_steps.__module__)
    settings = CompareSettings(**config["settings"])
    torch.set_num_threads(settings.threads_per_worker)
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    start = None
    if config["start"] is not None:
        start = Comparer(settings.network)
        start.load_state_dict(config["start"])
    trainer = ComparerTrainer(
        ray.get(config["data"]),
        settings,
        start=start,
        share=share,
        device=ray.train.torch.get_device() if settings.use_gpu else "cpu",
    )
    go_on(trainer.load)

    def report(trainer: ComparerTrainer, metrics: dict[str, float]) -> None:
        report_progress(share.rank, metrics, trainer.save)

    run_steps(trainer, wrap=lambda network: in_step(network, share.world), report=report)
    return trainer
