"""`defectnet promote`: decide which registered model the service uses."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["promote"]


def promote(
    version: Annotated[str | None, typer.Argument(help="A registered version, such as 3.")] = None,
    artifact: Annotated[Path | None, typer.Option(help="Register this artifact folder, then promote it.")] = None,
    back: Annotated[bool, typer.Option("--rollback", help="Go back to the champion of before.")] = False,
) -> None:
    """Move the alias `champion`, which the service follows; the champion of before is kept as `previous`.

    Example: defectnet promote --artifact models/released

    Example: defectnet promote 3

    Example: defectnet promote --rollback
    """
    from defectnet.errors import InputError
    from training import registry

    if [version is not None, artifact is not None, back].count(True) != 1:
        raise InputError("give exactly one of VERSION, --artifact and --rollback", field="promote")
    if back:
        version = registry.rollback()
    else:
        if artifact is not None:
            version = registry.register(artifact)
        assert version is not None  # exactly one was given
        registry.promote(version)
    Console().print(f"champion: defectnet/{version}", highlight=False)
