"""`defectnet promote`: decide which registered model the service uses."""

from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown

__all__ = ["promote"]


def promote(
    version: Annotated[
        str | None,
        typer.Argument(help="A registered version, such as 3 or models:/defectnet@challenger.", metavar="VERSION"),
    ] = None,
    artifact: Annotated[
        str | None, typer.Option(help="Register this artifact folder (or released), then promote it.", metavar="FOLDER")
    ] = None,
    benchmark: Annotated[
        # Text, for a Path would make s3:/ of s3://.
        str, typer.Option(help="Labelled spectra on whose test hosts the champion must not be better; a path or a URI.")
    ] = "data",
    responses: Annotated[
        str, typer.Option(help="Responses of its hosts, where both models compare; a file, a folder, or packaged.")
    ] = "packaged",
    force: Annotated[str | None, typer.Option(help="Promote it though it is worse, for this reason.")] = None,
    back: Annotated[bool, typer.Option("--rollback", help="Go back to the champion of before.")] = False,
) -> None:
    """Move the alias `champion`, which the service follows, to a model that is not worse than the champion.

    Presence F1, concentration error and coverage are compared in total, at 2 % and above, and below, guessed from the
    spectra alone and, where both models compare, by comparison with computed responses; what is worse beyond the noise
    is refused with a table, and so is a model that does not compare where the champion does. The champion of before is
    kept as `previous`.

    Example: defectnet promote --artifact released

    Example: defectnet promote 3

    Example: defectnet promote 3 --force "the champion was trained on a faulty table"

    Example: defectnet promote --rollback
    """
    from defectnet.errors import InputError, RegistryError
    from defectnet.models import MODEL_NAME
    from training import promotion, registry

    if [version is not None, artifact is not None, back].count(True) != 1:
        raise InputError("give exactly one of VERSION, --artifact and --rollback", field="promote")
    if force is not None and (back or not force.strip()):
        raise InputError("goes with a version or an artifact", fix="say why the gate is overruled", field="--force")
    console = Console()
    if back:
        console.print(f"champion: {MODEL_NAME}/{registry.rollback()}", highlight=False)
        return
    version = _registered(version, artifact)
    gate = promotion.promote(version, benchmark, responses=responses, force=force)
    if gate.compared:
        console.print(Markdown(promotion.markdown(gate)))
    if not gate.promoted:
        why = gate.refusal or f"version {version} is worse than the champion, version {gate.champion}"
        raise RegistryError(f"{why}: train a better one, or give --force REASON")
    console.print(f"champion: {MODEL_NAME}/{version}", highlight=False)


def _registered(version: str | None, artifact: str | None) -> str:
    """The number of the version that is meant; an artifact folder is registered first. Exactly one is given."""
    from defectnet.errors import InputError
    from defectnet.models import MODEL_NAME, ModelReference
    from training import registry

    if artifact is not None:
        folder = ModelReference.parse(artifact, field="--artifact").folder
        if folder is None:
            raise InputError(f"{artifact} is registered already", fix="give it without --artifact", field="--artifact")
        return registry.register(folder)
    reference = ModelReference.parse(version or "", field="version")
    if not reference.registered or reference.name != MODEL_NAME:
        raise InputError(
            f"{version} is no version of {MODEL_NAME}", fix="give its number, or --artifact FOLDER", field="version"
        )
    return registry.version_of(reference)
