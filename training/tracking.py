"""Where runs and models are recorded: one MLflow store, by default a sqlite file beside the runs.

The store is named by MLFLOW_TRACKING_URI, a server's address or `sqlite:///path`; the artifacts of a sqlite store lie
in a folder beside it.
"""

import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from defectnet.errors import RegistryError, SettingsError
from defectnet.models import first_line, sqlite_file, tracking_uri
from defectnet.settings import Settings

__all__ = ["experiment_id", "git_revision", "log_metrics", "open_run", "tracking_client"]

_RUN = "run.json"


def tracking_client(uri: str | None = None) -> MlflowClient:
    """A client of the store at `uri`, by default `defectnet.models.tracking_uri()`; its model registry is the same.

    Raises:
        RegistryError: the URI is of a kind that MLflow cannot use.
    """
    uri = tracking_uri(uri)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # four small files need no bar
    database = sqlite_file(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        raise RegistryError(f"cannot use the MLflow store {uri}: {first_line(error)}") from None


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment `name`, made if need be."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = sqlite_file(str(client.tracking_uri))
    # Without this, MLflow would put a sqlite store's artifacts into ./mlruns of whoever runs first.
    location = None if database is None else (database.parent / "artifacts").as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException:
        found = client.get_experiment_by_name(name)  # another process was faster
        if found is None:
            raise
        return str(found.experiment_id)


def open_run(
    output: Path, settings: Settings, dataset_sha256: str, config_sha256: str, *, experiment: str
) -> tuple[MlflowClient, str]:
    """The MLflow run of an output folder, made on the first call and found again, in its `run.json`, on the next.

    Raises:
        SettingsError: the folder holds a run of other data or other settings.
        RegistryError: the store cannot be used.
    """
    client = tracking_client()
    identity = {"dataset_sha256": dataset_sha256, "config_sha256": config_sha256}
    record = output / _RUN
    if record.exists():
        known = json.loads(record.read_text(encoding="utf-8"))
        if {key: known.get(key) for key in identity} != identity:
            raise SettingsError(f"{output} holds a run of other data or settings; give another --output or remove it")
        return client, str(known["mlflow_run_id"])
    tags = {**identity, "git_revision": git_revision()}
    run = client.create_run(experiment_id(client, experiment), run_name=output.name, tags=tags)
    for name, value in _flat(settings.model_dump()).items():
        client.log_param(run.info.run_id, name, value)
    record.write_text(json.dumps({**identity, "mlflow_run_id": run.info.run_id}, indent=2) + "\n", encoding="utf-8")
    return client, str(run.info.run_id)


def log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float], step: int) -> None:
    """Record figures of one step of a run."""
    now = int(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: str(value)}
    return flat


def git_revision() -> str:
    """The commit of the source tree, with "+" where it was edited; empty outside of a repository."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
