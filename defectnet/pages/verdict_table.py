"""Predictions as a table in the terminal; `predict` and the demonstration share it."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from defectnet.prediction import worth_showing

__all__ = ["verdict_table"]

_CAPTION = "at.%: share of all atoms if the element is present, with its 90 % interval; p: probability that it is"


def verdict_table(predictions: Iterable[Mapping[str, Any]], *, title: str = "", every_element: bool = False) -> Table:
    """Lay out predictions, given as dictionaries in the layout of `PREDICTIONS_SCHEMA`.

    Args:
        predictions: one for each sample; one with an `error` shows that instead of a verdict.
        title: a line above the table.
        every_element: also list the elements that were ruled out without hesitation.
    """
    table = Table(
        title=title or None, title_justify="left", title_style="bold", caption=_CAPTION, caption_justify="left"
    )
    table.add_column("sample", overflow="fold")
    table.add_column("host", overflow="fold")
    table.add_column("element")
    table.add_column("at.% (interval)", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for prediction in predictions:
        for row in _rows(prediction, every_element):
            table.add_row(*row)
        table.add_section()
    return table


def _rows(prediction: Mapping[str, Any], every_element: bool) -> Iterable[list[Text | str]]:
    # As `Text`: a sample's name or an error may hold square brackets, which rich would read as markup.
    start: list[Text | str] = [Text(prediction["sample_id"] or ""), Text(prediction["host"] or "")]
    if prediction["error"]:
        yield [*start, "", "", "", Text(prediction["error"], style="red")]
        return
    elements = prediction["elements"]
    if not any(verdict["present"] for verdict in elements):
        yield [*start, "none", "", "", "nothing foreign found"]
        start = ["", ""]
    for verdict in elements:
        if not (every_element or worth_showing(verdict["present"], verdict["probability"])):
            continue
        low, value, high = (100.0 * verdict[name] for name in ("low", "concentration", "high"))
        style = "bold" if verdict["present"] else "dim"
        yield [
            *start,
            Text(verdict["element"], style=style),
            Text(f"{value:.2f} ({low:.2f} – {high:.2f})", style=style),
            Text(f"{verdict['probability']:.2f}", style=style),
            Text("present" if verdict["present"] else "ruled out", style=style),
        ]
        start = ["", ""]
    for warning in prediction["warnings"]:
        yield ["", "", "", "", "", Text(warning, style="yellow")]
