"""CASTEP's text files: `.phonon_dos` (a density with the parts of the elements) and `.phonon` (modes on a mesh).

Both say their unit in the header, `Frequencies in  cm-1`.
"""

import re

import numpy as np

from defectnet.errors import SpectrumError
from defectnet.readers.modes import density_of_modes
from defectnet.readers.reading import Reading, known_unit
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit, thz_per

__all__ = ["parse_castep"]

_UNIT = re.compile(r"^\s*Frequencies in\s+(\S+)", re.MULTILINE)
_DOS = re.compile(r"^\s*BEGIN DOS([^\n]*)\n(.*?)^\s*END DOS", re.MULTILINE | re.DOTALL)
_ATOM = re.compile(r"^\s*\d+(?:\s+-?[\d.]+){3}\s+([A-Z][a-z]?)(?::\S+)?\s+[\d.]+\s*$", re.MULTILINE)
_Q_POINT = re.compile(r"^\s*q-pt=\s*(\d+)\s+(.*)$")


def parse_castep(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> Reading:
    """Read the text of a `.phonon_dos` or `.phonon` file.

    Raises:
        UnitError: the header names no unit that is known, or the caller another.
        SpectrumError: the file is cut short or not laid out as CASTEP does.
    """
    header = text.partition("END header")[0]
    said = _UNIT.search(header)
    if said is None:
        raise SpectrumError(f"{where} has no unit in its CASTEP header", fix="write it again", field="file")
    chosen = known_unit(parse_unit(said[1]), unit, where)
    symbols = _ATOM.findall(header)
    try:
        if "BEGIN DOS" in text or "BEGIN GRADIENTS" in text:
            return _density(text, symbols, chosen)
        return _modes(text.partition("END header")[2], symbols, chosen, where)
    except (ValueError, IndexError):
        raise SpectrumError(
            f"{where} is cut short or not laid out as CASTEP does", fix="write or copy it again", field="file"
        ) from None


def _density(text: str, symbols: list[str], unit: FrequencyUnit) -> Reading:
    found = _DOS.search(text)
    if found is None:
        raise ValueError
    rows = np.array([[float(cell) for cell in line.split()] for line in found[2].splitlines()])
    elements = list(dict.fromkeys(symbols))
    if rows.ndim != 2 or rows.shape[1] != 2 + len(elements):
        raise ValueError
    factor = thz_per(unit)
    partial = {element: rows[:, 2 + column] / factor for column, element in enumerate(elements)}
    spectrum = Spectrum.from_unit(rows[:, 0], rows[:, 1], unit)
    return Reading(spectrum, partial=partial, format="CASTEP .phonon_dos")


def _modes(body: str, symbols: list[str], unit: FrequencyUnit, where: str) -> Reading:
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
    if not points or len(frequencies[-1]) != n_modes:
        raise ValueError
    # With LO-TO splitting the zone centre is there once for each direction, each time with its full weight.
    counts = np.bincount(points)
    weight = np.array(weights) / counts[points]
    squares = np.array(parts)  # (n_q, n_modes, n_atoms)
    squares /= squares.sum(axis=2, keepdims=True)
    kinds = np.array(symbols)
    shares = {element: squares[:, :, kinds == element].sum(axis=2) for element in dict.fromkeys(symbols)}
    return density_of_modes(np.array(frequencies) * thz_per(unit), weight, shares, where, "CASTEP .phonon")
