"""`defectnet plot`: pictures of a Parquet of spectra, and of the verdicts on them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from defectnet.errors import InputError, TableError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["plot"]


def plot(
    input: Annotated[Path, typer.Argument(help="A Parquet file of spectra, or a folder of them.", metavar="INPUT")],
    predictions: Annotated[
        Path | None, typer.Option(help="Predictions of `defectnet score` on INPUT: a file, or its folder.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("runs/plots"),
    limit: Annotated[int, typer.Option(help="At most so many samples get a picture of their own.", min=1)] = 20,
) -> None:
    """Draw an overview of a table of spectra and, with predictions, each spectrum beside its verdict.

    Example: defectnet plot examples/batch.parquet --predictions runs/demo/batch --output runs/plots
    """
    from defectnet.io.tables import read_spectra
    from defectnet.model.predictor import Prediction
    from defectnet.pages.plots import plot_prediction, plot_table_overview
    from defectnet.query import Query, iterate_rows

    spectra = read_spectra(input)
    verdicts = [] if predictions is None else _read_predictions(predictions).to_pylist()
    if predictions is not None and [row["sample_id"] for row in verdicts] != spectra["sample_id"].to_pylist():
        raise TableError("are not those of INPUT", fix="score INPUT again", field="--predictions")
    overview = output / "overview.png"
    plot_table_overview(spectra, overview)
    n_written = 1
    for number, (row, verdict) in enumerate(zip(iterate_rows(spectra), verdicts, strict=False)):
        if n_written > limit:
            break
        try:
            query = Query.from_row(row)
        except InputError:
            continue  # the overview counts the rows without a spectrum
        # A sample's name may hold anything, a slash too: files are named by the row.
        plot_prediction(query, Prediction.from_dict(verdict), output / f"row-{number:04d}.png")
        n_written += 1
    Console().print(f"{n_written} pictures in {output}", highlight=False, soft_wrap=True)


def _read_predictions(path: Path) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.parquet as pq

    from defectnet.io.tables import PREDICTIONS_SCHEMA, conform

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise TableError(
            f"{path} holds no readable Parquet ({reason})", fix="score INPUT again", field="--predictions"
        ) from None
    return conform(table, PREDICTIONS_SCHEMA, where=str(path))
