"""The model registry: versions of this project's model, and where its aliases move.

A version is an artifact folder logged as plain files under a run's path "model"; no pickle and no code goes with it.
The alias `champion` is what the service loads; promoting another version keeps the former one as `previous`. Names and
aliases are declared in `defectnet.models`.
"""

import getpass
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from mlflow import MlflowClient, artifacts
from mlflow.exceptions import MlflowException

from defectnet.errors import RegistryError
from defectnet.model.artifact import load_artifact, verify_sums
from defectnet.models import (
    CHALLENGER,
    CHAMPION,
    MODEL_NAME,
    PREVIOUS,
    PROMOTION_TAG,
    ModelReference,
    find_version,
    first_line,
    is_missing,
    registry_errors,
)
from training.tracking import experiment_id, tracking_client

__all__ = [
    "ARTIFACT_PATH",
    "champion",
    "fetch",
    "promote",
    "register",
    "register_challenger",
    "register_run",
    "rollback",
    "tag",
    "version_of",
]

logger = logging.getLogger(__name__)

ARTIFACT_PATH = "model"
# Runs that only carry an artifact made elsewhere.
_IMPORTS_EXPERIMENT = "defectnet-imports"


def register(folder: str | Path, tags: Mapping[str, str] | None = None, *, client: MlflowClient | None = None) -> str:
    """Log an artifact folder in a run of its own and register it; returns the new version.

    Raises:
        ArtifactError: the folder is incomplete, altered or of another version.
        RegistryError: the store cannot be reached.
    """
    _, config = load_artifact(folder)  # what cannot be loaded here could not be loaded by the service
    client = client or tracking_client()
    lineage = config.trained_on.model_dump(include={"dataset_sha256", "config_sha256", "git_revision"})
    with _errors(f"cannot log {folder}"):
        run = client.create_run(experiment_id(client, _IMPORTS_EXPERIMENT), run_name=f"import {Path(folder).name}")
        client.log_artifacts(run.info.run_id, str(folder), ARTIFACT_PATH)
        client.set_terminated(run.info.run_id)
    return register_run(str(run.info.run_id), {**lineage, **(tags or {})}, client=client)


def register_run(run_id: str, tags: Mapping[str, str] | None = None, *, client: MlflowClient | None = None) -> str:
    """Register the artifact that a run logged under "model"; returns the new version.

    Raises:
        RegistryError: the store cannot be reached.
    """
    client = client or tracking_client()
    with _errors(f"cannot register run {run_id}"):
        try:
            client.create_registered_model(MODEL_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"runs:/{run_id}/{ARTIFACT_PATH}"
        return str(client.create_model_version(MODEL_NAME, source, run_id=run_id, tags=dict(tags or {})).version)


def register_challenger(folder: str | Path, tags: Mapping[str, str], *, client: MlflowClient | None = None) -> str:
    """Register an artifact folder under the alias `challenger`; returns its version.

    Raises:
        ArtifactError: the folder is incomplete, altered or of another version.
        RegistryError: the store cannot be reached.
    """
    client = client or tracking_client()
    version = register(folder, tags, client=client)
    _set_alias(client, CHALLENGER, version)
    return version


def promote(version: str, *, client: MlflowClient | None = None) -> None:
    """Make `version` the champion; the champion of before becomes `previous`.

    Raises:
        RegistryError: there is no such version, or the store cannot be reached.
    """
    client = client or tracking_client()
    version_of(ModelReference(version=version), client=client)
    former = champion(client=client)
    if former == version:
        logger.info("version %s is the champion already", version)
        return
    _set_alias(client, CHAMPION, version)
    if former is not None:
        _set_alias(client, PREVIOUS, former)
    _record(client, version, former)


def champion(*, client: MlflowClient | None = None) -> str | None:
    """The champion's version, or None where nothing was promoted yet."""
    return _version_behind(client or tracking_client(), CHAMPION)


def rollback(*, client: MlflowClient | None = None) -> str:
    """Make the previous champion the champion again, and the present one `previous`; returns the version.

    Raises:
        RegistryError: nothing was promoted before the present champion.
    """
    client = client or tracking_client()
    version = _version_behind(client, PREVIOUS)
    if version is None:
        raise RegistryError("there is no previous champion to go back to; promote a version by its number")
    promote(version, client=client)
    return version


def tag(version: str, tags: Mapping[str, str], *, client: MlflowClient | None = None) -> None:
    """Write tags of a version; empty values are left out."""
    client = client or tracking_client()
    wanted = ModelReference(version=version).described
    with _errors(f"cannot tag {wanted}", wanted=wanted):
        for key, value in tags.items():
            if value:
                client.set_model_version_tag(MODEL_NAME, version, key, value)


def version_of(reference: ModelReference, *, client: MlflowClient | None = None) -> str:
    """The number of the version that a registered reference names now.

    Raises:
        RegistryError: there is none, or the store cannot be reached.
    """
    client = client or tracking_client()
    with _errors(f"cannot resolve {reference}", wanted=reference.described):
        return find_version(client, reference).version


def fetch(
    model: str | Path | ModelReference, destination: str | Path, *, client: MlflowClient | None = None
) -> tuple[Path, str]:
    """The artifact folder of a model in any form that `defectnet.models` reads.

    Args:
        model: which one.
        destination: a folder for the files of a registered one.
        client: of the registry.

    Returns:
        The folder (of a registered model inside `destination`, its sums verified), and the version; the version of a
        folder is empty.

    Raises:
        InputError: it names neither a folder that exists nor a registered model.
        RegistryError: no such model, alias or version, or the store cannot be reached.
        ArtifactError: what arrived does not match its sums.
    """
    reference = model if isinstance(model, ModelReference) else ModelReference.parse(model)
    if not reference.registered:
        return reference.existing_folder(), ""
    client = client or tracking_client()
    target = Path(destination)
    target.mkdir(parents=True, exist_ok=True)
    with _errors(f"cannot fetch {reference}", wanted=reference.described):
        found = find_version(client, reference)
        path = artifacts.download_artifacts(
            artifact_uri=found.location, dst_path=str(target), tracking_uri=str(client.tracking_uri)
        )
    verify_sums(path)
    return Path(path), found.version


def _set_alias(client: MlflowClient, alias: str, version: str) -> None:
    """The one place where an alias moves."""
    with _errors(f"cannot move the alias {alias} to version {version}"):
        client.set_registered_model_alias(MODEL_NAME, alias, version)


def _record(client: MlflowClient, version: str, former: str | None) -> None:
    """Keep who promoted what and when; the alias has moved by now, so that a failure here only warns."""
    at = datetime.now(UTC)
    try:
        by = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        by = "unknown"
    kept = {"version": version, "former": former, "by": by, "at": at.isoformat(timespec="seconds")}
    try:
        client.set_registered_model_tag(MODEL_NAME, f"{PROMOTION_TAG}{at:%Y%m%dT%H%M%S.%f}", json.dumps(kept))
    except MlflowException as error:
        logger.warning("the promotion of version %s is not kept in the registry (%s)", version, first_line(error))


def _version_behind(client: MlflowClient, alias: str) -> str | None:
    """The version behind an alias; MLflow answers an unset one with an error."""
    with _errors(f"cannot read the alias {alias}"):
        try:
            return str(client.get_model_version_by_alias(MODEL_NAME, alias).version)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise


def _errors(what: str, *, wanted: str = "") -> AbstractContextManager[None]:
    return registry_errors(what, (MlflowException,), wanted=wanted)
