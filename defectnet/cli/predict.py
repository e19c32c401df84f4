"""`defectnet predict`: one spectrum (or a small Parquet of them) to a verdict, without a server."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from defectnet.errors import InputError
from defectnet.pages.verdict_table import verdict_table

if TYPE_CHECKING:
    from defectnet.model.predictor import Predictor
    from defectnet.neutron import Resolution
    from defectnet.query import Query
    from defectnet.readers import Reading
    from defectnet.spectrum import Spectrum

__all__ = ["predict"]


def predict(
    file: Annotated[Path, typer.Argument(help="A spectrum in any format that is read, or a Parquet of spectra.")],
    host: Annotated[
        str | None, typer.Option(help="Formula of the pristine crystal, such as Si or Ga0.9Al0.1As.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="THz, meV or cm-1: the frequency axis, where the file does not say.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Spectrum of the pristine crystal: a file like FILE; makes the answer better. "
            "`library`, or a name in it such as mp-149, takes a computed one."
        ),
    ] = None,
    structure: Annotated[
        Path | None, typer.Option(help="CIF or POSCAR of the pristine crystal, to compute its spectrum from.")
    ] = None,
    potential: Annotated[str, typer.Option(help="Interatomic potential for --structure and --check.")] = "nep89",
    candidates: Annotated[
        str | None, typer.Option(help="Only these elements are weighed, such as B,N,Al; without it, every one.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Name or number of the density, in a table of several columns.")
    ] = None,
    spectrum: Annotated[str | None, typer.Option(help="Name or number of the spectrum, in a file of several.")] = None,
    reference_unit: Annotated[
        str | None, typer.Option(help="Unit of the reference, where its file does not say. [default: that of --unit]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="vibrational or neutron. [default: what the file says, else vibrational]")
    ] = None,
    use_prior: Annotated[
        bool, typer.Option("--prior/--no-prior", help="Use what a chemist expects of this host beside the spectrum.")
    ] = True,
    recommend: Annotated[
        int, typer.Option(min=0, help="Rank this many elements instead: a list for --candidates, without a verdict.")
    ] = 0,
    resolution: Annotated[
        Path | None, typer.Option(help="Two columns, energy and FWHM: applied to a computed reference, not to FILE.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Simulate the answer, compare it with FILE and refine the concentrations.")
    ] = False,
    parents: Annotated[
        str, typer.Option(help="Where --check finds the host's force constants: packaged, a folder or a Parquet.")
    ] = "packaged",
    similar: Annotated[
        Path | None, typer.Option(help="A Parquet (or folder) of simulated spectra; the nearest go into the report.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A model artifact folder. [default: the released one]", show_default=False)
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the spectrum beside its verdict into this PNG.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write one HTML page with everything, for a logbook.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which foreign elements sit in a crystal, and how much of each. Works without a server.

    FILE may be text or CSV (frequency, density and, if known, its error), phonopy's total_dos.dat, projected_dos.dat,
    mesh.yaml or phonopy.yaml with force constants, JSON of Euphonic or pymatgen, CASTEP's .phonon_dos or .phonon,
    NeXus, or DefectNet's own Parquet, in which every row brings its own host. Concentrations are shares of all atoms.

    Example: defectnet predict examples/Si.csv --host Si --reference examples/Si-pristine.csv --plot verdict.png
    """
    from defectnet.io.tables import read_spectra
    from defectnet.readers import is_parquet

    predictions: list[dict[str, Any]]
    asked = None
    if is_parquet(file):
        given: dict[str, object] = {
            "--host": host,
            "--unit": unit,
            "--reference": reference,
            "--candidates": candidates,
            "--kind": kind,
            "--column": column,
            "--spectrum": spectrum,
            "--reference-unit": reference_unit,
        }
        given |= {"--structure": structure, "--resolution": resolution, "--similar": similar}
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
        if report is not None or check:
            raise InputError(
                "is about one spectrum, not a table",
                fix="give one spectrum in a file",
                field="--check" if check else "--report",
            )
        table = read_spectra(file)
        predictions = _load(model).predict_table(table).to_pylist()
    else:
        asked = _ask(
            file, host, unit, reference, structure, potential, candidates, kind, resolution,
            column, spectrum, reference_unit, check,
        )  # fmt: skip
        predictor = _load(model)
        query = replace(asked.query, prior=use_prior)
        if recommend:
            for rank, verdict in enumerate(predictor.recommend(query, recommend), start=1):
                typer.echo(f"{rank:3d}  {verdict.element:2s}  {verdict.probability:.3f}")
            return
        (prediction,) = predictor.predict([query])
        if prediction.error is not None:
            raise InputError(f"no answer for {file} ({prediction.error})", fix="check the spectrum", field="file")
        prediction = replace(prediction, warnings=(*prediction.warnings, *asked.notes))
        predictions = [prediction.to_dict()]
        checked = None
        if check:
            from datagen.answer_check import check_prediction

            checked = check_prediction(
                query, prediction, resolution=asked.resolution, structure=structure,
                potential=potential, parents=parents,
            )  # fmt: skip
            predictions[0]["check"] = checked.to_dict()
        if plot is not None:
            from defectnet.pages.plots import plot_prediction

            plot_prediction(query, prediction, plot)
        if report is not None:
            from defectnet.model.explain import explain, nearest
            from defectnet.pages.report import write_report

            write_report(
                report,
                query,
                prediction,
                explanation=explain(predictor, query, prediction),
                neighbours=[] if similar is None else nearest(query, read_spectra(similar), predictor.config.grid),
                check=checked,
                error=asked.reading.error,
                source=f"{file.name} ({asked.reading.summary})",
                card=predictor.card,
            )
    if as_json:
        typer.echo(json.dumps(predictions, indent=2, ensure_ascii=False))
    else:
        if asked is not None:
            Console().print(f"{file.name}: {asked.reading.summary}", highlight=False, markup=False, style="dim")
        Console().print(verdict_table(predictions, every_element=candidates is not None))
        if "check" in predictions[0]:
            Console().print(predictions[0]["check"]["sentence"], highlight=False)
    failed = [prediction for prediction in predictions if prediction["error"]]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(predictions)} rows have no answer, first {failed[0]['sample_id']!r} "
            f"({failed[0]['error']})",
            fix="repair them; the others were answered",
            field="file",
        )


def _load(model: Path | None) -> "Predictor":
    from defectnet.model.predictor import Predictor
    from defectnet.released import released_model

    return Predictor.load(model) if model is not None else Predictor.load(released_model(), version="released")


@dataclass(frozen=True, eq=False)
class _Asked:
    """The question, what the file held beside it, and what the user should know of how it was put."""

    query: "Query"
    reading: "Reading"
    resolution: "Resolution | None"
    notes: tuple[str, ...]


def _ask(
    file: Path,
    host: str | None,
    unit: str | None,
    reference: str | None,
    structure: Path | None,
    potential: str,
    candidates: str | None,
    kind: str | None,
    resolution_file: Path | None,
    column: str | None,
    which: str | None,
    reference_unit: str | None,
    check: bool,
) -> _Asked:
    from datagen.reference import from_library, from_structure
    from defectnet.host import Host
    from defectnet.neutron import read_resolution
    from defectnet.query import Query
    from defectnet.readers import compatible, read, read_like

    if host is None and structure is None:
        raise InputError("is missing", fix="give the pristine crystal's formula, such as --host Si", field="--host")
    if reference is not None and structure is not None:
        raise InputError("is one reference too many", fix="give --reference or --structure", field="--structure")
    crystal = None if host is None else Host(host)
    reading = read(file, unit, column=column, spectrum=which)
    notes = [f"{file.name}: {note}" for note in reading.notes]
    resolution = None if resolution_file is None else read_resolution(resolution_file, unit)
    said, kind = kind, kind or reading.kind or "vibrational"
    pristine: Spectrum | None = None
    if structure is not None:
        made, found = from_structure(structure, potential, kind, resolution)
        if crystal is not None and found != crystal:
            raise InputError(
                f"{structure} is {found.formula}, not {crystal.formula}", fix="make them agree", field="--structure"
            )
        crystal, pristine = found, made.spectrum
        notes.append(made.note)
    assert crystal is not None
    if reference is not None and not Path(reference).exists() and (reference == "library" or reference[:3] == "mp-"):
        made = from_library(crystal, kind, resolution, None if reference == "library" else reference)
        pristine = made.spectrum
        notes.append(made.note)
    elif reference is not None:
        other = read_like(reference, reference_unit or unit, column=column, spectrum=which)
        notes += [f"{Path(reference).name}: {note}" for note in other.notes]
        pair = compatible(
            reading, other, kind=said, n_elements=len(crystal.elements), resolution=resolution,
            resolution_used=check, names=(file.name, Path(reference).name),
        )  # fmt: skip
        reading, pristine, kind = pair.sample, pair.reference.spectrum, pair.kind
        notes += pair.notes
    elif said is not None and reading.kind not in (None, said):
        notes.append(f"{file.name} says that it is {reading.kind}, but was read as {said}")
    if resolution is not None and pristine is None and not check:
        raise InputError("has nothing to be applied to", fix="give a computed reference too", field="--resolution")
    query = Query(
        sample_id=file.stem,
        host=crystal,
        spectrum=reading.spectrum,
        reference=pristine,
        candidates=None if candidates is None else tuple(s.strip() for s in candidates.split(",") if s.strip()),
        kind=kind,
    )
    return _Asked(query, reading, resolution, tuple(notes))
