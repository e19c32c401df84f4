"""JSON written by Euphonic (`Spectrum1D`, `Spectrum1DCollection`) and by pymatgen (`PhononDos`, `CompletePhononDos`).

The files are read as data, without the packages: no class is made from a name in a file. Euphonic names its unit in the
file; pymatgen's classes are defined in THz.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import SpectrumError, UnitError
from defectnet.io.json_depth import check_depth
from defectnet.readers.reading import Reading, known_unit, located
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit, thz_per

__all__ = ["parse_json"]

# Pint's names, as Euphonic writes them, of the three units that are read.
_PINT_UNITS = {
    "millielectron_volt": FrequencyUnit.MEV,
    "terahertz": FrequencyUnit.THZ,
    "1/centimeter": FrequencyUnit.INVERSE_CM,
}
_KNOWN = "Euphonic Spectrum1D or Spectrum1DCollection, pymatgen PhononDos or CompletePhononDos"


def parse_json(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> Reading:
    """Read the text of a JSON file.

    Raises:
        UnitError: the file's unit is none of THz, meV and cm⁻¹, or the caller says another.
        SpectrumError: not JSON, of another class, or several spectra where one belongs.
    """
    try:
        check_depth(text)
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise SpectrumError(f"{where} is not JSON", fix="write or copy it again", field="file") from None
    if not isinstance(content, dict):
        raise SpectrumError(f"{where} holds no spectrum", fix=f"give one of {_KNOWN}", field="file")
    name = content.get("__euphonic_class__") or content.get("@class")
    readers = {
        "Spectrum1D": _euphonic,
        "Spectrum1DCollection": _euphonic,
        "PhononDos": _pymatgen,
        "CompletePhononDos": _pymatgen,
    }
    if name not in readers:
        what = f"a {name}" if isinstance(name, str) else "JSON of an unknown kind"
        raise SpectrumError(f"{where} is {what}", fix=f"give one of {_KNOWN}", field="file")
    try:
        return readers[name](content, unit, where)
    except SpectrumError as error:
        raise error if error.field == "file" else located(error, where) from None
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise SpectrumError(f"{where} is not a whole {name}", fix="write it again", field="file") from None


def _euphonic(content: Mapping[str, Any], unit: FrequencyUnit | str | None, where: str) -> Reading:
    name = str(content["x_data_unit"]).replace(" ", "")
    try:
        said = _PINT_UNITS[name] if name in _PINT_UNITS else parse_unit(name)
    except UnitError:
        raise UnitError(f"{where} is in {name}", fix="convert it to THz, meV or cm-1", field="unit") from None
    chosen = known_unit(said, unit, where)
    x = np.array(content["x_data"], dtype=float)
    lines = np.atleast_2d(np.array(content["y_data"], dtype=float))
    metadata = content.get("metadata") or {}
    if x.size == lines.shape[1] + 1:  # edges of bins
        x = 0.5 * (x[1:] + x[:-1])
    factor = thz_per(chosen)
    weighting = str(metadata.get("weighting") or "")
    kind = "neutron" if weighting.startswith(("coherent", "incoherent")) else None
    total = lines[0]
    partial: dict[str, NDArray[np.float64]] = {}
    if content["__euphonic_class__"] == "Spectrum1DCollection":
        total, partial = _collection(lines, metadata, where)
    return Reading(
        Spectrum.from_unit(x, total, chosen),
        partial={element: values / factor for element, values in partial.items()},
        kind=kind,
        format=f"Euphonic {content['__euphonic_class__']}",
    )


def _collection(
    lines: NDArray[np.float64], metadata: Mapping[str, Any], where: str
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """The total, and the elements' parts, of a collection whose lines are named by element or "Total"."""
    # What all lines share stands above `line_data`.
    named = [{**metadata, **line} for line in metadata.get("line_data") or [{}] * len(lines)]
    totals = [row for row, line in zip(lines, named, strict=True) if str(line.get("label", "")).lower() == "total"]
    partial: dict[str, NDArray[np.float64]] = {}
    for row, line in zip(lines, named, strict=True):
        if species := line.get("species"):
            partial[str(species)] = partial.get(str(species), 0.0) + row
    if len(totals) == 1:
        return totals[0], partial
    if len(lines) == 1:
        return lines[0], partial
    if len(partial) and all(line.get("species") for line in named):
        return np.sum(lines, axis=0), partial
    raise SpectrumError(
        f"{where} holds {len(lines)} spectra that are not the parts of one",
        fix="give a single one, or one line for each element",
        field="file",
    )


def _pymatgen(content: Mapping[str, Any], unit: FrequencyUnit | str | None, where: str) -> Reading:
    chosen = known_unit(FrequencyUnit.THZ, unit, where)
    spectrum = Spectrum.from_unit(content["frequencies"], content["densities"], chosen)
    partial: dict[str, NDArray[np.float64]] = {}
    if content["@class"] == "CompletePhononDos":
        sites = content["structure"]["sites"]
        for site, density in zip(sites, content["pdos"], strict=True):
            if len(site["species"]) != 1:
                continue  # a site shared by elements cannot be told apart
            element = str(site["species"][0]["element"])
            partial[element] = partial.get(element, 0.0) + np.array(density, dtype=float)
    return Reading(spectrum, partial=partial, format=f"pymatgen {content['@class']}")
