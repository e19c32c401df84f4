"""GPUMD's `dos.out`: four columns without header, the *angular* frequency (rad/ps) and the densities along x, y, z."""

import numpy as np

from defectnet.errors import SpectrumError, UnitError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.reading import AxisUnit, Reading
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.units import find_unit

__all__ = ["FORMATS"]


def _read(source: Source) -> Reading:
    where = source.where
    if source.wish.unit is not None:
        raise UnitError(
            f"{where} is GPUMD's and has angular frequencies (rad/ps)", fix="leave the unit out", field="unit"
        )
    table = read_table(source.text, where)
    values = np.array(table.blocks[0].rows)
    if len(table.blocks) > 1 or values.shape[1] != 4 or np.any(np.diff(values[:, 0]) <= 0):
        raise SpectrumError(f"{where} holds several groups of atoms", fix="give the density of all atoms", field="file")
    found = Found(values[:, 0], values[:, 1:].sum(axis=1), kind="vibrational", origin="computed", notes=table.notes)
    return assemble(found, AxisUnit("rad/ps", 1.0 / (2.0 * np.pi), "GPUMD"), "GPUMD dos.out", where)


def _recognises(source: Source) -> bool:
    if source.stem != "dos.out" or not source.text or find_unit(source.head[:200]):
        return False
    return all(len(line.split()) == 4 for line in source.head.splitlines()[:3])


FORMATS = (
    Format(
        "GPUMD `dos.out`",
        "the sum of its three directions; known by its name, for it has no header",
        "rad/ps, by definition",
        "dos.out",
        _recognises,
        _read,
    ),
)
