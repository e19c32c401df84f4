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

__all__ = ["DEFAULT_TRACKING_URI", "experiment_id", "git_revision", "tracking_client", "tracking_uri"]

DEFAULT_TRACKING_URI = "sqlite:///runs/mlflow.db"
_SQLITE = "sqlite:///"


def tracking_uri() -> str:
    """The store's URI, with a sqlite path made absolute: Ray's workers do not share the driver's directory."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip() or DEFAULT_TRACKING_URI
    if uri.startswith(_SQLITE):
        return _SQLITE + str(_sqlite_path(uri))
    return uri


def tracking_client(uri: str | None = None) -> MlflowClient:
    """A client of the store; its model registry is the same store.

    Raises:
        RegistryError: the URI is of a kind that MLflow cannot use.
    """
    uri = uri or tracking_uri()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # four small files need no bar
    if uri.startswith(_SQLITE):
        _sqlite_path(uri).parent.mkdir(parents=True, exist_ok=True)
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except MlflowException as error:
        raise RegistryError(f"cannot use the MLflow store {uri}: {_first_line(error)}") from None


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment `name`, made if need be."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    uri = str(client.tracking_uri)
    # Without this, MLflow would put a sqlite store's artifacts into ./mlruns of whoever runs first.
    location = (_sqlite_path(uri).parent / "artifacts").as_uri() if uri.startswith(_SQLITE) else None
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


def _sqlite_path(uri: str) -> Path:
    return Path(uri.removeprefix(_SQLITE)).expanduser().resolve()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
