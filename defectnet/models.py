"""Which model is meant, and where the registry is: names, aliases and addresses, each declared here alone.

A model is named by one text, which every verb and every setting reads alike:

    models:/NAME@ALIAS    an alias of the MLflow registry, which moves; NAME@ALIAS for short
    models:/NAME/VERSION  one version of it, which does not; NAME/VERSION or, of this project's model, VERSION for short
    released              the model that the package ships with
    anything else         an artifact folder; a folder that exists is meant before a short form is

This module knows nothing of MLflow: the stages that have a client of it pass it in.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from defectnet.errors import InputError, RegistryError
from defectnet.released import released_model

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "DEFAULT_MODEL",
    "MODEL_NAME",
    "PREVIOUS",
    "PROMOTION_TAG",
    "RELEASED",
    "ModelReference",
    "ModelVersion",
    "RegistryClient",
    "find_version",
    "first_line",
    "is_missing",
    "registry_errors",
    "sqlite_file",
    "tracking_uri",
]

MODEL_NAME = "defectnet"
# What the service follows; what was it before, which is served while the champion cannot be loaded; what is compared.
CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
# Begins the name of a tag of the registered model; each keeps one promotion (`training.registry`): its time in UTC
# follows, and the value is JSON with `version`, `former`, `by` and `at`.
PROMOTION_TAG = "promotion."
DEFAULT_MODEL = f"models:/{MODEL_NAME}@{CHAMPION}"
RELEASED = "released"

_SCHEME = "models:"
_REGISTERED = re.compile(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
_DEFAULT_TRACKING_URI = "sqlite:///runs/mlflow.db"
_SQLITE = "sqlite:///"
_LONGEST_REASON = 200
# How MLflow says that there is no such model, alias or version.
_MISSING_CODES = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})


@dataclass(frozen=True)
class ModelReference:
    """What a text names: exactly one of `alias`, `version` and `folder` is there.

    Attributes:
        name: the registered model's name; this project's for a folder.
        alias: an alias of it.
        version: the number of one of its versions.
        folder: an artifact folder, which need not exist.
    """

    name: str = MODEL_NAME
    alias: str | None = None
    version: str | None = None
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str | Path, *, field: str = "model") -> "ModelReference":
        """Read a reference in any of the forms above.

        Raises:
            InputError: it is empty, or begins with `models:` and is none of those.
        """
        text = str(text).strip()
        found = _REGISTERED.fullmatch(text)
        if not text or (text.startswith(_SCHEME) and found is None):
            raise InputError(
                f"{text!r} is no model",
                fix=f"write {DEFAULT_MODEL} (models:/NAME@ALIAS), models:/NAME/VERSION or a folder",
                field=field,
            )
        if text == RELEASED:
            return cls(folder=released_model())
        if text.isdecimal():
            return cls(version=text)
        if found is None or (not text.startswith(_SCHEME) and Path(text).is_dir()):
            return cls(folder=Path(text))
        return cls(found["name"], found["alias"], found["version"])

    @property
    def registered(self) -> bool:
        """Whether it is looked up in the registry."""
        return self.folder is None

    def existing_folder(self, *, field: str = "model") -> Path:
        """The artifact folder, where there is one.

        Raises:
            InputError: there is none of that name.
        """
        if self.folder is None or not self.folder.is_dir():
            raise InputError(
                f"{self} is no folder and no models:/NAME@ALIAS", fix="check the path or the spelling", field=field
            )
        return self.folder

    def absolute(self) -> "ModelReference":
        """The same for processes that do not share this one's working folder."""
        return self if self.folder is None else replace(self, folder=self.folder.absolute())

    def at(self, version: str) -> "ModelReference":
        """The same at one version, which does not move; a folder stays what it is."""
        return self if self.folder is not None else ModelReference(self.name, version=version)

    @property
    def described(self) -> str:
        """In words, such as "alias champion of defectnet"."""
        if self.folder is not None:
            return f"folder {self.folder}"
        which = f"alias {self.alias}" if self.alias is not None else f"version {self.version}"
        return f"{which} of {self.name}"

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        return f"{_SCHEME}/{self.name}" + (f"@{self.alias}" if self.alias is not None else f"/{self.version}")


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


class RegistryClient(Protocol):
    """What is needed of `mlflow.MlflowClient` to find a version."""

    def get_model_version(self, name: str, version: str) -> Any:
        """One version."""

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        """The version behind an alias."""

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """Where its files are."""


def find_version(client: RegistryClient, reference: ModelReference) -> ModelVersion:
    """The version that a registered reference names now; raises what the client raises (see `registry_errors`)."""
    if reference.alias is not None:
        found = client.get_model_version_by_alias(reference.name, reference.alias)
    else:
        assert reference.version is not None  # a folder is not looked up
        found = client.get_model_version(reference.name, reference.version)
    location = client.get_model_version_download_uri(reference.name, found.version)
    return ModelVersion(reference.name, str(found.version), location, found.run_id or None)


@contextmanager
def registry_errors(what: str, raised: tuple[type[Exception], ...], *, wanted: str = "") -> Iterator[None]:
    """Turn what a client of the registry raises into one sentence.

    Args:
        what: what cannot be done, such as "cannot fetch version 3 of defectnet".
        raised: the client's own exceptions; a connection or a disk that fails is always among them.
        wanted: what the registry was asked for, such as "version 3 of defectnet", where it may have none.

    Raises:
        RegistryError: in place of any of these.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, (*raised, OSError)):
            raise
        if wanted and is_missing(error):
            raise RegistryError(f"the registry has no {wanted}; see `defectnet promote --help`") from error
        reason = first_line(error)[:_LONGEST_REASON]
        raise RegistryError(f"{what} ({reason}); check the registry and its address") from error


def is_missing(error: BaseException) -> bool:
    """Whether what the registry's client raised says that there is no such model, alias or version."""
    return getattr(error, "error_code", "") in _MISSING_CODES


def first_line(error: BaseException) -> str:
    """What an exception says first; its name where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def tracking_uri(uri: str | None = None) -> str:
    """The registry's address: `uri`, else MLFLOW_TRACKING_URI, else a sqlite file below runs/.

    A sqlite path is made absolute, `~` being the home folder, for Ray's workers do not share the driver's working
    folder; what follows a `?` stays as it is.
    """
    uri = (uri or os.environ.get(_TRACKING_VARIABLE) or "").strip() or _DEFAULT_TRACKING_URI
    file = sqlite_file(uri)
    if file is None:
        return uri
    _, mark, options = uri.partition("?")
    return f"{_SQLITE}{file}{mark}{options}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a `sqlite:///` address, absolute; None for any other, and for one in memory."""
    # sqlite:///relative, sqlite:////absolute.
    path = uri.removeprefix(_SQLITE).partition("?")[0] if uri.startswith(_SQLITE) else ""
    return Path(path).expanduser().absolute() if path and path != ":memory:" else None
