"""How the command line prints answers."""

import json
from typing import Any

import typer
from rich.console import Console

from defectnet.errors import InputError
from defectnet.pages.verdict_table import fit_sentence, verdict_table

__all__ = ["say", "show_answers"]


def say(sentence: str) -> None:
    """Print a sentence beside the answer, as it is."""
    Console().print(sentence, highlight=False, markup=False, style="dim")


def show_answers(predictions: list[dict[str, Any]], *, as_json: bool, every_element: bool = False) -> None:
    """Print the answers, given in the layout of `PREDICTIONS_SCHEMA`.

    Raises:
        InputError: some have no answer; it is raised once the others have been printed.
    """
    if as_json:
        typer.echo(json.dumps(predictions, indent=2, ensure_ascii=False))
    else:
        Console().print(verdict_table(predictions, every_element=every_element))
        for prediction in predictions if len(predictions) == 1 else ():
            if sentence := fit_sentence(prediction):
                Console().print(sentence, highlight=False)
            if "check" in prediction:
                Console().print(prediction["check"]["sentence"], highlight=False)
    failed = [prediction for prediction in predictions if prediction["error"]]
    if failed:
        raise InputError(
            f"{len(failed)} of {len(predictions)} rows have no answer, first {failed[0]['sample_id']!r} "
            f"({failed[0]['error']})",
            fix="repair them; the others were answered",
            field="file",
        )
