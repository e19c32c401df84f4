"""`defectnet finetune`: adapt a model to a few labelled measurements of one's own instrument."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["finetune"]


def finetune(
    base: Annotated[
        str, typer.Argument(help="The model to start from: released, an artifact folder, or models:/NAME@ALIAS.")
    ],
    data: Annotated[list[Path], typer.Argument(help="A CSV of labels (see below) or Parquet tables with defects.")],
    output: Annotated[Path, typer.Option(help="Folder for the new model and finetune.json.")] = Path("runs/finetune"),
    config: Annotated[Path | None, typer.Option(help="Settings of fine-tuning, a YAML file.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the measurements at most.")] = None,
    benchmark: Annotated[
        Path | None, typer.Option(help="Labelled spectra of the base's own kind, to measure what was forgotten.")
    ] = None,
    responses: Annotated[
        str,
        typer.Option(help="Library in which hosts are looked up: packaged, a file, a folder, or none."),
    ] = "packaged",
    register: Annotated[bool, typer.Option(help="Register the result with the alias `challenger`.")] = True,
) -> None:
    """Fine-tune a model on 5 to 50 labelled spectra; how long is decided by leaving each of them out in turn.

    A CSV of labels has the columns file, host, dopants and, where needed, reference, unit and kind, one spectrum a
    line: `si95ge05.csv,Si,Ge=5%,si.csv,meV,neutron`. The result is registered as a challenger with its lineage;
    `defectnet promote VERSION` promotes it.

    Of hosts in the response library, samples with a reference also tell the dopants' responses. They are written to
    OUTPUT/responses.parquet, and used by `--responses packaged,OUTPUT/responses.parquet`; other hosts' answers stay.

    Example: defectnet finetune released labels.csv --benchmark data --output runs/mine
    """
    import pyarrow as pa

    from defectnet.io.tables import read_spectra
    from defectnet.models import CHALLENGER, MODEL_NAME, ModelReference
    from defectnet.readers import is_parquet
    from defectnet.readers.labels import read_labels
    from training.dataset import dataset_sha256
    from training.finetune import FinetuneSettings
    from training.finetune import finetune as run
    from training.registry import fetch, register_challenger

    tables = [read_spectra(path) if path.is_dir() or is_parquet(path) else read_labels(path) for path in data]
    settings = FinetuneSettings.from_yaml(config, epochs=epochs)
    spectra = None if benchmark is None else read_spectra(benchmark)
    with tempfile.TemporaryDirectory() as folder:
        start, version = fetch(ModelReference.parse(base, field="base"), folder)
        done = run(start, pa.concat_tables(tables), output, settings, benchmark=spectra, responses=responses)
    console = Console()
    if done.epochs == 0:
        console.print("the measurements left out were answered best by the base itself: it is kept", highlight=False)
    before, after = done.held_out_loss[0], done.held_out_loss[done.epochs]
    console.print(f"loss on measurements left out: {before:.3f} before, {after:.3f} after", highlight=False)
    for mode, f1 in (done.forgetting or {}).items():
        console.print(f"benchmark, {mode}: F1 {f1['base']} before, {f1['finetuned']} after", highlight=False)
    console.print(f"model: {done.artifact}", highlight=False, soft_wrap=True)
    for one in done.learned:
        samples = "1 sample" if one.n_samples == 1 else f"{one.n_samples} samples"
        said = f"response of {one.host_id} to {one.guess.element} learned from {samples}"
        console.print(f"{said} ({one.guess.source} was off by {one.correction:.0%})", highlight=False)
    if done.learned:
        said = f"ask with --responses {responses},{output / 'responses.parquet'}"
        console.print(said, highlight=False, soft_wrap=True)
    if register:
        sums = ",".join(dataset_sha256(path)[:16] for path in data)
        tags = {"finetuned_from": f"{MODEL_NAME}/{version}" if version else base, "finetuned_on": sums}
        number = register_challenger(done.artifact, tags)
        console.print(f"registered as {MODEL_NAME}/{number}, alias {CHALLENGER}", highlight=False)
