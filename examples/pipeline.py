"""`make pipeline`: the whole chain, small: simulate, train, evaluate, register, promote, serve, score.

It shows that the pieces fit; a model from so few spectra knows next to nothing. The datasets and settings of the
released model are in `configs/`.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer
from demo import console, predictions_of_service, register_and_promote, run, score_batch, step, use_registry
from rich.markdown import Markdown

from defectnet.io.tables import PREDICTIONS_SCHEMA, read_spectra, write_table
from defectnet.pages.verdict_table import verdict_table
from defectnet.query import iterate_rows
from defectnet.spectrum import bin_centres_thz

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
# Asked of the service; the rest is scored as a batch.
_ASKED = 4


def pipeline(
    output: Annotated[
        Path, typer.Option(help="Folder for everything the pipeline writes; a run there is continued.")
    ] = Path("runs/pipeline"),
    samples: Annotated[
        int | None, typer.Option(help="Spectra of each packaged parent. [default: simulate.yaml's]")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training spectra.")] = 8,
    workers: Annotated[int, typer.Option(help="Simulating and training processes.")] = 2,
) -> None:
    """Simulate spectra from the packaged parents, train on them, and put the model to work."""
    started = time.monotonic()
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    use_registry(output)

    from training.evaluate import evaluate, markdown, write_report
    from training.loop import train
    from training.settings import TrainSettings

    spectra = output / "spectra"

    step("Simulate doped crystals from the parents in the package")
    _simulate(spectra, samples, workers)

    step("Train, with two Ray Train workers and MLflow")
    artifact = train(
        spectra, output / "train", TrainSettings.from_yaml(CONFIGS / "train.yaml", epochs=epochs, workers=workers)
    )
    console.print(f"artifact: {artifact}", highlight=False, soft_wrap=True)

    step("Evaluate on hosts that were not trained on")
    table = read_spectra(spectra)
    figures = evaluate(artifact, table)
    write_report(figures, output)
    console.print(Markdown(markdown(figures)))

    step("Register the model in MLflow and promote it to champion")
    register_and_promote(artifact)

    step(f"Serve it and ask about {_ASKED} of the spectra over HTTP")
    body = request_body(table.filter(table["error"].is_null()).slice(0, _ASKED))
    predictions = predictions_of_service(body)
    console.print(verdict_table(predictions))
    (output / "request.json").write_text(json.dumps(body) + "\n", encoding="utf-8")
    write_table(pa.Table.from_pylist(predictions, schema=PREDICTIONS_SCHEMA), output / "predictions.parquet")

    step("Score all of them as a batch through Ray Data")
    score_batch(spectra, output / "batch")

    step(f"Done in {time.monotonic() - started:.0f} s; nothing is left running. Everything is in {output}")


def _simulate(spectra: Path, samples: int | None, workers: int) -> None:
    from datagen.pipeline import simulate
    from datagen.settings import SimulateSettings
    from defectnet.io.ray_session import ray_session

    settings = SimulateSettings.from_yaml(
        CONFIGS / "simulate.yaml", output=str(spectra), samples_per_parent=samples, workers=workers
    )
    with ray_session(workers):
        report = simulate(settings)
    console.print(
        f"{report.samples} spectra of {report.parents} parents in {report.seconds:.0f} s, "
        f"{report.skipped} were there already, {report.failed} failed",
        highlight=False,
    )


def request_body(table: pa.Table) -> dict[str, Any]:
    """The body of `POST /v1/predict` that asks about every row of a spectra table."""
    return {"spectra": [_request_item(row) for row in iterate_rows(table)]}


def _request_item(row: dict[str, Any]) -> dict[str, Any]:
    frequency = bin_centres_thz(row["dos"].size, row["frequency_step_thz"]).tolist()
    reference = row["reference_dos"]
    return {
        "id": row["sample_id"],
        "host": row["host"],
        "unit": "THz",
        "frequency": frequency,
        "dos": np.round(row["dos"], 6).tolist(),
        "reference": None if reference is None else {"frequency": frequency, "dos": np.round(reference, 6).tolist()},
    }


if __name__ == "__main__":
    run(pipeline)
