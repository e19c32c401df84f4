"""Following the alias, without Ray and without threads: each look is a call."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.random_models import Registry, random_artifact, tamper

from defectnet.errors import ArtifactError, InputError, RegistryError
from defectnet.models import ModelReference, ModelVersion
from serving.hot_swap import RETRY_REFUSED_AFTER_S, HotSwap, load_model
from serving.models_source import FolderSource, RegistrySource, open_source


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class ScriptedSource:
    """Versions are folders by name; `wanted` may be an exception."""

    folders: dict[str, Path]
    wanted: str | Exception
    previous: str | None = None
    fetched: list[str] = field(default_factory=list)

    def current(self) -> ModelVersion:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return ModelVersion("defectnet", self.wanted, str(self.folders[self.wanted]))

    def fallback(self) -> ModelVersion | None:
        return self.previous and ModelVersion("defectnet", self.previous, str(self.folders[self.previous]))

    def fetch(self, version: ModelVersion, folder: Path) -> Path:
        self.fetched.append(version.version)
        return FolderSource(version.location).fetch(version, folder)

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        return {"f1": 0.5}


@pytest.fixture
def source(tmp_path: Path) -> ScriptedSource:
    folders = {str(seed): random_artifact(tmp_path / str(seed), seed) for seed in (1, 2)}
    folders["broken"] = tamper(random_artifact(tmp_path / "broken", 3))
    return ScriptedSource(folders, "1")


def test_a_new_version_is_swapped_in_whole(source: ScriptedSource):
    swap = HotSwap(source, 1.0)
    before = swap.current
    assert not swap.check()
    source.wanted = "2"
    assert swap.check()
    assert swap.current.version.version == swap.current.predictor.version == "2"
    assert swap.current.weights_sha256 != before.weights_sha256
    assert swap.problem is None


def test_a_broken_version_leaves_the_old_one_and_says_so(source: ScriptedSource, caplog: pytest.LogCaptureFixture):
    clock = Clock()
    swap = HotSwap(source, 1.0, clock=clock)
    source.wanted = "broken"
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            assert not swap.check()
    assert swap.current.version.version == "1"
    assert swap.problem == "version broken is broken or altered and was refused; version 1 goes on serving"
    assert source.fetched.count("broken") == 1, "a refused version is not fetched at every look"
    assert len(caplog.records) == 1, "and is told of once"
    clock.now += RETRY_REFUSED_AFTER_S
    random_artifact(source.folders["broken"], 3)  # repaired in place
    assert swap.check()
    assert swap.problem is None


def test_back_to_a_good_version_clears_the_problem(source: ScriptedSource):
    swap = HotSwap(source, 1.0)
    source.wanted = "broken"
    swap.check()
    source.wanted = "1"
    assert not swap.check()
    assert swap.problem is None


def test_a_registry_that_is_down_does_not_stop_serving(source: ScriptedSource):
    swap = HotSwap(source, 1.0)
    source.wanted = RegistryError("secret host does not answer")
    assert not swap.check()
    assert swap.problem == "the model registry does not answer; version 1 goes on serving"
    source.wanted = "2"
    assert swap.check()


def test_a_process_that_starts_after_a_bad_promotion_serves_the_previous_version(source: ScriptedSource):
    source.wanted, source.previous = "broken", "1"
    swap = HotSwap(source, 1.0)
    assert swap.current.version.version == "1"
    assert "version broken cannot be loaded" in (swap.problem or "")
    assert not swap.check()


def test_without_a_previous_version_it_does_not_start(source: ScriptedSource):
    source.wanted = "broken"
    with pytest.raises(ArtifactError) as caught:
        HotSwap(source, 1.0)
    assert "version broken of defectnet" in str(caught.value)
    assert "/tmp" not in str(caught.value)


def test_follows_by_itself(source: ScriptedSource):
    swap = HotSwap(source, 0.01)
    swap.start()
    try:
        source.wanted = "2"
        for _ in range(1000):
            if swap.current.version.version == "2":
                break
            time.sleep(0.01)
        assert swap.current.version.version == "2"
    finally:
        swap.stop()
        swap._thread.join(timeout=10)


def test_folder_source_sees_a_new_model_in_the_folder(tmp_path: Path):
    source = FolderSource(random_artifact(tmp_path / "model", 1))
    first = source.current()
    random_artifact(tmp_path / "model", 2)
    assert source.current() != first
    assert load_model(source, source.current()).version.version.startswith("sha-")


def test_no_folder(tmp_path: Path):
    with pytest.raises(InputError, match="check the path"):
        open_source(str(tmp_path / "nothing")).current()
    with pytest.raises(ArtifactError, match="not a model artifact"):
        open_source(str(tmp_path)).current()


@pytest.mark.parametrize("reference", ["models:/", "models:/a", "models:/a@", "models:/a/b/c", "models:/a@b@c"])
def test_what_is_no_reference(reference: str):
    with pytest.raises(InputError, match="models:/NAME@ALIAS"):
        open_source(reference)


def test_no_registry_is_said_and_none_is_made(tmp_path: Path):
    database = tmp_path / "none.db"
    with pytest.raises(RegistryError, match="defectnet promote"):
        open_source("models:/defectnet@champion", f"sqlite:///{database}")
    assert not database.exists()


@pytest.mark.slow
def test_registry_source(registry: Registry, artifact: Path, tmp_path: Path):
    source = RegistrySource(ModelReference(alias="champion"), registry.uri)
    with pytest.raises(RegistryError, match="champion"):
        source.current()
    first = registry.register(artifact, "champion")
    current = source.current()
    assert (current.name, current.version) == ("defectnet", first)
    assert current.run_id
    assert source.fallback() is None
    assert load_model(source, current).predictor.version == first

    broken = registry.register(tamper(random_artifact(tmp_path / "broken", 5)), "champion")
    registry.promote(first, "previous")
    swap = HotSwap(source, 1.0)
    assert (swap.current.version.version, source.current().version) == (first, broken)
    assert RegistrySource(ModelReference(version=first), registry.uri).current().version == first
