"""Grace's and GROMACS's files (`.agr`, `.xvg`): lines `@` say the labels, `&` parts the sets."""

import re

import numpy as np

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.header import refuse_optical
from defectnet.readers.nexus import choose
from defectnet.readers.reading import Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.units import find_unit

__all__ = ["FORMATS"]

_LABEL = re.compile(r"^@\s*(xaxis|yaxis)\s+label\s+\"(.*)\"", re.MULTILINE)
_TITLE = re.compile(r"^@\s*(?:sub)?title\s+\"(.*)\"", re.MULTILINE)
_TYPE = re.compile(r"^@\s*type\s+(\w+)", re.MULTILINE | re.IGNORECASE)
_ESCAPES = re.compile(r"\\([SsN])")


def _read(source: Source) -> Reading:
    where, text = source.where, source.text
    labels = {axis: _ESCAPES.sub("", label) for axis, label in _LABEL.findall(text)}
    refuse_optical([*labels.values(), *_TITLE.findall(text)], where)
    said = find_unit(labels.get("xaxis", ""))
    by = f"the label {labels.get('xaxis', '')!r}"
    unit = settle_unit([(said, by)] if said else [], source.wish, where)
    sets = [
        "\n".join(line for line in part.splitlines() if not line.lstrip().startswith(("@", "#")))
        for part in re.split(r"(?m)^\s*&.*$", text)
    ]
    sets = [part for part in sets if part.strip()] or [""]
    chosen = choose(
        [str(number) for number in range(len(sets))] if len(sets) > 1 else ["0"], source.wish.spectrum, where
    )
    table = read_table(sets[chosen] + "\n", where)
    values = np.array(table.blocks[0].rows)
    types = [kind.lower() for kind in _TYPE.findall(text)]
    errors = chosen < len(types) and types[chosen] == "xydy"
    if len(table.blocks) > 1 or values.shape[1] != (3 if errors else 2):
        raise SpectrumError(
            f"{where} has {values.shape[1]} columns in a set",
            fix="export one set of x and y (or x, y, dy)",
            field="file",
        )
    found = Found(values[:, 0], values[:, 1], error=values[:, 2] if errors else None, notes=table.notes)
    return assemble(found, unit, "Grace", where)


FORMATS = (
    Format(
        "Grace `.agr`, GROMACS `.xvg`",
        "a set of x and y (`xydy`: with errors); several sets by `--spectrum`",
        "the label of the x axis, or `--unit`",
        "grace.agr",
        lambda source: (
            re.search(r"(?m)^@\s*(?:xaxis|yaxis|title|with|version|page|target|type|s0)\b", source.head) is not None
        ),
        _read,
        ("spectrum",),
    ),
)
