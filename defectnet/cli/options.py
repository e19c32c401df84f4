"""The options of `defectnet predict`, each with its help, and those that say nothing about a table of spectra."""

from pathlib import Path
from typing import Annotated

import typer

from defectnet.errors import InputError

__all__ = [
    "AsJson",
    "Candidates",
    "ColumnName",
    "Device",
    "File",
    "HostFormula",
    "Kind",
    "Model",
    "OverrideUnit",
    "Parents",
    "Plot",
    "Potential",
    "Prior",
    "Recommend",
    "Reference",
    "Responses",
    "ReferenceUnit",
    "Report",
    "ResolutionFile",
    "Similar",
    "Simulated",
    "SpectrumName",
    "Structure",
    "Unit",
    "refuse_for_tables",
]

File = Annotated[Path, typer.Argument(help="A spectrum in any format that is read, or a Parquet of spectra.")]
HostFormula = Annotated[
    str | None, typer.Option("--host", help="Formula of the pristine crystal, such as Si or Ga0.9Al0.1As.")
]
Unit = Annotated[str | None, typer.Option(help="THz, meV or cm-1: the frequency axis, where the file does not say.")]
OverrideUnit = Annotated[
    bool, typer.Option("--override-unit", help="The file says another unit and is wrong: take --unit, with a warning.")
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Spectrum of the pristine crystal: a file like FILE; makes the answer better. "
        "`library`, or a name in it such as mp-149, takes a computed one."
    ),
]
Structure = Annotated[
    Path | None, typer.Option(help="CIF or POSCAR of the pristine crystal, to compute its spectrum from.")
]
Potential = Annotated[str, typer.Option(help="Interatomic potential for --structure and --check.")]
Candidates = Annotated[
    str | None, typer.Option(help="Only these elements are weighed, such as B,N,Al; without it, every one.")
]
ColumnName = Annotated[
    str | None, typer.Option("--column", help="Name or number of the density, in a table of several columns.")
]
SpectrumName = Annotated[
    str | None, typer.Option("--spectrum", help="Name or number of the spectrum, in a file of several.")
]
ReferenceUnit = Annotated[
    str | None, typer.Option(help="Unit of the reference, where its file does not say. [default: that of --unit]")
]
Kind = Annotated[
    str | None, typer.Option(help="vibrational or neutron. [default: what the file says, else vibrational]")
]
Prior = Annotated[
    bool, typer.Option("--prior/--no-prior", help="Use what a chemist expects of this host beside the spectrum.")
]
Recommend = Annotated[
    int, typer.Option(min=0, help="Rank this many elements instead: a list for --candidates, without a verdict.")
]
ResolutionFile = Annotated[
    Path | None,
    typer.Option("--resolution", help="Two columns, energy and FWHM: applied to a computed reference, not to FILE."),
]
Simulated = Annotated[
    bool, typer.Option("--check", help="Simulate the answer, compare it with FILE and refine the concentrations.")
]
Parents = Annotated[
    str, typer.Option(help="Where --check finds the host's force constants: packaged, a folder or a Parquet.")
]
Similar = Annotated[
    Path | None, typer.Option(help="A Parquet (or folder) of simulated spectra; the nearest go into the report.")
]
Model = Annotated[
    str | None,
    typer.Option(help="An artifact folder, released, or models:/NAME@ALIAS or /VERSION.", show_default="released"),
]
Device = Annotated[str, typer.Option(help="Where the network runs, as torch names it: cpu, cuda, cuda:1.")]
Responses = Annotated[
    str,
    typer.Option(
        help="Responses to compare with: packaged, files or folders (joined by commas), or none.", metavar="PATH"
    ),
]
Plot = Annotated[Path | None, typer.Option(help="Also draw the spectrum beside its verdict into this PNG.")]
Report = Annotated[Path | None, typer.Option(help="Also write one HTML page with everything, for a logbook.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# What a table of spectra cannot be asked with: the option's name in Python and on the command line.
_OF_EACH_ROW = (
    *("host", "unit", "reference", "reference_unit", "candidates", "column", "spectrum", "kind", "structure"),
    "override_unit",
    *("resolution", "similar"),
)
_OF_ONE = {
    "recommend": ("--recommend", "reads one spectrum, not a table", "give a text file"),
    "use_prior": ("--no-prior", "reads one spectrum, not a table", "give a text file"),
    "plot": ("--plot", "draws one spectrum, not a table", "use `defectnet plot` on the Parquet file"),
    "check": ("--check", "is about one spectrum, not a table", "give one spectrum in a file"),
    "report": ("--report", "is about one spectrum, not a table", "give one spectrum in a file"),
}


def refuse_for_tables(context: typer.Context) -> None:
    """Raise `InputError` for the first option that was given and says nothing about a table of spectra."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    for name in _OF_EACH_ROW:
        if name in given:
            raise InputError(
                "each row of a Parquet file brings its own", fix="leave it out", field=f"--{name.replace('_', '-')}"
            )
    for name, (option, message, fix) in _OF_ONE.items():
        if name in given:
            raise InputError(message, fix=fix, field=option)
