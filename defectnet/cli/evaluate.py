"""`defectnet evaluate`: a model's figures on labelled spectra of hosts it never saw."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model artifact folder.")],
    data: Annotated[Path, typer.Argument(help="A Parquet file of labelled spectra, or a folder of them.")],
    output: Annotated[Path, typer.Option(help="Folder for evaluation.json and evaluation.md.")] = Path(
        "runs/evaluation"
    ),
    split: Annotated[str, typer.Option(help="Which hosts: test, validation or train.")] = "test",
) -> None:
    """Evaluate a model with and without a candidate list, with and without the pristine reference, beside a constant.

    Hosts are split by a hash of their formula, so the test hosts of a model are the test hosts of every model.

    Example: defectnet evaluate runs/first/model runs/spectra --output runs/first
    """
    from defectnet.errors import InputError
    from defectnet.tables import read_spectra
    from training.dataset import SPLITS
    from training.evaluate import evaluate as run
    from training.evaluate import markdown, write_report

    if split not in SPLITS:
        raise InputError(f"{split!r} is no split", fix=f"use {', '.join(SPLITS)}", field="--split")
    report = run(model, read_spectra(data), split)
    as_json, _ = write_report(report, output)
    console = Console()
    console.print(Markdown(markdown(report)))
    console.print(f"written: {as_json}", highlight=False, soft_wrap=True)
