"""`defectnet prepare`: how hosts answer to dopants, into a response library."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from defectnet.errors import InputError

if TYPE_CHECKING:
    from datagen.preparation import PrepareReport

__all__ = ["prepare"]

_LOG = logging.getLogger(__name__)


def prepare(
    structure: Annotated[
        Path | None, typer.Option(help="CIF or POSCAR of your host; its force constants are the potential's.")
    ] = None,
    phonons: Annotated[
        Path | None, typer.Option(help="phonopy_params.yaml or phonopy.yaml of your host, or the folder that holds it.")
    ] = None,
    parent: Annotated[
        list[str] | None, typer.Option("--parent", help="A host of --parents, such as mp-149; may be repeated.")
    ] = None,
    parents: Annotated[
        str | None, typer.Option(help='Parquet or folder of phonopy calculations, or "packaged".')
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="YAML of settings, for many hosts; see configs/responses.yaml."),
    ] = None,
    dopants: Annotated[
        str | None, typer.Option(help="Only these elements, such as Ge,Sn; without it, every sensible one.")
    ] = None,
    potential: Annotated[
        str | None, typer.Option(help="Asked about the likeliest dopants: nequix, nep89, nequix:PATH, nep:PATH, ...")
    ] = None,
    potential_dopants: Annotated[
        int | None, typer.Option("--potential-dopants", help="About how many of them, where --dopants names none.")
    ] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Folder of the library.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-w", help="Processes, one thread each.")] = None,
) -> None:
    """Compute how hosts answer to dopants: the change of their spectrum for each substitution, into a library.

    Every sensible substitution is answered within seconds by a model of its bonds; where the parents hold the dopant's
    own crystal, from DFT; and with --potential, the likeliest by a potential, some ten seconds to a minute each.
    Finished hosts in the output folder are kept and skipped, so an interrupted run is simply started again.

    Examples:

    defectnet prepare --structure host.cif --potential nequix --dopants Ge,Sn

    defectnet prepare --phonons calculation/phonopy.yaml --output runs/responses

    defectnet prepare --parent Si --parent GaAs

    defectnet prepare --config configs/responses.yaml --workers 64
    """
    from datagen.own_host import host_of_phonons, host_of_structure
    from datagen.preparation import prepare_hosts, prepare_own
    from datagen.settings import PrepareSettings
    from defectnet.io.cache import cache_folder

    own = structure or phonons
    if own is None and not parent and config is None:
        raise InputError("no host is named", fix="give --structure, --phonons, --parent or --config", field="prepare")
    if sum(what is not None for what in (structure, phonons, parent or None)) > 1:
        raise InputError("name one kind of host", fix="give --structure, --phonons or --parent", field="prepare")
    if structure is not None and potential is None:
        potential = "nequix"
    settings = PrepareSettings.from_yaml(
        config,
        output=output,
        parents=parents,
        parent_ids=tuple(parent) if parent else None,
        dopants=tuple(element.strip() for element in dopants.split(",")) if dopants else None,
        potential=potential,
        potential_dopants=potential_dopants,
        workers=workers,
    )
    if own is None:
        _tell(prepare_hosts(settings))
        return
    if not settings.fragment_cache:  # what an interrupted run has found is not found again
        settings = settings.model_copy(update={"fragment_cache": str(cache_folder() / "fragments")})
    host, content = host_of_structure(own, settings.potential) if structure else host_of_phonons(own)
    _tell(prepare_own(host, settings, content, tell=_LOG.info))


def _tell(report: "PrepareReport") -> None:
    console = Console()
    by_source = ", ".join(f"{count} by {source}" for source, count in report.substitutions.items())
    console.print(
        f"{report.hosts} hosts in {report.seconds:.0f} s, {report.skipped} were there already, {report.failed} failed"
        + (f"; substitutions: {by_source}." if by_source else ".")
    )
    if report.fragments:
        console.print(
            f"The potential was asked about {report.fragments} substitutions, "
            f"{report.seconds_per_fragment:.1f} s and {report.calls_per_fragment:.0f} force calls each."
        )
    for cause, count in report.failures.items():
        console.print(f"  {count:6d}  {cause}")
    console.print(f"The library is in {report.output}")
