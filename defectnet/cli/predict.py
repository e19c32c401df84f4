"""`defectnet predict`: one spectrum (or a small Parquet of them) to a verdict, without a server."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

import defectnet
from defectnet.cli import options
from defectnet.cli.answers import say, show_answers
from defectnet.errors import InputError
from defectnet.models import RELEASED, ModelReference

if TYPE_CHECKING:
    from defectnet import Check, Prediction, Predictor, PristineHost, Query
    from defectnet.neutron import Resolution

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
    column: options.ColumnName = None,
    spectrum: options.SpectrumName = None,
    reference_unit: options.ReferenceUnit = None,
    override_unit: options.OverrideUnit = False,
    kind: options.Kind = None,
    use_prior: options.Prior = True,
    recommend: options.Recommend = 0,
    resolution: options.ResolutionFile = None,
    check: options.Simulated = False,
    parents: options.Parents = "packaged",
    similar: options.Similar = None,
    model: options.Model = None,
    device: options.Device = "cpu",
    responses: options.Responses = "packaged",
    plot: options.Plot = None,
    report: options.Report = None,
    as_json: options.AsJson = False,
) -> None:
    """Say which foreign elements sit in a crystal, and how much of each. Works without a server.

    FILE may be text or CSV (frequency, density and, if known, its error), a file of phonopy, CASTEP, Euphonic, Mantid
    or another program (docs/formats.md; `defectnet inspect` says how one is read), or DefectNet's own Parquet, in which
    every row brings its own host. Concentrations are shares of all atoms.

    Example: defectnet predict examples/Si.csv --host Si --reference examples/Si-pristine.csv --plot verdict.png
    """
    if defectnet.is_parquet(file):
        options.refuse_for_tables(context)
        table = defectnet.read_spectra(file)
        show_answers(_load(model, device, responses).predict_table(table).to_pylist(), as_json=as_json)
        return
    if host is None and structure is None:
        raise InputError("is missing", fix="give the pristine crystal's formula, such as --host Si", field="--host")
    width = None if resolution is None else defectnet.read_resolution(resolution, unit)
    question = defectnet.read_query(
        file,
        host,
        unit=unit,
        reference=reference if structure is None else _from_structure(structure, potential, reference),
        candidates=None if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()],
        kind=kind,
        resolution=width,
        prior=use_prior,
        column=column,
        spectrum=spectrum,
        reference_unit=reference_unit,
        simulated=check,
        override_unit=override_unit,
    )
    predictor = _load(model, device, responses)
    if recommend:
        for rank, verdict in enumerate(predictor.recommend(question.query, recommend), start=1):
            typer.echo(f"{rank:3d}  {verdict.element:2s}  {verdict.probability:.3f}")
        return
    (prediction,) = predictor.predict([question.query])
    if prediction.error is not None:
        raise InputError(f"no answer for {file} ({prediction.error})", fix="check the spectrum", field="file")
    prediction = predictor.with_alternatives(question.query, prediction)
    prediction = replace(prediction, warnings=(*prediction.warnings, *question.notes))
    checked = None if not check else _check(question.query, prediction, width, structure, potential, parents)
    if plot is not None:
        defectnet.plot_prediction(question.query, prediction, plot)
    if report is not None:
        defectnet.report_answer(report, predictor, question, prediction, check=checked, similar=similar)
    beside = {} if checked is None else {"check": checked.to_dict()}
    if not as_json:
        say(f"{file.name}: {question.reading.summary}")
    show_answers([prediction.to_dict() | beside], as_json=as_json, every_element=candidates is not None)


def _load(model: str | None, device: str, responses: str) -> "Predictor":
    reference = ModelReference.parse(model or RELEASED)
    if reference.folder is not None:
        version = RELEASED if model in (None, RELEASED) else "local"
        return defectnet.Predictor.load(reference.folder, version=version, device=device, responses=responses)
    from training.registry import fetch

    with TemporaryDirectory() as copy:
        folder, number = fetch(reference, copy)
        return defectnet.Predictor.load(folder, name=reference.name, version=number, device=device, responses=responses)


def _from_structure(structure: Path, potential: str, reference: str | None) -> "PristineHost":
    from datagen.reference import reference_from_structure

    if reference is not None:
        raise InputError("is one reference too many", fix="give --reference or --structure", field="--structure")
    return reference_from_structure(structure, potential)


def _check(
    query: "Query",
    prediction: "Prediction",
    resolution: "Resolution | None",
    structure: Path | None,
    potential: str,
    parents: str,
) -> "Check":
    from datagen.answer_check import check_prediction

    return check_prediction(
        query, prediction, resolution=resolution, structure=structure, potential=potential, parents=parents
    )
