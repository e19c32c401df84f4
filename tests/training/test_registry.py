from pathlib import Path

import pytest

from defectnet.errors import ArtifactError, InputError, RegistryError
from defectnet.model.artifact import ModelConfig, save_artifact
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.model.predictor import Predictor
from defectnet.models import MODEL_NAME, ModelReference
from training import registry
from training.tracking import git_revision, tracking_client

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    config = ModelConfig(network=NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, stem_channels=4))
    network = DefectNetwork(config.network, config.grid)
    save_artifact(tmp_path / "artifact", network=network, config=config, card="# Random weights")
    return tmp_path / "artifact"


def test_register_promote_resolve_and_roll_back(artifact: Path, tmp_path: Path) -> None:
    first, second = registry.register(artifact, {"note": "one"}), registry.register(artifact)
    assert (first, second) == ("1", "2")
    version = tracking_client().get_model_version(MODEL_NAME, first)
    assert version.tags["note"] == "one"
    assert version.source.startswith("runs:/")

    registry.promote(first)
    with pytest.raises(RegistryError, match="no previous champion"):
        registry.rollback()
    registry.promote(second)
    folder, resolved = registry.fetch("defectnet@champion", tmp_path / "fetched")
    assert resolved == second
    Predictor.load(folder, version=resolved).warm_up()
    assert registry.rollback() == first
    assert registry.fetch("models:/defectnet@champion", tmp_path / "fetched")[1] == first
    assert registry.rollback() == second  # back and forth
    assert registry.fetch("defectnet/1", tmp_path / "fetched")[1] == first
    assert not (tmp_path / "mlruns").exists()  # everything lies beside the store


def test_what_does_not_exist_is_one_sentence(artifact: Path, tmp_path: Path) -> None:
    registry.register(artifact)
    for call in (
        lambda: registry.fetch("defectnet@champion", tmp_path / "fetched"),
        lambda: registry.fetch("defectnet/99", tmp_path / "fetched"),
        lambda: registry.fetch("unknown@champion", tmp_path / "fetched"),
        lambda: registry.promote("99"),
    ):
        with pytest.raises(RegistryError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_folder_needs_no_registry(artifact: Path, tmp_path: Path) -> None:
    assert registry.fetch(artifact, tmp_path / "fetched") == (artifact, "")
    with pytest.raises(InputError, match="runs/mine/modle is no folder"):
        registry.fetch("runs/mine/modle", tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_challenger_is_found_by_its_alias(artifact: Path, tmp_path: Path) -> None:
    registry.promote(registry.register(artifact))
    second = registry.register_challenger(artifact, {"finetuned_from": "released"})
    assert registry.version_of(ModelReference.parse("defectnet@challenger")) == second
    assert registry.champion() == "1"


def test_altered_weights_are_refused_on_both_ways(artifact: Path, tmp_path: Path) -> None:
    registry.promote(registry.register(artifact))
    folder, _ = registry.fetch("defectnet@champion", tmp_path / "fetched")
    (stored,) = (path.parent for path in (tmp_path / "artifacts").rglob("weights.safetensors"))
    (stored / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="does not match its sum"):
        registry.fetch("defectnet@champion", tmp_path / "fetched")
    (artifact / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ArtifactError, match="does not match its sum"):
        registry.register(artifact)
    assert folder != stored


def test_git_revision_is_a_commit_or_nothing() -> None:
    assert len(git_revision().rstrip("+")) in (0, 40)
