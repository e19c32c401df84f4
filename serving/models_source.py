"""Where a model comes from: an alias or a version of the MLflow registry, or a folder.

A source answers two questions, cheaply and often: which version is it now, and where are its files. Files are copied to
a folder of the caller's; nothing of MLflow's own model loaders is used, so nothing pickled can ever be read.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from defectnet.errors import ArtifactError, RegistryError, SettingsError
from defectnet.model.artifact import ARTIFACT_FILES, verify_sums

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "FolderSource",
    "ModelSource",
    "ModelVersion",
    "RegistrySource",
    "open_source",
    "served_name",
    "weights_sha256",
    "without_alias",
]

DEFAULT_TRACKING_URI = "sqlite:///runs/mlflow.db"
DEFAULT_NAME = "defectnet"
SUMS = "SHA256SUMS"
# What is served when a process starts while the promoted version is broken; `defectnet promote` keeps this alias.
FALLBACK_ALIAS = "previous"

_REFERENCE = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class ModelVersion:
    """One model, exactly.

    Attributes:
        name: the registered model's name.
        version: the registry's version number, or for a folder the start of a hash of its sums.
        location: where its files are.
        run_id: the run that made it, where the registry knows.
    """

    name: str
    version: str
    location: str
    run_id: str | None = None


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

    def __init__(self, folder: str | Path, *, name: str = DEFAULT_NAME) -> None:
        self._folder = Path(folder).absolute()
        self._name = name

    def current(self) -> ModelVersion:
        if not self._folder.is_dir():
            raise SettingsError(
                f"model: {self._folder} is no folder and no models:/NAME@ALIAS; check the path or the spelling"
            )
        return ModelVersion(self._name, f"sha-{weights_sha256(self._folder)[:12]}", str(self._folder))

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

    def __init__(self, reference: str, tracking_uri: str) -> None:
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise SettingsError(
                f"model: {reference!r} is no model; write models:/NAME@ALIAS, models:/NAME/VERSION or a folder"
            )
        self._reference = reference
        self._name, self._alias, self._version = match["name"], match["alias"], match["version"]
        self._uri = tracking_uri
        database = _sqlite_file(tracking_uri)
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
        return self._look_up(self._alias)

    def fallback(self) -> ModelVersion | None:
        if self._alias is None:
            return None
        try:
            return self._look_up(FALLBACK_ALIAS)
        except RegistryError:
            return None

    def _look_up(self, alias: str | None) -> ModelVersion:
        with _as_registry_error(f"cannot resolve {self._reference}"):
            if alias is None:
                found = self._client.get_model_version(self._name, self._version)
            else:
                found = self._client.get_model_version_by_alias(self._name, alias)
            location = self._client.get_model_version_download_uri(self._name, found.version)
        return ModelVersion(self._name, str(found.version), location, found.run_id or None)

    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        from mlflow.artifacts import download_artifacts

        # A progress bar for four small files, in the log of a service, at each promotion.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        folder.mkdir(parents=True, exist_ok=True)
        with _as_registry_error(f"cannot fetch version {version.version} of {version.name}"):
            path = download_artifacts(
                artifact_uri=version.location, dst_path=str(folder / "model"), tracking_uri=self._uri
            )
        verify_sums(path)
        return Path(path)

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        if version.run_id is None:
            return {}
        try:
            with _as_registry_error(f"cannot read the run of version {version.version}"):
                recorded = self._client.get_run(version.run_id).data.metrics
        except RegistryError:
            return {}  # a model is as good without them
        return {name: float(value) for name, value in recorded.items() if isfinite(value)}


def open_source(model: str, tracking_uri: str | None = None) -> ModelSource:
    """The source that `model` names: `models:/…` in a registry, anything else a folder.

    Raises:
        RegistryError: the registry does not exist.
        SettingsError: `model` cannot be read as either.
    """
    if model.startswith("models:"):
        return RegistrySource(model, absolute_tracking_uri(tracking_uri))
    return FolderSource(model)


def served_name(model: str) -> str:
    """The name of the model that a reference leads to; a folder's has the project's."""
    match = _REFERENCE.fullmatch(model)
    return match["name"] if match else DEFAULT_NAME


def without_alias(model: str, version: str) -> str:
    """A reference to one version that does not move; a folder stays what it is."""
    match = _REFERENCE.fullmatch(model)
    return f"models:/{match['name']}/{version}" if match else model


def absolute_tracking_uri(uri: str | None = None) -> str:
    """The registry's address: `uri`, else MLFLOW_TRACKING_URI, else a sqlite file; its path made absolute."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING_URI
    database = _sqlite_file(uri)
    return uri if database is None else f"sqlite:///{database.absolute()}"


def weights_sha256(folder: str | Path) -> str:
    """The sum of the weights, as SHA256SUMS has it; raises `ArtifactError` where it does not."""
    try:
        lines = (Path(folder) / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ArtifactError(f"{folder} is not a model artifact: it has no readable {SUMS}; check the path") from None
    for line in lines:
        digest, _, name = line.partition(" ")
        if name.strip().lstrip("*") == ARTIFACT_FILES[0]:
            return digest
    raise ArtifactError(f"{SUMS} in {folder} does not name {ARTIFACT_FILES[0]}; fetch the artifact again")


def _sqlite_file(uri: str) -> Path | None:
    parts = urlsplit(uri)
    # sqlite:///relative has the path "/relative", sqlite:////absolute has "//absolute".
    return Path(parts.path[1:]) if parts.scheme == "sqlite" and len(parts.path) > 1 else None


@contextmanager
def _as_registry_error(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RegistryError(f"{what} ({reason}); check the registry and the alias") from error
