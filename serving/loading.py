"""One model made ready to answer: fetched, its sums checked, loaded and warmed up."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from defectnet.errors import ArtifactError
from defectnet.model.precision import Precision
from defectnet.model.predictor import BATCH_SIZE, Predictor
from defectnet.models import ModelVersion
from defectnet.responses import PACKAGED
from serving.models_source import ModelSource, weights_sha256
from serving.settings import ServiceSettings, device_of

__all__ = ["LoadedModel", "load_model", "loader"]


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to answer."""

    predictor: Predictor
    version: ModelVersion
    weights_sha256: str
    loaded_at: datetime
    metrics: Mapping[str, float] = field(default_factory=dict)


def loader(settings: ServiceSettings) -> Callable[[ModelSource, ModelVersion], LoadedModel]:
    """`load_model` as the settings have it; each model goes on from what the one before it knows of the hosts."""
    hosts = settings.hosts
    former: Predictor | None = None

    def load(source: ModelSource, version: ModelVersion) -> LoadedModel:
        nonlocal former
        loaded = load_model(
            source,
            version,
            device=device_of(settings.gpus_per_replica, settings.device),
            precision=settings.precision,
            batch_size=settings.max_batch_size,
            responses=hosts.library,
            given_hosts=hosts.given,
            former=former,
        )
        former = loaded.predictor
        return loaded

    return load


def load_model(
    source: ModelSource,
    version: ModelVersion,
    *,
    device: str = "cpu",
    precision: Precision = "float32",
    batch_size: int = BATCH_SIZE,
    responses: str | None = PACKAGED,
    given_hosts: str | None = None,
    former: Predictor | None = None,
) -> LoadedModel:
    """Fetch, verify, load and warm up one version; its files are not kept.

    Args:
        source: where it comes from.
        version: which one.
        device, precision, batch_size: as in `Predictor`.
        responses, given_hosts: the hosts whose responses it knows (`defectnet.responses.known_hosts`).
        former: a model that knows the same hosts, which it takes over.

    Raises:
        SettingsError: there is no such device.
        TableError: `responses` is no response library.
        ArtifactError: the files are incomplete or altered, or the model cannot answer.
        RegistryError: the files cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="defectnet-model-") as folder:
        try:
            path = source.fetch(version, Path(folder))
            predictor = Predictor.load(
                path,
                name=version.name,
                version=version.version,
                device=device,
                precision=precision,
                batch_size=batch_size,
                responses=responses,
                given_hosts=given_hosts,
            )
            digest = weights_sha256(path)
        except ArtifactError as error:  # it names the copy, which means nothing to the reader
            text = re.sub(rf"{re.escape(folder)}[^\s:;]*", f"version {version.version} of {version.name}", str(error))
            raise ArtifactError(text) from error
    if former is not None:
        predictor.take_over(former)
    try:
        predictor.warm_up()
    except Exception as error:  # whatever it is, a model that cannot answer must not be swapped in
        raise ArtifactError(
            f"version {version.version} of {version.name} fails on a plain spectrum ({error})"
        ) from error
    return LoadedModel(predictor, version, digest, datetime.now(UTC), source.metrics(version))
