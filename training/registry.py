"""The model registry: versions of "defectnet", and the aliases by which the others find them.

A version is an artifact folder logged as plain files under a run's path "model"; no pickle and no code goes with it.
`champion` is what the service loads; promoting another keeps the former one as `previous`.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from defectnet.errors import RegistryError
from defectnet.model.artifact import load_artifact, verify_sums
from training.tracking import experiment_id, tracking_client

__all__ = [
    "CHAMPION",
    "MODEL_NAME",
    "PREVIOUS",
    "champion",
    "promote",
    "register",
    "register_run",
    "resolve",
    "rollback",
    "tag",
]

logger = logging.getLogger(__name__)

MODEL_NAME = "defectnet"
CHAMPION, PREVIOUS = "champion", "previous"
ARTIFACT_PATH = "model"
# Runs that only carry an artifact made elsewhere.
_IMPORTS_EXPERIMENT = "defectnet-imports"
_T = TypeVar("_T")


def register(folder: str | Path, tags: Mapping[str, str] | None = None, *, client: MlflowClient | None = None) -> str:
    """Log an artifact folder in a run of its own and register it; returns the new version.

    Raises:
        ArtifactError: the folder is incomplete, altered or of another version.
        RegistryError: the store cannot be reached.
    """
    _, config = load_artifact(folder)  # what cannot be loaded here could not be loaded by the service
    client = client or tracking_client()
    lineage = config.trained_on.model_dump(include={"dataset_sha256", "config_sha256", "git_revision"})

    def log() -> str:
        run = client.create_run(experiment_id(client, _IMPORTS_EXPERIMENT), run_name=f"import {Path(folder).name}")
        client.log_artifacts(run.info.run_id, str(folder), ARTIFACT_PATH)
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    return register_run(_asked(log), {**lineage, **(tags or {})}, client=client)


def register_run(run_id: str, tags: Mapping[str, str] | None = None, *, client: MlflowClient | None = None) -> str:
    """Register the artifact that a run logged under "model"; returns the new version."""
    client = client or tracking_client()

    def create() -> str:
        try:
            client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"runs:/{run_id}/{ARTIFACT_PATH}"
        return str(client.create_model_version(MODEL_NAME, source, run_id=run_id, tags=dict(tags or {})).version)

    return _asked(create)


def promote(version: str, *, client: MlflowClient | None = None) -> None:
    """Make `version` the champion; the champion of before becomes `previous`.

    Raises:
        RegistryError: there is no such version, or the store cannot be reached.
    """
    client = client or tracking_client()
    _asked(lambda: client.get_model_version(MODEL_NAME, version), what=f"version {version}")
    former = _version_of(client, CHAMPION)
    if former == version:
        logger.info("version %s is the champion already", version)
        return
    _asked(lambda: client.set_registered_model_alias(MODEL_NAME, CHAMPION, version))
    if former is not None:
        _asked(lambda: client.set_registered_model_alias(MODEL_NAME, PREVIOUS, former))


def champion(*, client: MlflowClient | None = None) -> str | None:
    """The champion's version, or None where nothing was promoted yet."""
    return _version_of(client or tracking_client(), CHAMPION)


def tag(version: str, tags: Mapping[str, str], *, client: MlflowClient | None = None) -> None:
    """Write tags of a version; empty values are left out."""
    client = client or tracking_client()
    for key, value in tags.items():
        if value:
            _asked(partial(client.set_model_version_tag, MODEL_NAME, version, key, value), what=f"version {version}")


def rollback(*, client: MlflowClient | None = None) -> str:
    """Make the previous champion the champion again, and the present one `previous`; returns the version.

    Raises:
        RegistryError: nothing was promoted before the present champion.
    """
    client = client or tracking_client()
    version = _version_of(client, PREVIOUS)
    if version is None:
        raise RegistryError("there is no previous champion to go back to; promote a version by its number")
    promote(version, client=client)
    return version


def resolve(name: str, destination: str | Path, *, client: MlflowClient | None = None) -> tuple[Path, str]:
    """Fetch the artifact behind "defectnet@champion" (an alias) or "defectnet/3" (a version) into `destination`.

    Returns:
        The artifact's folder inside `destination`, its sums verified, and the version.

    Raises:
        RegistryError: no such model, alias or version, or the store cannot be reached.
        ArtifactError: what arrived does not match its sums.
    """
    client = client or tracking_client()
    model, at, alias = name.removeprefix("models:/").partition("@")
    if at:
        version = _asked(lambda: client.get_model_version_by_alias(model, alias), what=f"alias {name}").version
    else:
        model, slash, version = model.partition("/")
        if not slash:
            raise RegistryError(f"{name!r} names no version; write {MODEL_NAME}@{CHAMPION} or {MODEL_NAME}/1")
    uri = _asked(lambda: client.get_model_version_download_uri(model, version), what=f"version {name}")
    target = Path(destination)
    target.mkdir(parents=True, exist_ok=True)
    folder = Path(
        _asked(
            lambda: artifacts.download_artifacts(
                artifact_uri=uri, dst_path=str(target), tracking_uri=str(client.tracking_uri)
            )
        )
    )
    verify_sums(folder)
    return folder, str(version)


def _version_of(client: MlflowClient, alias: str) -> str | None:
    """The version behind an alias; MLflow answers an unset one with an error."""
    try:
        return str(client.get_model_version_by_alias(MODEL_NAME, alias).version)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            return None
        raise RegistryError(f"the MLflow store refused: {_reason(error)}") from None


def _asked(call: Callable[[], _T], *, what: str = "") -> _T:
    """Call MLflow, turning whatever it raises into one sentence."""
    try:
        return call()
    except MlflowException as error:
        if what and error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):
            raise RegistryError(f"the registry has no {what}; see `defectnet promote --help`") from None
        raise RegistryError(f"the MLflow store refused: {_reason(error)}") from None
    except OSError as error:
        raise RegistryError(f"the MLflow store cannot be reached: {error}") from None


def _reason(error: Exception) -> Any:
    return (str(error).splitlines() or [type(error).__name__])[0]
