"""Predictions as a table in the terminal; `predict` and the demonstration share it."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from defectnet.prediction import CANNOT_TELL, why_undecided, worth_showing

__all__ = ["fit_sentence", "verdict_table"]

_SOURCES = {
    "endmember": "between DFT crystals",
    "measured": "learned from your samples",
    "springs": "estimated from chemistry",
    "masses": "masses alone",
}
# Shares explained that differ by less are the same: so do those of two random configurations of one alloy.
_MORE = 0.05
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


def fit_sentence(prediction: Mapping[str, Any]) -> str:
    """How the answer was held against computed responses, in words; empty where it was not.

    Args:
        prediction: in the layout of `PREDICTIONS_SCHEMA`.
    """
    fit = prediction.get("fit")
    if not fit:
        return ""
    found = [verdict for verdict in prediction["elements"] if verdict["present"]]
    sources = {one["element"]: one["source"] for one in fit["sources"] or ()}
    amounts = _amounts([v["element"] for v in found], [v["concentration"] for v in found])
    said = f"{amounts} explain{'s' * (len(found) == 1)} {fit['explained']:.0%} of the measured change"
    used = ", ".join(
        f"{v['element']}: {_SOURCES.get(sources[v['element']], sources[v['element']])}"
        for v in found
        if v["element"] in sources
    )
    first = f"{said}, by computed responses of {fit['host_id']} ({used})" if found else "nothing found"
    others = [
        f"{_amounts(one['elements'], one['concentrations'])} would explain {one['explained']:.0%}"
        for one in _rivals(prediction)
    ]
    return "; ".join([first, *others])


def _rivals(prediction: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The two other sets of elements that explain the change best, where they were asked for."""
    found = {verdict["element"] for verdict in prediction["elements"] if verdict["present"]}
    sets = (prediction.get("fit") or {}).get("alternatives") or ()
    return [one for one in sets if set(one["elements"]) != found][:2]


def _amounts(elements: Iterable[str], concentrations: Iterable[float]) -> str:
    return " + ".join(f"{e} {100 * c:.1f} %" for e, c in zip(elements, concentrations, strict=True))


def _word(verdict: Mapping[str, Any], undecided: bool, open_to_doubt: bool) -> str:
    if verdict["present"]:
        return "present"
    if undecided:
        return "undecided"
    if open_to_doubt:
        return "not found, yet a set with it explains more"
    return "not found" if worth_showing(False, verdict["probability"]) else "ruled out"


def _explaining_more(prediction: Mapping[str, Any]) -> set[str]:
    """Elements of the other sets that explain clearly more of the change than the answer does."""
    answered = (prediction.get("fit") or {}).get("explained", 1.0)
    better = [one for one in _rivals(prediction) if one["explained"] > answered + _MORE]
    return {element for one in better for element in one["elements"]}


def _rows(prediction: Mapping[str, Any], every_element: bool) -> Iterable[list[Text | str]]:
    # As `Text`: a sample's name or an error may hold square brackets, which rich would read as markup.
    start: list[Text | str] = [Text(prediction["sample_id"] or ""), Text(prediction["host"] or "")]
    if prediction["error"]:
        yield [*start, "", "", "", Text(prediction["error"], style="red")]
        return
    elements = prediction["elements"]
    undecided = why_undecided(prediction["warnings"]) is not None
    if not any(verdict["present"] for verdict in elements):
        yield [*start, "?" if undecided else "none", "", "", CANNOT_TELL if undecided else "nothing foreign found"]
        start = ["", ""]
    doubtful = _explaining_more(prediction)
    for verdict in elements:
        doubted = verdict["element"] in doubtful
        if not (every_element or doubted or worth_showing(verdict["present"], verdict["probability"])):
            continue
        low, value, high = (100.0 * verdict[name] for name in ("low", "concentration", "high"))
        style = "bold" if verdict["present"] else "dim"
        yield [
            *start,
            Text(verdict["element"], style=style),
            Text(f"{value:.2f} ({low:.2f} – {high:.2f})", style=style),
            Text(f"{verdict['probability']:.2f}", style=style),
            Text(_word(verdict, undecided, doubted), style=style),
        ]
        start = ["", ""]
    for warning in prediction["warnings"]:
        yield ["", "", "", "", "", Text(warning, style="yellow")]
