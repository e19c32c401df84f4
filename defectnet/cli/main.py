"""The `defectnet` command: it gathers the verbs and turns errors into one sentence and an exit code."""

import importlib
import logging
import os
import sys

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from defectnet.errors import DefectNetError, InputError, SettingsError

__all__ = ["app", "main"]

# A wrong input or setting (the caller can repair it) and any other failure that the project foresees.
EXIT_BAD_INPUT = 2
EXIT_FAILED = 1

# Every verb is defectnet/cli/<verb>.py with a function of the same name, in the order in which a user meets them.
_VERBS = (
    "simulate",
    "prepare",
    "train",
    "evaluate",
    "promote",
    "serve",
    "score",
    "predict",
    "inspect",
    "finetune",
    "plot",
)

app = typer.Typer(
    name="defectnet",
    help="Which foreign elements sit in a crystal, and how much of each, from its vibrational spectrum.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _verb in _VERBS:
    _module = importlib.import_module(f"defectnet.cli.{_verb}")
    app.command(name=_verb)(getattr(_module, _verb))


@app.callback()
def _set_up(verbose: bool = typer.Option(False, "--verbose", "-v", help="Also log debugging details.")) -> None:
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # it reports every step of making a new store
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=False)],
    )


def main() -> None:
    """Run the command line; the entry point of the `defectnet` script."""
    try:
        app()
    except DefectNetError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(EXIT_BAD_INPUT if isinstance(error, (InputError, SettingsError)) else EXIT_FAILED)
