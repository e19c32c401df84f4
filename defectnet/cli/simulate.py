"""`defectnet simulate`: spectra of doped crystals into a folder of Parquet shards."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["simulate"]


def simulate(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML of settings; see configs/simulate.yaml.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder of Parquet shards.")] = None,
    parents: Annotated[
        str | None,
        typer.Option("--parents", help='Parquet or folder of phonopy calculations, or "packaged".'),
    ] = None,
    parent: Annotated[list[str] | None, typer.Option("--parent", help="Only this parent; may be repeated.")] = None,
    potential: Annotated[
        str | None,
        typer.Option(
            "--potential", help="nep89, nequix, nep:PATH, nequix:PATH or package.module:Calculator(key=value)."
        ),
    ] = None,
    dopant: Annotated[list[str] | None, typer.Option("--dopant", help="Only this dopant; may be repeated.")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="Only on sites of this host element; may be repeated. Takes --dopant as it is."),
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", help="Spectra of each parent.")] = None,
    max_parents: Annotated[int | None, typer.Option("--max-parents", help="At most so many parents.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", help="Processes, one thread each.")] = None,
) -> None:
    """Simulate the phonon densities of states of doped crystals.

    Finished samples in the output folder are kept and skipped, so an interrupted run is simply started again.

    Examples:

    defectnet simulate --output runs/spectra --samples 8 --workers 2

    defectnet simulate --output runs/silicon --parent Si --dopant Ge --dopant Sn --on Si
    """
    from datagen.pipeline import simulate as run
    from datagen.settings import SimulateSettings

    settings = SimulateSettings.from_yaml(
        config,
        output=output,
        parents=parents,
        parent_ids=tuple(parent) if parent else None,
        potential=potential,
        dopants=tuple(dopant) if dopant else None,
        sublattices=tuple(on) if on else None,
        samples_per_parent=samples,
        max_parents=max_parents,
        workers=workers,
    )
    report = run(settings)
    console = Console()
    console.print(
        f"{report.samples} samples of {report.parents} parents in {report.seconds:.0f} s "
        f"({report.samples_per_core_second:.2f} per core and second), {report.skipped} were there already, "
        f"{report.failed} failed."
    )
    for cause, count in report.failures.items():
        console.print(f"  {count:6d}  {cause}")
    console.print(f"Shards and report.json are in {report.output}")
