"""Mantid's processed workspaces (`SaveNexusProcessed`).

`values`, `errors` and `axis1`, whose `units` name Mantid's own unit; `distribution` says whether the values are
densities (1) or counts for each bin (0), which differ wherever the bins are unequal.
"""

from typing import Any

import numpy as np

from defectnet.errors import SpectrumError, UnitError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.nexus import attribute, choose, opened
from defectnet.readers.reading import AxisUnit, Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.units import SaidUnit, find_unit, unit_named

__all__ = ["FORMATS"]

# Mantid's unit ids (docs.mantidproject.org, Unit Factory) that are an energy transfer or an energy.
_UNITS = {
    "deltae": "meV",
    "energy": "meV",
    "deltae_inwavenumber": "cm-1",
    "energy_inwavenumber": "cm-1",
    "deltae_infrequency": "GHz",
}
# Ids that say nothing of the axis but what a label beside them does.
_OPEN = ("", "label", "empty", "text")
_GIVE = "save one workspace with SaveNexusProcessed, its axis in DeltaE"


def _read(source: Source) -> Reading:
    return opened(source, lambda file: _workspaces(file, source), _GIVE)


def _workspaces(file: Any, source: Source) -> Reading:
    where = source.where
    spectra: list[tuple[str, Any, int]] = []
    for entry in sorted((name for name in file if name.startswith("mantid_workspace_")), key=_number):
        if "workspace" not in file[entry]:
            raise SpectrumError(
                f"{where} holds a workspace without a histogram (events or a table)",
                fix="rebin it and save it with SaveNexusProcessed",
                field="file",
            )
        group = file[entry]["workspace"]
        rows = np.atleast_2d(group["values"]).shape[0] if group["values"].ndim else 1
        name = _name(file[entry]) or entry
        spectra += [(name if rows == 1 else f"{name} {row + 1}", group, row) for row in range(rows)]
    _, group, row = spectra[choose([label for label, _, _ in spectra], source.wish.spectrum, where)]
    axis = group["axis1"]
    x = np.atleast_2d(np.asarray(axis[()], dtype=float))
    x = x[row if x.shape[0] > 1 else 0]
    y = np.atleast_2d(np.asarray(group["values"][()], dtype=float))[row]
    error = np.atleast_2d(np.asarray(group["errors"][()], dtype=float))[row] if "errors" in group else None
    if x.size not in (y.size, y.size + 1):
        shapes = f"{x.size} points for densities of shape {y.shape}"
        raise SpectrumError(f"{where} has {shapes}", fix="reduce it to one spectrum", field="file")
    counts = attribute(axis, "distribution").strip() == "0" and x.size == y.size + 1
    found = Found(x, y, error=error, counts=counts, origin="measured")
    return assemble(found, _unit(axis, source), "Mantid NeXus", where)


def _number(entry: str) -> int:
    digits = entry.rpartition("_")[2]
    return int(digits) if digits.isdigit() else 0


def _name(entry: Any) -> str:
    for name in ("workspace_name", "title"):
        if name in entry:
            value = np.asarray(entry[name][()]).ravel()
            if value.size and (text := value[0].decode() if isinstance(value[0], bytes) else str(value[0])):
                return text
    return ""


def _unit(axis: Any, source: Source) -> AxisUnit:
    where, name = source.where, attribute(axis, "units").strip()
    known = _UNITS.get(name.lower())
    if known is not None:
        unit = find_unit(known) or unit_named("THz")
        return settle_unit([(unit, f"Mantid's unit {name!r}")], source.wish, where)
    labels = [attribute(axis, key) for key in ("label", "caption", "symbol", "long_name")]
    said = [(found, "the axis's label") for words in (name, *labels) if (found := find_unit(words))]
    if not said and name.lower() not in _OPEN and source.wish.override_unit:
        said = [(SaidUnit(name, None), "Mantid's unit")]
    if not said and name.lower() not in _OPEN:
        raise UnitError(
            f"{where} has {name!r} on its axis", fix="convert it to DeltaE (meV) or DeltaE_inWavenumber", field="unit"
        )
    return settle_unit(said, source.wish, where)


FORMATS = (
    Format(
        "Mantid `SaveNexusProcessed`",
        "a spectrum of a workspace, with errors; counts over the widths of their bins; "
        "several spectra or workspaces by `--spectrum`",
        "the file says",
        "mantid.nxs",
        lambda source: any(name.startswith("mantid_workspace_") for name in source.names),
        _read,
        ("spectrum",),
    ),
)
