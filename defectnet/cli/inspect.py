"""`defectnet inspect`: what is understood of a spectrum file, before anything is asked of it."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import defectnet
from defectnet.cli import options

__all__ = ["inspect"]


def inspect(
    file: Annotated[Path, typer.Argument(help="A spectrum in any format that is read.")],
    unit: options.Unit = None,
    column: options.ColumnName = None,
    spectrum: options.SpectrumName = None,
    override_unit: options.OverrideUnit = False,
    png: Annotated[Path | None, typer.Option(help="Also draw the spectrum into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines and a sketch.")] = False,
) -> None:
    """Say how a file is read: its format, axis and unit (and where that was said), columns, weighting, broadening.

    Example: defectnet inspect examples/Si.csv
    """
    reading = defectnet.read_file(file, unit, column=column, spectrum=spectrum, override_unit=override_unit)
    if png is not None:
        defectnet.plot_reading(reading, file.name, png)
    if as_json:
        typer.echo(json.dumps(reading.to_dict(), indent=2, ensure_ascii=False))
        return
    console = Console()
    for name, value in reading.lines:
        console.print(f"{name:>12}  {value}", highlight=False, markup=False, soft_wrap=True)
    console.print(defectnet.sketch_spectrum(reading.spectrum), highlight=False, markup=False)
    for note in reading.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
