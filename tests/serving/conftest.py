"""What the tests of serving share: a model, a registry, and spectra to ask about."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.local_api import Client, LocalBackend
from support.random_models import NAME, Registry, random_artifact

from defectnet.io.tables import SPECTRA_SCHEMA
from serving.settings import ServiceSettings


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model's folder, not to be changed."""
    return random_artifact(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backend(artifact: Path) -> LocalBackend:
    """A model in this process, behind the HTTP interface."""
    return LocalBackend(artifact)


@pytest.fixture
def client(backend: LocalBackend) -> Iterator[Client]:
    """A client of the HTTP interface, with limits that are easy to reach."""
    yield Client(ServiceSettings(max_spectra=4, max_points=500, max_body_bytes=64_000), backend)
    backend.fault, backend.delay_s, backend.challenger = None, 0.0, None


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """An empty registry; its artifacts lie beside it."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri, uri)
    experiment_id = client.create_experiment("test", artifact_location=str(folder / "artifacts"))
    client.create_registered_model(NAME)
    return Registry(uri, client, experiment_id)


@pytest.fixture
def spectrum() -> Callable[..., dict[str, Any]]:
    """Makes the JSON of a good spectrum, with some keys replaced or (None) left out."""

    def make(**changes: Any) -> dict[str, Any]:
        axis = np.linspace(0.1, 15.0, 120)
        item = {
            "id": "sample",
            "host": "Si",
            "unit": "THz",
            "frequency": axis.tolist(),
            "dos": (np.abs(np.sin(axis)) + 0.1).tolist(),
            "candidates": ["Ge"],
        }
        return {key: value for key, value in (item | changes).items() if value is not None}

    return make


@pytest.fixture
def spectra_table() -> Callable[..., pa.Table]:
    """Makes a spectra table of `n` rows whose ids begin with `prefix`; `bad` rows have a host that is no formula."""

    def make(n: int, *, prefix: str = "s", bad: tuple[int, ...] = ()) -> pa.Table:
        random = np.random.default_rng(7)
        rows = [
            {
                "sample_id": f"{prefix}{index}",
                "host": "no formula" if index in bad else "Si",
                "frequency_step_thz": 0.1,
                "dos": (random.random(150) + 0.1).astype(np.float32),
                "candidates": ["Ge"],
            }
            for index in range(n)
        ]
        return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)

    return make
