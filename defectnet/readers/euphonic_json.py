"""JSON written by Euphonic: `Spectrum1D` and `Spectrum1DCollection`.

The weighting stands in the metadata, common or of each line, or shows in the unit (barn): all three are looked at.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError, SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Wish
from defectnet.readers.reading import Reading, unit_words

__all__ = ["NAME", "read_euphonic"]

NAME = "__euphonic_class__"
_NEUTRON = re.compile(r"coherent|neutron|barn", re.IGNORECASE)
_PLAIN = re.compile(r"^(none|dos|unweighted|vibrational)$", re.IGNORECASE)


def read_euphonic(content: Mapping[str, Any], wish: Wish, where: str) -> Reading:
    """Read one spectrum, or the total of a collection whose lines are the elements.

    Raises:
        UnitError: an axis that is none of a frequency or energy.
        SpectrumError: several spectra that are not the parts of one; lists them.
        KeyError, TypeError, ValueError: not a whole file.
    """
    unit = unit_words(str(content["x_data_unit"]), wish, where, "x_data_unit")
    x = np.array(content["x_data"], dtype=float)
    lines = np.atleast_2d(np.array(content["y_data"], dtype=float))
    metadata = content.get("metadata") or {}
    # What all lines share stands above `line_data`.
    named = [{**metadata, **line} for line in metadata.get("line_data") or [{}] * len(lines)]
    if len(named) != len(lines):
        raise ValueError
    weightings = [str(line.get("weighting") or "") for line in named]
    partial: dict[str, NDArray[np.float64]] = {}
    chosen = list(range(len(lines)))
    if content[NAME] == "Spectrum1DCollection":
        chosen, partial = _collection(lines, named, wish.spectrum, where)
    kinds = {_kind(weightings[i], str(content.get("y_data_unit") or "")) for i in chosen}
    if len(kinds) > 1:
        raise SpectrumError(f"{where} holds lines of several weightings", fix="name one with --spectrum", field="file")
    found = Found(
        x,
        lines[chosen].sum(axis=0),
        partial=partial,
        kind=kinds.pop(),
        weighting=next((weightings[i] for i in chosen if weightings[i]), str(content.get("y_data_unit") or "")),
        origin="computed",
    )
    return assemble(found, unit, f"Euphonic {content[NAME]}", where)


def _kind(weighting: str, unit: str) -> str | None:
    if _NEUTRON.search(weighting) or (not weighting and _NEUTRON.search(unit)):
        return "neutron"
    return "vibrational" if _PLAIN.match(weighting) else None


def _collection(
    lines: NDArray[np.float64], named: Sequence[Mapping[str, Any]], wanted: str | None, where: str
) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
    """Which lines to add, and the elements' parts, of lines that are named by element or "Total"."""
    labels = [str(line.get("label") or line.get("species") or number) for number, line in enumerate(named, start=1)]
    listed = ", ".join(f"{number} {label!r}" for number, label in enumerate(labels, start=1))
    if wanted is not None:
        found = [i for i, label in enumerate(labels) if label.lower() == wanted.lower()]
        if not found and wanted.isdigit() and 1 <= int(wanted) <= len(lines):
            found = [int(wanted) - 1]
        if len(found) != 1:
            raise InputError(
                f"{where} has no single spectrum {wanted!r}", fix=f"name one of {listed}", field="--spectrum"
            )
        return found, {}
    totals = [i for i, line in enumerate(named) if str(line.get("label", "")).lower() == "total"]
    partial: dict[str, NDArray[np.float64]] = {}
    for row, line in zip(lines, named, strict=True):
        if species := line.get("species"):
            partial[str(species)] = partial.get(str(species), np.zeros_like(row)) + row
    if len(totals) == 1:
        return totals, partial
    if len(lines) == 1:
        return [0], partial
    if partial and all(line.get("species") for line in named):
        return list(range(len(lines))), partial
    raise SpectrumError(
        f"{where} holds {len(lines)} spectra that are not the parts of one ({listed})",
        fix="give a single one, one line for each element, or name one with --spectrum",
        field="file",
    )
