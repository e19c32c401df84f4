"""A training run from a spectra table to a calibrated artifact: Ray Train around `fit`, MLflow beside it.

    output/run.json          what the run is of: hashes of data and settings, its MLflow run
    output/checkpoints/      one a finished epoch, the latest two kept
    output/model/            the artifact
    output/evaluation.*      its figures on the test hosts
    output/evaluation/       pictures of them

The same call goes on where a killed one stopped, and returns at once when the artifact is there.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from mlflow import MlflowClient

from defectnet.elements import VOCABULARY
from defectnet.io.tables import read_spectra
from defectnet.model.artifact import SUMS, ModelConfig, TrainedOn, save_artifact
from training.calibrate import calibrate
from training.card import write_card
from training.dataset import SpectraArrays, dataset_sha256, require_rows
from training.evaluate import evaluate_network, write_report
from training.evaluation_pictures import draw_evaluation
from training.fit import Trainer, fit
from training.ray_workers import fit_on_workers, go_on, in_step, let_through, report_progress
from training.registry import ARTIFACT_PATH
from training.settings import TrainSettings
from training.tracking import git_revision, log_metrics, open_run

__all__ = ["train"]

logger = logging.getLogger(__name__)

_MODEL, _LOCAL = "model", "local-checkpoint"


def train(data: str | Path, output: str | Path, settings: TrainSettings) -> Path:
    """Train on the spectra at `data` (a Parquet file or a folder of them); returns the artifact folder.

    Raises:
        TableError: the table cannot be read, or a split has no rows.
        SettingsError: `output` holds a run of other data or other settings.
        StorageError: the cluster has no room for the spectra.
        DefectNetError: the cluster was lost.
    """
    output = Path(output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    arrays = SpectraArrays.from_table(read_spectra(data), settings.grid)
    trained_on = _describe(arrays, data, settings)
    client, run_id = open_run(
        output, settings, trained_on.dataset_sha256, trained_on.config_sha256, experiment=settings.experiment
    )
    artifact = output / _MODEL
    if (artifact / SUMS).exists():
        logger.info("%s is finished already", artifact)
        return artifact
    sizes = {split: len(require_rows(arrays, split)) for split in ("train", "validation", "test")}
    logger.info("spectra: %s; %d dopant elements", sizes, len(trained_on.dopants))

    trainer = Trainer(settings, arrays)
    if settings.workers == 0:
        _train_here(trainer, output, client, run_id)
    else:
        trainer.load(_train_with_ray(arrays, output, settings, run_id))
    _finish(trainer, arrays, trained_on, output)
    for file in sorted(output.glob("evaluation*")):
        client.log_artifact(run_id, str(file)) if file.is_file() else client.log_artifacts(run_id, str(file), file.name)
    client.log_artifacts(run_id, str(artifact), ARTIFACT_PATH)
    client.set_terminated(run_id)
    return artifact


def _describe(arrays: SpectraArrays, data: str | Path, settings: TrainSettings) -> TrainedOn:
    rows = require_rows(arrays, "train")
    as_neutrons = settings.neutron_share > 0 and bool((rows.partial_element >= 0).any())
    return TrainedOn(
        dopants=rows.dopants,
        host_elements=rows.host_elements,
        kinds=("vibrational", "neutron") if as_neutrons or rows.neutron.any() else ("vibrational",),
        n_spectra=len(rows),
        n_hosts=len(set(rows.formula)),
        dataset_sha256=dataset_sha256(data),
        config_sha256=settings.sha256,
        git_revision=git_revision(),
    )


def _train_here(trainer: Trainer, output: Path, client: MlflowClient, run_id: str) -> None:
    """Train in this process; one checkpoint is kept."""
    checkpoint = output / _LOCAL
    if (checkpoint / "progress.json").exists():
        trainer.load(checkpoint)
    torch.set_num_threads(trainer.settings.threads_per_worker)

    def report(trainer: Trainer, metrics: dict[str, float]) -> None:
        checkpoint.mkdir(exist_ok=True)
        trainer.save(checkpoint)
        log_metrics(client, run_id, metrics, int(metrics["epoch"]))
        logger.info(_line(trainer, metrics))

    fit(trainer, report=report)


def _train_with_ray(arrays: SpectraArrays, output: Path, settings: TrainSettings, run_id: str) -> Path:
    """Train on Ray workers; returns the folder of the last checkpoint.

    A run of the same name and storage path goes on from its last checkpoint: Ray Train finds it there.
    """
    return fit_on_workers(
        _worker, {"settings": settings.model_dump()}, arrays, settings, output, run_id, counter="epoch"
    )


def _worker(config: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    let_through(__name__)
    settings = TrainSettings(**config["settings"])
    torch.set_num_threads(settings.threads_per_worker)
    context = ray.train.get_context()
    trainer = Trainer(
        settings,
        ray.get(config["data"]),
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        device=ray.train.torch.get_device() if settings.use_gpu else "cpu",
    )
    go_on(trainer.load)

    def report(trainer: Trainer, metrics: dict[str, float]) -> None:
        if trainer.rank == 0:
            logger.info(_line(trainer, metrics))
        report_progress(trainer.rank, metrics, trainer.save)

    fit(trainer, wrap=lambda network: in_step(network, trainer.world), report=report)


def _finish(trainer: Trainer, arrays: SpectraArrays, trained_on: TrainedOn, output: Path) -> None:
    """Calibrate the best weights, evaluate them on the test hosts, and write the artifact."""
    settings, network = trainer.settings, trainer.network
    network.load_state_dict(trainer.best)
    known = np.isin(VOCABULARY, trained_on.dopants)
    calibration = calibrate(network, trainer.train, trainer.validation, known, seed=settings.seed)
    config = ModelConfig(grid=settings.grid, network=settings.network, calibration=calibration, trained_on=trained_on)
    report = evaluate_network(network, config, arrays, "test")
    write_report(report, output)
    draw_evaluation(network, config, require_rows(arrays, "test"), output / "evaluation")
    card = write_card(
        config,
        report,
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        best_epoch=trainer.progress.best_epoch,
        epochs=trainer.progress.epoch,
    )
    save_artifact(output / _MODEL, network=network, config=config, card=card)


def _line(trainer: Trainer, metrics: dict[str, float]) -> str:
    progress, epochs = trainer.progress, trainer.settings.epochs
    left = progress.seconds / progress.epoch * (epochs - progress.epoch)
    best = " (best)" if progress.best_epoch == progress.epoch else ""
    return (
        f"epoch {progress.epoch}/{epochs}: loss {metrics['train_loss']:.3f}, validation "
        f"{metrics['validation_loss']:.3f}{best}, {metrics['samples_per_second']:.0f} spectra/s, "
        f"at most {left / 60:.1f} min left"
    )
