"""Ray Train around a training loop: workers, their checkpoints and failures, and their figures in MLflow.

A loop is a function that every worker runs. It finds what it needs in its `config`, goes on from the last checkpoint by
`go_on`, wraps its network by `in_step`, so that all workers take the same steps, and says by `report_progress` where it
stands.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from mlflow import MlflowClient
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.execution import context as train_context
from torch import nn

from defectnet.errors import StorageError
from defectnet.io.cluster import cluster_failure
from defectnet.io.ray_session import ray_session
from defectnet.models import tracking_uri
from training.settings import WorkerSettings
from training.tracking import log_metrics, tracking_client

__all__ = ["fit_on_workers", "go_on", "in_step", "let_through", "report_progress"]

_CHECKPOINTS = "checkpoints"


def fit_on_workers(
    worker: Callable[[dict[str, Any]], None],
    config: Mapping[str, Any],
    data: object,
    settings: WorkerSettings,
    output: Path,
    run_id: str,
    *,
    counter: str,
) -> Path:
    """Train on Ray workers; returns the folder of the last checkpoint.

    A run of the same output goes on from its last checkpoint: Ray Train finds it in `output`/checkpoints.

    Args:
        worker: the loop; it is given `config`, and under "data" a reference to `data`.
        data: one copy in the object store serves every worker of a node.
        output: an absolute path that every node reaches.
        run_id: the MLflow run that the first worker's figures go to.
        counter: the figure that counts, such as "epoch": each value of it is recorded once.

    Raises:
        StorageError: the cluster has no room for the data.
        DefectNetError: the cluster was lost.
    """
    # With the dashboard: without its state API, Ray Train warns every second that it cannot watch the controller.
    with ray_session(dashboard=True, log_to_driver=True), _as_error():
        trainer = TorchTrainer(
            worker,
            train_loop_config={**config, "data": ray.put(data)},
            scaling_config=ray.train.ScalingConfig(
                num_workers=settings.workers,
                use_gpu=settings.use_gpu,
                resources_per_worker={"CPU": settings.cpus_per_worker} | ({"GPU": 1} if settings.use_gpu else {}),
            ),
            run_config=ray.train.RunConfig(  # type: ignore[call-arg]  # typed for Train V1
                name=_CHECKPOINTS,
                storage_path=str(output),
                failure_config=ray.train.FailureConfig(max_failures=settings.max_failures),
                checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
                logging_config=ray.train.LoggingConfig(log_level="WARNING"),
                callbacks=[_MlflowCallback(tracking_uri(), run_id, counter)],  # type: ignore[list-item]  # typed for V1
            ),
        )
        result = trainer.fit()
        assert result.checkpoint is not None  # a loop reports at its end at the latest
        return Path(result.checkpoint.path)


def go_on(load: Callable[[Path], None]) -> None:
    """In a worker: load the run's last checkpoint, where there is one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            load(Path(folder))


def in_step(network: nn.Module, world: int) -> nn.Module:
    """In a worker: the network, wrapped so that all workers step by the mean of their gradients."""
    # Buffers are constants, or brought together by the loop; sending them before every step would only cost time.
    kwargs = {"forward_sync_buffers": False}
    return ray.train.torch.prepare_model(network, parallel_strategy_kwargs=kwargs if world > 1 else None)


def report_progress(rank: int, metrics: dict[str, float], save: Callable[[Path], None]) -> None:
    """In every worker: report figures, and of the first one the checkpoint that `save` writes."""
    if rank:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def let_through(module: str) -> None:
    """In a worker: let the lines of the module of this name through to the driver, and hold back what repeats them."""
    logger = logging.getLogger(module)
    # Ray Train 2.60 says every worker's metrics again, through a logger that bears the path of the file.
    logging.getLogger(train_context.__file__).setLevel(logging.WARNING)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


@contextmanager
def _as_error() -> Iterator[None]:
    """Turn what Ray raises (a full store, a lost cluster) into one sentence."""
    try:
        yield
    except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError):
        raise StorageError(
            "the spectra do not fit into the cluster's object store and the disk that it spills to; end what fills "
            "them, or give Ray a larger --object-store-memory, and run again"
        ) from None
    except ray.exceptions.RayError as error:
        raise cluster_failure("training", error, "checkpoints are kept: run again to go on") from error


class _MlflowCallback(ray.train.UserCallback):
    """Logs the first worker's metrics. It runs in the controller, so one run outlives the deaths of its workers."""

    def __init__(self, uri: str, run_id: str, counter: str) -> None:
        self.uri, self.run_id, self.counter = uri, run_id, counter
        self._client: MlflowClient | None = None
        self._logged = 0  # what an earlier, killed call logged after its last checkpoint

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        if self._client is None:
            self._client = tracking_client(self.uri)
            history = self._client.get_metric_history(self.run_id, self.counter)
            self._logged = max((metric.step for metric in history), default=0)
        if metrics[0][self.counter] > self._logged:
            log_metrics(self._client, self.run_id, metrics[0], int(metrics[0][self.counter]))
