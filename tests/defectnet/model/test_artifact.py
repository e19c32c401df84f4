import json
from pathlib import Path

import pytest
import torch

from defectnet.errors import ArtifactError
from defectnet.model.artifact import ARTIFACT_FILES, ModelConfig, load_artifact, read_card, save_artifact, verify_sums
from defectnet.model.network import DefectNetwork, NetworkSettings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig(network=NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, stem_channels=4))
    torch.manual_seed(1)
    network = DefectNetwork(config.network, config.grid)
    save_artifact(tmp_path / "model", network=network, config=config, card="# A card")
    return tmp_path / "model"


def reseal(folder: Path) -> None:
    """Sum the altered files again, as one who means to deceive would."""
    import hashlib

    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in ARTIFACT_FILES]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_what_was_saved_is_loaded(folder: Path) -> None:
    network, config = load_artifact(folder)
    torch.manual_seed(1)
    same = DefectNetwork(config.network, config.grid)
    for name, value in same.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)
    assert not network.training
    assert read_card(folder) == "# A card\n"


def test_the_folder_holds_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([*ARTIFACT_FILES, "SHA256SUMS"])


@pytest.mark.parametrize("name", ARTIFACT_FILES)
def test_an_altered_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its sum"):
        load_artifact(folder)


@pytest.mark.parametrize("name", [*ARTIFACT_FILES, "SHA256SUMS"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError):
        verify_sums(folder)


def test_another_format_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    reseal(folder)
    with pytest.raises(ArtifactError, match="format 99"):
        load_artifact(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"]["width"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    reseal(folder)
    with pytest.raises(ArtifactError, match="does not fit"):
        load_artifact(folder)


@pytest.mark.parametrize("text", ["", "[]", "not json", '{"format_version": 1, "surprise": 1}'])
def test_a_broken_config_is_one_sentence(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    reseal(folder)
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    assert "\n" not in str(caught.value)
