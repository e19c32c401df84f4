"""`defectnet predict`: one spectrum (or a small Parquet of them) to a verdict, without a server."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from defectnet.cli import options
from defectnet.cli.answers import show_answers
from defectnet.errors import InputError

if TYPE_CHECKING:
    from defectnet.model.predictor import Predictor
    from defectnet.references import PristineHost

__all__ = ["predict"]


def predict(
    context: typer.Context,
    file: options.File,
    host: options.HostFormula = None,
    unit: options.Unit = None,
    reference: options.Reference = None,
    structure: options.Structure = None,
    potential: options.Potential = "nep89",
    candidates: options.Candidates = None,
    kind: options.Kind = None,
    use_prior: options.Prior = True,
    recommend: options.Recommend = 0,
    resolution: options.ResolutionFile = None,
    check: options.Simulated = False,
    parents: options.Parents = "packaged",
    similar: options.Similar = None,
    model: options.Model = None,
    device: options.Device = "cpu",
    plot: options.Plot = None,
    report: options.Report = None,
    as_json: options.AsJson = False,
) -> None:
    """Say which foreign elements sit in a crystal, and how much of each. Works without a server.

    FILE may be text or CSV (frequency, density and, if known, its error), phonopy's total_dos.dat, projected_dos.dat,
    mesh.yaml or phonopy.yaml with force constants, JSON of Euphonic or pymatgen, CASTEP's .phonon_dos or .phonon,
    NeXus, or DefectNet's own Parquet, in which every row brings its own host. Concentrations are shares of all atoms.

    Example: defectnet predict examples/Si.csv --host Si --reference examples/Si-pristine.csv --plot verdict.png
    """
    from defectnet.io.tables import read_spectra
    from defectnet.readers import is_parquet
    from defectnet.readers.query import read_query
    from defectnet.readers.resolution import read_resolution

    if is_parquet(file):
        options.refuse_for_tables(context)
        show_answers(_load(model, device).predict_table(read_spectra(file)).to_pylist(), as_json=as_json)
        return
    if host is None and structure is None:
        raise InputError("is missing", fix="give the pristine crystal's formula, such as --host Si", field="--host")
    width = None if resolution is None else read_resolution(resolution, unit)
    asked = read_query(
        file,
        host,
        unit=unit,
        reference=reference if structure is None else _from_structure(structure, potential, reference),
        candidates=None if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()],
        kind=kind,
        resolution=width,
        prior=use_prior,
    )
    predictor = _load(model, device)
    if recommend:
        for rank, verdict in enumerate(predictor.recommend(asked.query, recommend), start=1):
            typer.echo(f"{rank:3d}  {verdict.element:2s}  {verdict.probability:.3f}")
        return
    (prediction,) = predictor.predict([asked.query])
    if prediction.error is not None:
        raise InputError(f"no answer for {file} ({prediction.error})", fix="check the spectrum", field="file")
    prediction = replace(prediction, warnings=(*prediction.warnings, *asked.notes))
    answer, checked = prediction.to_dict(), None
    if check:
        from datagen.answer_check import check_prediction

        checked = check_prediction(
            asked.query, prediction, resolution=width, structure=structure, potential=potential, parents=parents
        )
        answer["check"] = checked.to_dict()
    if plot is not None:
        from defectnet.pages.plots import plot_prediction

        plot_prediction(asked.query, prediction, plot)
    if report is not None:
        from defectnet.pages.report import report_answer

        report_answer(report, predictor, asked, prediction, check=checked, similar=similar)
    show_answers([answer], as_json=as_json, every_element=candidates is not None)


def _load(model: Path | None, device: str) -> "Predictor":
    from defectnet.model.predictor import Predictor
    from defectnet.released import released_model

    return Predictor.load(model or released_model(), version="local" if model else "released", device=device)


def _from_structure(structure: Path, potential: str, reference: str | None) -> "PristineHost":
    from datagen.reference import reference_from_structure

    if reference is not None:
        raise InputError("is one reference too many", fix="give --reference or --structure", field="--structure")
    return reference_from_structure(structure, potential)
