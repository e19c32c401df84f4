"""`defectnet train`: fit the network to a spectra table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["train"]


def train(
    # Text, for a Path would make s3:/ of s3://.
    data: Annotated[str, typer.Argument(help="A Parquet file of spectra, or a folder of them; a path or a URI.")],
    config: Annotated[Path | None, typer.Option(help="Settings, such as configs/train.yaml.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for checkpoints, the model and its figures.")] = Path(
        "runs/train"
    ),
    workers: Annotated[
        int | None, typer.Option(help="Ray Train workers; 0 trains in this process, without Ray.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data at most.")] = None,
    responses: Annotated[
        str | None,
        typer.Option(help="Train the network that compares with these responses, a file or a folder.", metavar="PATH"),
    ] = None,
    onto: Annotated[str, typer.Option(help="With --responses: the model that answers where none are known.")] = (
        "released"
    ),
    register: Annotated[bool, typer.Option("--register", help="Register the model when it is done.")] = False,
) -> None:
    """Fit the network to simulated spectra, calibrate it, and evaluate it on hosts it never saw.

    The same command goes on where a killed one stopped. The run is recorded in MLflow (MLFLOW_TRACKING_URI, by default
    sqlite:///runs/mlflow.db).

    Example: defectnet train runs/spectra --config configs/train.yaml --output runs/first
    Example: defectnet train data --responses data/responses --config configs/compare.yaml --output runs/compare
    """
    from defectnet.errors import InputError
    from defectnet.models import MODEL_NAME, ModelReference
    from training.comparison.run import train_comparison
    from training.comparison.settings import CompareSettings
    from training.loop import train as run
    from training.registry import register as register_artifact
    from training.settings import TrainSettings

    if responses is None:
        artifact = run(data, output, TrainSettings.from_yaml(config, workers=workers, epochs=epochs))
    elif epochs is not None:
        raise InputError("does not go with --responses", fix="set steps in --config", field="--epochs")
    else:
        base = ModelReference.parse(onto).existing_folder()
        artifact = train_comparison(data, responses, base, output, CompareSettings.from_yaml(config, workers=workers))
    console = Console()
    console.print(f"model: {artifact}", highlight=False, soft_wrap=True)
    if register:
        console.print(f"registered as {MODEL_NAME}/{register_artifact(artifact)}", highlight=False)
