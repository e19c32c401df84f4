"""`make demo`: the main job on one machine, from a model artifact to verdicts.

    register ─► promote ─► serve over HTTP ─► ask about the example spectra ─► score a Parquet as a batch ─► pictures

Everything is written under one folder, nothing is left running.
"""

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.markup import escape

from defectnet.errors import DefectNetError
from defectnet.io.tables import PREDICTIONS_SCHEMA, read_spectra, write_table
from defectnet.model.predictor import Prediction
from defectnet.pages.plots import plot_prediction, plot_table_overview
from defectnet.pages.verdict_table import verdict_table
from defectnet.query import Query
from defectnet.released import released_model

EXAMPLES = Path(__file__).resolve().parent
CHAMPION = "models:/defectnet@champion"
# A cold replica imports torch on its first request; on two busy cores that has taken 20 s.
_TIMEOUT_S = 120.0
_ROWS_SHOWN = 6

console = Console()


def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything the demonstration writes; emptied first.")] = Path(
        "runs/demo"
    ),
    model: Annotated[Path | None, typer.Option(help="A model artifact folder. [default: the released one]")] = None,
    examples: Annotated[Path, typer.Option(help="Folder with request.json and batch.parquet.")] = EXAMPLES,
) -> None:
    """Register, promote and serve a model, and score the example spectra."""
    started = time.monotonic()
    output = output.resolve()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    use_registry(output)

    step("Register the model in MLflow and promote it to champion")
    register_and_promote(model or released_model())

    step("Start the service and ask it about the example spectra over HTTP")
    body = json.loads((examples / "request.json").read_text(encoding="utf-8"))
    predictions = predictions_of_service(body)
    console.print(verdict_table(predictions))
    write_table(pa.Table.from_pylist(predictions, schema=PREDICTIONS_SCHEMA), output / "predictions.parquet")

    step("Score a Parquet of spectra as a batch through Ray Data")
    rows = score_batch(examples / "batch.parquet", output / "batch")
    console.print(verdict_table(rows[:_ROWS_SHOWN], title=f"the first {min(_ROWS_SHOWN, len(rows))} of {len(rows)}"))

    step("Draw each spectrum beside its verdict")
    for item, prediction in zip(body["spectra"], predictions, strict=True):
        plot_prediction(Query.from_json(item), Prediction.from_dict(prediction), output / f"{item['id']}.png")
    plot_table_overview(read_spectra(examples / "batch.parquet"), output / "batch.png")

    step(f"Done in {time.monotonic() - started:.0f} s; nothing is left running. Files:")
    for path in (output / "predictions.parquet", output / "batch", *sorted(output.glob("*.png")), output / "mlflow.db"):
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def use_registry(folder: Path) -> None:
    """Keep MLflow's store in `folder`, and third parties from telling of themselves; before any stage is imported."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it reports every table of a new store
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # That a local cluster asks for the token in ~/.ray, as it should.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def register_and_promote(artifact: Path) -> str:
    """Make the artifact a new version of the registered model, and that version the champion."""
    from training.registry import promote, register

    version = register(artifact)
    promote(version)
    console.print(f"defectnet/{version} is the champion", highlight=False)
    return version


def predictions_of_service(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Run the service for as long as one request takes; returns its predictions."""
    from serving.local import running_service
    from serving.settings import ServiceSettings

    with running_service(ServiceSettings(model=CHAMPION, port=0)) as url:
        begun = time.monotonic()
        answer = httpx.post(f"{url}/v1/predict", json=body, timeout=_TIMEOUT_S, trust_env=False)
        answer.raise_for_status()
        milliseconds = 1000 * (time.monotonic() - begun)
        console.print(
            f"POST {url}/v1/predict: {len(body['spectra'])} spectra in {milliseconds:.0f} ms", highlight=False
        )
    predictions: list[dict[str, Any]] = answer.json()["predictions"]
    return predictions


def score_batch(spectra: Path, output: Path) -> list[dict[str, Any]]:
    """Score a Parquet of spectra with the champion; returns the predictions, one for each row."""
    from serving.batch.score import score
    from serving.settings import ScoreSettings

    report = score(spectra, output, settings=ScoreSettings(model=CHAMPION))
    console.print(
        f"{report.rows} rows, {report.errors} with an error, at {report.rows_per_s:.0f} rows/s", highlight=False
    )
    tables = [pq.read_table(path) for path in sorted(output.glob("part-*.parquet"))]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).to_pylist()
    return rows


def step(title: str) -> None:
    """Say what comes next."""
    console.print(f"\n[bold]{escape(title)}[/]", highlight=False, soft_wrap=True)


def run(program: Callable[..., None]) -> None:
    """Run a program of this folder; an error that the project foresees is one sentence, not a traceback."""
    try:
        typer.run(program)
    except DefectNetError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    run(demo)
