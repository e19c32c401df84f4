"""Where a model comes from: an alias or a version of the MLflow registry, or a folder.

A source answers two questions, cheaply and often: which version is it now, and where are its files. Files are copied to
a folder of the caller's; nothing of MLflow's own model loaders is used, so nothing pickled can ever be read.
"""

import os
import shutil
from contextlib import AbstractContextManager
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from defectnet.errors import RegistryError
from defectnet.model.artifact import ARTIFACT_FILES, SUMS, WEIGHTS, read_sums, verify_sums
from defectnet.models import (
    MODEL_NAME,
    PREVIOUS,
    ModelReference,
    ModelVersion,
    find_version,
    registry_errors,
    sqlite_file,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["FolderSource", "ModelSource", "RegistrySource", "open_source", "weights_sha256"]


class ModelSource(Protocol):
    """Something that says which model to serve, and fetches it."""

    def current(self) -> ModelVersion:
        """The version to serve now; raises `RegistryError` or `ArtifactError` where there is none."""

    def fallback(self) -> ModelVersion | None:
        """The version to serve where the current one is broken and none is loaded yet."""

    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        """Copy the artifact under `folder` and return where it is, its sums checked; raises as `current` does."""

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """The figures that the model's training recorded; empty where they are not to be had."""


class FolderSource:
    """An artifact folder; a change of its SHA256SUMS is a new version."""

    def __init__(self, folder: str | Path, *, name: str = MODEL_NAME) -> None:
        self._folder = Path(folder).absolute()
        self._name = name

    def current(self) -> ModelVersion:
        folder = ModelReference(folder=self._folder).existing_folder()
        return ModelVersion(self._name, f"sha-{weights_sha256(folder)[:12]}", str(folder))

    def fallback(self) -> None:
        return None

    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        # Checked on a copy: what is loaded is then what was checked, whoever writes to the folder meanwhile.
        copy = folder / "model"
        copy.mkdir(parents=True)
        for name in (*ARTIFACT_FILES, SUMS):
            if (self._folder / name).is_file():
                shutil.copyfile(self._folder / name, copy / name)
        verify_sums(copy)
        return copy

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        return {}  # they stand in the card


class RegistrySource:
    """`models:/NAME@ALIAS` (which moves) or `models:/NAME/VERSION` (which does not)."""

    def __init__(self, reference: ModelReference, uri: str) -> None:
        self._reference, self._uri = reference, uri
        database = sqlite_file(uri)
        if database is not None and not database.exists():  # MLflow would make an empty one
            raise RegistryError(
                f"there is no model registry at {database}; run `defectnet promote` first, or set MLFLOW_TRACKING_URI"
            )

    def __reduce__(self) -> tuple[object, ...]:  # a client holds locks and connections; each process makes its own
        return (RegistrySource, (self._reference, self._uri))

    @cached_property
    def _client(self) -> "MlflowClient":
        from mlflow import MlflowClient  # 2 s to import: only for those who use a registry

        return MlflowClient(self._uri, self._uri)

    def current(self) -> ModelVersion:
        return self._look_up(self._reference)

    def fallback(self) -> ModelVersion | None:
        if self._reference.alias is None:
            return None
        try:
            return self._look_up(ModelReference(self._reference.name, alias=PREVIOUS))
        except RegistryError:
            return None

    def _look_up(self, reference: ModelReference) -> ModelVersion:
        with _registry_errors(f"cannot resolve {reference}", wanted=reference.described):
            return find_version(self._client, reference)

    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        from mlflow.artifacts import download_artifacts

        # A progress bar for four small files, in the log of a service, at each promotion.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        folder.mkdir(parents=True, exist_ok=True)
        with _registry_errors(f"cannot fetch version {version.version} of {version.name}"):
            path = download_artifacts(
                artifact_uri=version.location, dst_path=str(folder / "model"), tracking_uri=self._uri
            )
        verify_sums(path)
        return Path(path)

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        if version.run_id is None:
            return {}
        try:
            with _registry_errors(f"cannot read the run of version {version.version}"):
                recorded = self._client.get_run(version.run_id).data.metrics
        except RegistryError:
            return {}  # a model is as good without them
        return {name: float(value) for name, value in recorded.items() if isfinite(value)}


def open_source(model: str | ModelReference, uri: str | None = None) -> ModelSource:
    """The source that `model` names (see `defectnet.models`), in the registry at `uri` where it is a registered one.

    Raises:
        RegistryError: the registry does not exist.
        InputError: `model` is no reference.
    """
    reference = model if isinstance(model, ModelReference) else ModelReference.parse(model)
    if reference.folder is not None:
        return FolderSource(reference.folder)
    return RegistrySource(reference, tracking_uri(uri))


def weights_sha256(folder: str | Path) -> str:
    """The sum of the weights, as SHA256SUMS has it; raises `ArtifactError` where it does not."""
    return read_sums(folder)[WEIGHTS]


def _registry_errors(what: str, *, wanted: str = "") -> AbstractContextManager[None]:
    from mlflow.exceptions import MlflowException

    return registry_errors(what, (MlflowException,), wanted=wanted)
