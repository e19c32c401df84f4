"""`defectnet predict`: one spectrum (or a small Parquet of them) to a verdict, without a server."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from defectnet.cli.verdict_table import verdict_table
from defectnet.errors import InputError, UnitError

if TYPE_CHECKING:
    from defectnet.predictor import Predictor
    from defectnet.query import Query

__all__ = ["predict"]


def predict(
    file: Annotated[Path, typer.Argument(help="Two columns of text (frequency, density), or a Parquet of spectra.")],
    host: Annotated[
        str | None, typer.Option(help="Formula of the pristine crystal, such as Si or Ga0.9Al0.1As.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="THz, meV or cm-1: the frequency axis, where the file does not say.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Spectrum of the pristine crystal, read like FILE; makes the answer better.")
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(help="Only these elements are weighed, such as B,N,Al; without it, every one.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="vibrational or neutron. [default: vibrational]")] = None,
    use_prior: Annotated[
        bool, typer.Option("--prior/--no-prior", help="Use what a chemist expects of this host beside the spectrum.")
    ] = True,
    recommend: Annotated[
        int, typer.Option(min=0, help="Rank this many elements instead: a list for --candidates, without a verdict.")
    ] = 0,
    model: Annotated[
        Path | None, typer.Option(help="A model artifact folder. [default: the released one]", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the spectrum beside its verdict into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which foreign elements sit in a crystal, and how much of each. Works without a server.

    Concentrations are fractions of all atoms. In a Parquet file every row brings its own host, and a row that cannot be
    read costs only itself.

    Example: defectnet predict examples/Si.csv --host Si --reference examples/Si-pristine.csv --plot verdict.png
    """
    from defectnet.readers import is_parquet
    from defectnet.tables import read_spectra

    predictions: list[dict[str, Any]]
    if is_parquet(file):
        given = {"--host": host, "--unit": unit, "--reference": reference, "--candidates": candidates, "--kind": kind}
        for option, value in given.items():
            if value is not None:
                raise InputError("each row of a Parquet file brings its own", fix="leave it out", field=option)
        if recommend or not use_prior:
            option = "--recommend" if recommend else "--no-prior"
            raise InputError("reads one spectrum, not a table", fix="give a text file", field=option)
        if plot is not None:
            raise InputError(
                "draws one spectrum, not a table", fix="use `defectnet plot` on the Parquet file", field="--plot"
            )
        table = read_spectra(file)
        predictions = _load(model).predict_table(table).to_pylist()
    else:
        query = _query(file, host, unit, reference, candidates, kind, use_prior)
        predictor = _load(model)
        if recommend:
            for rank, verdict in enumerate(predictor.recommend(query, recommend), start=1):
                typer.echo(f"{rank:3d}  {verdict.element:2s}  {verdict.probability:.3f}")
            return
        (prediction,) = predictor.predict([query])
        if prediction.error is not None:
            raise InputError(f"no answer for {file} ({prediction.error})", fix="check the spectrum", field="file")
        predictions = [prediction.to_dict()]
        if plot is not None:
            from defectnet.plots import plot_prediction

            plot_prediction(query, prediction, plot)
    if as_json:
        typer.echo(json.dumps(predictions, indent=2, ensure_ascii=False))
    else:
        Console().print(verdict_table(predictions, every_element=candidates is not None))
    failed = [prediction for prediction in predictions if prediction["error"]]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(predictions)} rows have no answer, first {failed[0]['sample_id']!r} "
            f"({failed[0]['error']})",
            fix="repair them; the others were answered",
            field="file",
        )


def _load(model: Path | None) -> "Predictor":
    from defectnet.predictor import Predictor
    from defectnet.released import released_model

    return Predictor.load(model) if model is not None else Predictor.load(released_model(), version="released")


def _query(
    file: Path,
    host: str | None,
    unit: str | None,
    reference: Path | None,
    candidates: str | None,
    kind: str | None,
    use_prior: bool,
) -> "Query":
    from defectnet.host import Host
    from defectnet.query import Query
    from defectnet.readers import read_spectrum

    if host is None:
        raise InputError("is missing", fix="give the pristine crystal's formula, such as --host Si", field="--host")
    pristine = None
    if reference is not None:
        try:
            pristine = read_spectrum(reference)
        except UnitError:
            pristine = read_spectrum(reference, unit)  # it does not say, so it is taken to be like FILE
    return Query(
        sample_id=file.stem,
        host=Host(host),
        spectrum=read_spectrum(file, unit),
        reference=pristine,
        candidates=None if candidates is None else tuple(s.strip() for s in candidates.split(",") if s.strip()),
        kind=kind or "vibrational",
        prior=use_prior,
    )
