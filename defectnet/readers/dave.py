"""DAVE's group files (`.grp`, NCNR): the x values, the groups' y values, and for each group densities with errors."""

import re

import numpy as np

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.nexus import choose
from defectnet.readers.reading import Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.units import find_unit

__all__ = ["FORMATS"]

_START = re.compile(r"#\s*Number of x values", re.IGNORECASE)


def _read(source: Source) -> Reading:
    where = source.where
    lines = [line.strip() for line in source.text.splitlines() if line.strip()]
    comments = [line for line in lines if line.startswith("#")]
    numbers = [line for line in lines if not line.startswith("#")]
    try:
        n_x, n_y = int(numbers[0]), int(numbers[1])
        if n_x < 1 or n_y < 1:
            raise ValueError
        x = np.array([float(line) for line in numbers[2 : 2 + n_x]])
        groups = [line.split()[0] for line in numbers[2 + n_x : 2 + n_x + n_y]]
        rows = np.array([[float(cell) for cell in line.split()] for line in numbers[2 + n_x + n_y :]])
        rows = rows.reshape(n_y, n_x, rows.shape[1])
        if rows.shape[2] not in (1, 2) or len(groups) != n_y:
            raise ValueError
    except (ValueError, IndexError):
        raise SpectrumError(
            f"{where} is not a whole group file of DAVE", fix="write or copy it again", field="file"
        ) from None
    label = comments[2] if len(comments) > 2 else ""
    said = find_unit(label)
    unit = settle_unit([(said, f"its line {label[:40]!r}")] if said else [], source.wish, where)
    group = rows[choose(groups, source.wish.spectrum, where)]
    error = group[:, 1] if group.shape[1] == 2 else None
    return assemble(Found(x, group[:, 0], error=error, origin="measured"), unit, "DAVE group file", where)


FORMATS = (
    Format(
        "DAVE `.grp`",
        "a group with its errors; several groups by `--spectrum`",
        "the label of its x values, or `--unit`",
        "dave.grp",
        lambda source: _START.match(source.head) is not None,
        _read,
        ("spectrum",),
    ),
)
