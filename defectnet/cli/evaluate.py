"""`defectnet evaluate`: a model's figures on labelled spectra of hosts it never saw."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[str, typer.Argument(help="An artifact folder, released, or models:/NAME@ALIAS.")],
    # Text, for a Path would make s3:/ of s3://.
    data: Annotated[str, typer.Argument(help="Parquet of labelled spectra, or a folder of it; a path or a URI.")],
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json, evaluation.md and pictures.")] = Path(
        "runs/evaluation"
    ),
    split: Annotated[str, typer.Option(help="Which hosts: test, validation or train.")] = "test",
) -> None:
    """Evaluate a model with and without a candidate list, and with and without the pristine reference.

    Hosts are split by a hash of their formula, so the test hosts of a model are the test hosts of every model.

    Example: defectnet evaluate runs/first/model runs/spectra --output runs/first
    """
    from defectnet.errors import InputError
    from defectnet.io.tables import read_spectra
    from defectnet.model.artifact import load_artifact
    from training.dataset import SPLITS, SpectraArrays
    from training.evaluate import evaluate_network, markdown, write_report
    from training.evaluation_pictures import draw_evaluation
    from training.registry import fetch

    if split not in SPLITS:
        raise InputError(f"{split!r} is no split", fix=f"use {', '.join(SPLITS)}", field="--split")
    table = read_spectra(data)
    with tempfile.TemporaryDirectory() as folder:
        network, config = load_artifact(fetch(model, folder)[0])
    arrays = SpectraArrays.from_table(table, config.grid)
    report = evaluate_network(network, config, arrays, split)
    as_json, _ = write_report(report, output)
    pictures = draw_evaluation(network, config, arrays.of_split(split), output / "evaluation")
    console = Console()
    console.print(Markdown(markdown(report)))
    for path in (as_json, *pictures):
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
