import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from support.synthetic import synthetic_table
from typer.testing import CliRunner, Result

from defectnet.cli.evaluate import evaluate
from defectnet.cli.predict import predict
from defectnet.cli.promote import promote
from defectnet.cli.train import train
from defectnet.errors import ArtifactError, InputError, RegistryError, SettingsError, TableError
from defectnet.io.tables import write_table
from training.comparison.settings import CompareSettings

pytestmark = pytest.mark.slow

TINY = """
epochs: 1
batch_size: 32
workers: 0
network: {width: 16, encoder_layers: 1, decoder_layers: 1, stem_channels: 4, patch_bins: 16}
"""


def run(verb: Callable[..., None], *arguments: object) -> Result:
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)


def test_train_evaluate_promote(tmp_path: Path) -> None:
    write_table(synthetic_table(120), tmp_path / "spectra.parquet")
    (tmp_path / "tiny.yaml").write_text(TINY)
    trained = run(train, "spectra.parquet", "--config", "tiny.yaml", "--output", "out", "--register")
    assert trained.exit_code == 0, trained.output
    assert "registered as defectnet/1" in trained.output

    evaluated = run(evaluate, "out/model", "spectra.parquet", "--output", "figures")
    assert evaluated.exit_code == 0, evaluated.output
    assert (tmp_path / "figures" / "evaluation" / "parity.png").stat().st_size > 5_000
    figures = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert figures == json.loads((tmp_path / "out" / "evaluation.json").read_text())

    assert "defectnet/1" in run(promote, "1").output
    again = run(promote, "--artifact", "out/model", "--benchmark", "spectra.parquet")
    assert "defectnet/2" in again.output
    assert "presence F1" in again.output  # the gate's table
    assert "defectnet/1" in run(promote, "--rollback").output


def test_the_first_example_of_promote_works_as_it_stands() -> None:
    """It once named a folder that the project does not have."""
    example = (promote.__doc__ or "").split("Example: defectnet promote ")[1].split()
    assert "champion: defectnet/1" in run(promote, *example).output
    assert "champion: defectnet/1" in run(promote, "models:/defectnet@champion").output


def test_predict_takes_a_model_from_the_registry(repository: Path) -> None:
    run(promote, "--artifact", "released")
    spectrum = (repository / "examples" / "Si.csv", "--host", "Si", "--json")
    (of_registry,), (shipped,) = (
        json.loads(run(predict, *spectrum, "--model", model).output) for model in ("defectnet@champion", "released")
    )
    assert (of_registry["model_version"], shipped["model_version"]) == ("1", "released")
    assert of_registry["elements"] == shipped["elements"]


@pytest.mark.parametrize(
    ("verb", "arguments", "error"),
    [
        (train, ("missing.parquet",), TableError),
        (train, ("missing.parquet", "--config", "missing.yaml"), SettingsError),
        (train, ("missing.parquet", "--workers", "-1"), SettingsError),
        (evaluate, ("nowhere", "missing.parquet"), TableError),
        (evaluate, ("nowhere", "missing.parquet", "--split", "all"), InputError),
        (promote, (), InputError),
        (promote, ("3", "--rollback"), InputError),
        (promote, ("--rollback", "--force", "because"), InputError),
        (promote, ("3", "--force", " "), InputError),
        (promote, ("3",), RegistryError),
        (promote, ("--artifact", "nowhere"), ArtifactError),
        (promote, ("--artifact", "models:/defectnet/3"), InputError),
        (promote, ("nowhere",), InputError),
        (promote, ("other@champion",), InputError),
    ],
)
def test_mistakes_are_the_projects_own_errors(
    verb: Callable[..., None], arguments: tuple[str, ...], error: type[Exception]
) -> None:
    # `defectnet.cli.main` turns these into one sentence and an exit code.
    result = run(verb, *arguments)
    assert isinstance(result.exception, error), result.output
    assert "\n" not in str(result.exception)


def test_the_released_settings_are_readable(repository: Path) -> None:
    from training.settings import TrainSettings

    for name in ("train.yaml", "model.yaml"):
        assert TrainSettings.from_yaml(repository / "configs" / name).workers == 2


def test_workers_go_with_responses_and_epochs_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[CompareSettings] = []

    def trained(data: str, responses: str, base: Path, output: Path, settings: CompareSettings) -> Path:
        asked.append(settings)
        return output / "model"

    monkeypatch.setattr("training.comparison.run.train_comparison", trained)
    (tmp_path / "compare.yaml").write_text("steps: 5\nworkers: 2\n")
    arguments = ("spectra.parquet", "--responses", "responses.parquet", "--config", "compare.yaml")
    assert run(train, *arguments).exit_code == 0
    assert run(train, *arguments, "--workers", "3").exit_code == 0
    assert [(one.workers, one.steps) for one in asked] == [(2, 5), (3, 5)]
    refused = run(train, *arguments, "--epochs", "3")
    assert isinstance(refused.exception, InputError)
    assert "--epochs" in str(refused.exception)
