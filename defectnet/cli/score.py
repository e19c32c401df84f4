"""`defectnet score`: a file or folder of spectra in, a folder of predictions out."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["score"]


def score(
    # Text, for a Path would make s3:/ of s3://.
    input: Annotated[
        str, typer.Argument(help="Parquet, Arrow or JSON lines: a file or a folder, path or URI.", metavar="IN")
    ],
    output: Annotated[str, typer.Argument(help="Folder for the predictions, path or URI.", metavar="OUT")],
    model: Annotated[
        str | None,
        typer.Option(
            help="models:/NAME@ALIAS or /VERSION, released, or an artifact folder.",
            show_default="models:/defectnet@champion",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Predictor processes, one core each.", show_default="1")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings such as configs/score.yaml.", show_default=False)
    ] = None,
) -> None:
    """Score a set of spectra: one row of predictions for each row of spectra, in the same order.

    A row that cannot be read keeps its place, with an `error`. A run that was stopped is finished by the same command.

    Example:

        defectnet score examples/batch.parquet runs/predictions --workers 2

        defectnet score s3://bucket/spectra s3://bucket/predictions
    """
    from serving.batch.score import score as run
    from serving.settings import ScoreSettings

    settings = ScoreSettings.from_yaml(config, model=model, workers=workers)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("scoring", total=None)
        report = run(
            input, output, settings=settings, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(
        f"{report.rows} rows in {output}: {report.scored} scored at {report.rows_per_s:.0f} rows/s, "
        f"{report.skipped} done before, {report.errors} with an error "
        f"({report.model_name} version {report.model_version})"
    )
