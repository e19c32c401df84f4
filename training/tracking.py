"""Where runs and models are recorded: one MLflow store, by default a sqlite file beside the runs.

The store is named by MLFLOW_TRACKING_URI, a server's address or `sqlite:///path`; the artifacts of a sqlite store lie
in a folder beside it.
"""

import os
import subprocess
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from defectnet.errors import RegistryError
from defectnet.models import first_line, sqlite_file, tracking_uri

__all__ = ["experiment_id", "git_revision", "tracking_client"]


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


def git_revision() -> str:
    """The commit of the source tree, with "+" where it was edited; empty outside of a repository."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
