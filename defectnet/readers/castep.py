"""CASTEP's text files: `.phonon_dos` (a density with the parts of the elements) and `.phonon` (modes on a mesh).

The unit stands in the header (`Frequencies in  cm-1`, which `.phonon` has) or above the density's columns
(`BEGIN DOS   Freq (cm-1)  g(f)   Si   O`), which name the elements too.
"""

import re

import numpy as np

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.modes import density_of_modes
from defectnet.readers.reading import AxisUnit, Broadening, Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.units import SaidUnit, find_unit

__all__ = ["FORMATS"]

_UNIT = re.compile(r"^\s*Frequencies in\s+(\S+)", re.MULTILINE)
_DOS = re.compile(r"^\s*BEGIN DOS([^\n]*)\n(.*?)^\s*END DOS", re.MULTILINE | re.DOTALL)
_ATOM = re.compile(r"^\s*\d+(?:\s+-?[\d.]+){3}\s+([A-Z][a-z]?)(?::\S+)?\s+[\d.]+\s*$", re.MULTILINE)
_Q_POINT = re.compile(r"^\s*q-pt=\s*(\d+)\s+(.*)$")


def _read(source: Source) -> Reading:
    text, where = "\n".join(source.text.splitlines()), source.where
    header, _, body = text.partition("END header")
    symbols = _ATOM.findall(header)
    said: list[tuple[SaidUnit, str]] = []
    if (match := _UNIT.search(header)) and (found := find_unit(match[1])):
        said.append((found, "its header"))
    dos = _DOS.search(text)
    try:
        if dos is not None:
            if found := find_unit(dos[1].partition(")")[0] + ")"):
                said.insert(0, (found, "the column's name in its header"))
            return _density(dos, symbols, _unit(said, source), where)
        if "BEGIN DOS" in text or "BEGIN GRADIENTS" in text:
            raise ValueError
        return _modes(body, symbols, _unit(said, source), where)
    except (ValueError, IndexError, ZeroDivisionError):
        raise SpectrumError(
            f"{where} is cut short or not laid out as CASTEP does", fix="write or copy it again", field="file"
        ) from None


def _unit(said: list[tuple[SaidUnit, str]], source: Source) -> AxisUnit:
    return settle_unit(said, source.wish, source.where, "CASTEP's default is cm-1")


def _density(found: re.Match[str], symbols: list[str], unit: AxisUnit, where: str) -> Reading:
    rows = np.array([[float(cell) for cell in line.split()] for line in found[2].splitlines() if line.strip()])
    named = re.findall(r"(?<![\w(])[A-Z][a-z]?(?![\w)(])", found[1].partition("g(f)")[2])
    elements = named or list(dict.fromkeys(symbols))
    if rows.ndim != 2 or rows.shape[1] not in (2, 2 + len(elements)):
        raise ValueError
    partial = {element: rows[:, 2 + place] for place, element in enumerate(elements)} if rows.shape[1] > 2 else {}
    density = Found(
        rows[:, 0],
        rows[:, 1],
        partial=partial,
        kind="vibrational",
        broadening=Broadening("adaptive broadening"),
        origin="computed",
    )
    return assemble(density, unit, "CASTEP .phonon_dos", where)


def _modes(body: str, symbols: list[str], unit: AxisUnit, where: str) -> Reading:
    """q-points follow each other: a line with weight, the frequencies, and the eigenvectors atom by atom."""
    n_modes = 3 * len(symbols)
    lines = body.splitlines()
    frequencies, weights, points, parts = [], [], [], []
    at = 0
    while at < len(lines):
        head = _Q_POINT.match(lines[at])
        at += 1
        if head is None:
            continue
        points.append(int(head[1]))
        weights.append(float(head[2].split()[3]))
        frequencies.append([float(line.split()[1]) for line in lines[at : at + n_modes]])
        at += n_modes
        if "Phonon Eigenvectors" not in lines[at]:
            raise ValueError
        block = [line.split() for line in lines[at + 2 : at + 2 + n_modes * len(symbols)]]
        vectors = np.array([[float(cell) for cell in row[2:8]] for row in block])
        parts.append((vectors**2).sum(axis=1).reshape(n_modes, len(symbols)))
        at += 2 + n_modes * len(symbols)
    if not points or any(len(row) != n_modes for row in frequencies) or min(points) < 0:
        raise ValueError
    # With LO-TO splitting the zone centre is there once for each direction, each time with its full weight.
    counts = np.unique(points, return_inverse=True, return_counts=True)
    weight = np.array(weights) / counts[2][counts[1]]
    squares = np.array(parts)  # (n_q, n_modes, n_atoms)
    squares /= squares.sum(axis=2, keepdims=True)
    kinds = np.array(symbols)
    shares = {element: squares[:, :, kinds == element].sum(axis=2) for element in dict.fromkeys(symbols)}
    return density_of_modes(np.array(frequencies) * unit.thz, weight, shares, where, "CASTEP .phonon", unit=unit)


def _recognises(source: Source) -> bool:
    return source.head.startswith("BEGIN header")


FORMATS = (
    Format(
        "CASTEP `.phonon_dos`",
        "the density and the elements' parts",
        "the file says",
        "castep.phonon_dos",
        lambda source: _recognises(source) and "BEGIN DOS" in source.text,
        _read,
    ),
    Format(
        "CASTEP `.phonon`",
        "density and parts of the modes on its mesh",
        "the file says",
        "castep.phonon.xz",
        _recognises,
        _read,
    ),
)
