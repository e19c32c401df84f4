import json
import os
from pathlib import Path

import pytest
from support.synthetic import synthetic_table

from defectnet.errors import SettingsError, TableError
from defectnet.io.tables import write_table
from defectnet.model.artifact import load_artifact
from defectnet.model.network import NetworkSettings
from defectnet.model.predictor import Predictor
from training import registry
from training.loop import train
from training.settings import TrainSettings
from training.tracking import tracking_client

pytestmark = pytest.mark.slow

SETTINGS = TrainSettings(
    network=NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, stem_channels=4, patch_bins=16),
    epochs=2,
    batch_size=32,
    workers=0,
)


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_table(synthetic_table(150), tmp_path / "spectra" / "part-0.parquet")
    return tmp_path / "spectra"


def logged(output: Path) -> tuple[dict[str, str], list[int], set[str]]:
    """Parameters, steps of the validation loss, and artifact paths of the MLflow run of an output folder."""
    run_id = json.loads((output / "run.json").read_text())["mlflow_run_id"]
    client = tracking_client()
    steps = [metric.step for metric in client.get_metric_history(run_id, "validation_loss")]
    files = {file.path for file in client.list_artifacts(run_id, "model")}
    run = client.get_run(run_id)
    assert run.data.tags["dataset_sha256"]
    return run.data.params, steps, files


def test_here_without_ray(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    artifact = train(data, output, SETTINGS)
    network, config = load_artifact(artifact)
    assert config.trained_on.n_spectra > 0
    assert network.ood_whitening.abs().sum() > 0
    assert "What it cannot do" in (artifact / "card.md").read_text()
    assert json.loads((output / "evaluation.json").read_text())["split"] == "test"
    params, steps, files = logged(output)
    assert params["network.width"] == "16"
    assert steps == [1, 2]
    assert files == {"model/weights.safetensors", "model/config.json", "model/card.md", "model/SHA256SUMS"}

    before = (artifact / "weights.safetensors").stat().st_mtime_ns
    assert train(data, output, SETTINGS) == artifact  # finished work is not done again
    assert (artifact / "weights.safetensors").stat().st_mtime_ns == before
    with pytest.raises(SettingsError, match="other data or settings"):
        train(data, output, SETTINGS.model_copy(update={"seed": 1}))


def test_a_stopped_run_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    monkeypatch.setattr("training.loop._finish", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(data, output, SETTINGS)
    assert not (output / "model").exists()
    monkeypatch.undo()
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    try:
        train(data, output, SETTINGS)
        assert logged(output)[1] == [1, 2]  # no epoch was trained twice
    finally:
        del os.environ["MLFLOW_TRACKING_URI"]


def test_a_few_hosts_are_too_few(tmp_path: Path) -> None:
    write_table(synthetic_table(10, n_hosts=1), tmp_path / "one.parquet")
    with pytest.raises(TableError, match="split"):
        train(tmp_path / "one.parquet", tmp_path / "out", SETTINGS)


@pytest.mark.timeout(600)  # a minute alone, but Ray starts slowly beside busy neighbours: 240 s were too few
def test_two_ray_workers_to_a_promoted_model(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    artifact = train(data, output, SETTINGS.model_copy(update={"workers": 2}))
    assert logged(output)[1] == [1, 2]
    registry.promote(registry.register(artifact))
    folder, version = registry.fetch("defectnet@champion", tmp_path / "fetched")
    predictor = Predictor.load(folder, version=version)
    predictions = predictor.predict_table(synthetic_table(3, seed=9))
    assert predictions["error"].to_pylist() == [None] * 3
    assert predictions["model_version"].to_pylist() == ["1"] * 3
