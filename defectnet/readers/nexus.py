"""NeXus/HDF5 files of a reduced density of states: NXdata by the standard, and Mantid's processed workspaces.

NXdata (https://manual.nexusformat.org/classes/base_classes/NXdata.html): the group that the `default` attributes lead
to, or the only one there is; `signal`, `axes`, `SIGNAL_errors` or `errors`, and the axis's `units`. Mantid
(`SaveNexusProcessed`): `values`, `errors` and `axis1`, whose `units` name Mantid's own unit.
"""

from pathlib import Path
from typing import Any

import numpy as np

from defectnet.errors import SpectrumError, UnitError
from defectnet.readers.reading import Reading, known_unit, located, unit_for, usable_error
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit, parse_unit, thz_per

__all__ = ["read_nexus"]

_MANTID_UNITS = {"deltae": FrequencyUnit.MEV, "deltae_inwavenumber": FrequencyUnit.INVERSE_CM}
_GIVE = "give an NXdata group with a signal and one axis"


def read_nexus(path: Path, unit: FrequencyUnit | str | None = None) -> Reading:
    """Read one spectrum of an HDF5 file.

    Raises:
        UnitError: the axis names no unit and the caller none, or they contradict each other.
        SpectrumError: no HDF5 file, or no one-dimensional spectrum in it.
    """
    import h5py

    where = str(path)
    try:
        with h5py.File(path, "r") as file:
            group, what = _find(file, where)
            x, y, error, said = (_mantid if what.startswith("Mantid") else _nxdata)(group, where)
    except OSError as problem:
        reason = str(problem).splitlines()[0][:80]
        raise SpectrumError(
            f"{where} is not a readable HDF5 file ({reason})", fix="write or copy it again", field="file"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise SpectrumError(f"{where} holds no whole NeXus spectrum", fix=_GIVE, field="file") from None
    y = np.squeeze(y)
    if y.ndim != 1 or x.ndim != 1 or x.size not in (y.size, y.size + 1):
        shapes = f"{x.size} points for densities of shape {y.shape}"
        raise SpectrumError(f"{where} has {shapes}", fix="reduce it to one spectrum", field="file")
    if x.size == y.size + 1:
        x = 0.5 * (x[1:] + x[:-1])
    chosen = _unit(said, unit, where)
    try:
        spectrum = Spectrum.from_unit(x, y, chosen)
    except SpectrumError as problem:
        raise located(problem, where) from None
    errors = None if error is None else usable_error(np.squeeze(error), thz_per(chosen), where)
    return Reading(spectrum, errors, format=what)


def _unit(said: str, given: FrequencyUnit | str | None, where: str) -> FrequencyUnit:
    if not said:
        return unit_for(given, where)
    try:
        unit = _MANTID_UNITS.get(said.lower()) or parse_unit(said)
    except UnitError:
        raise UnitError(f"{where} is in {said!r}", fix="convert it to THz, meV or cm-1", field="unit") from None
    return known_unit(unit, given, where)


def _find(file: Any, where: str) -> tuple[Any, str]:
    """The group that holds the spectrum, and what kind of file it is."""
    if "mantid_workspace_1/workspace" in file:
        return file["mantid_workspace_1/workspace"], "Mantid NeXus"
    group = file
    while "default" in group.attrs and _text(group.attrs["default"]) in group:
        group = group[_text(group.attrs["default"])]
    if _is_nxdata(group):
        return group, "NeXus"
    found: list[Any] = []
    file.visititems(lambda name, item: found.append(item) if _is_nxdata(item) else None)
    if len(found) != 1:
        many = f"{len(found)} NXdata groups and no default" if found else "no NXdata group"
        raise SpectrumError(f"{where} has {many}", fix=_GIVE, field="file")
    return found[0], "NeXus"


def _is_nxdata(item: Any) -> bool:
    return _text(item.attrs.get("NX_class", "")) == "NXdata"


def _nxdata(group: Any, where: str) -> tuple[Any, Any, Any, str]:
    signal = _text(group.attrs["signal"])
    (axis,) = [_text(name) for name in np.atleast_1d(group.attrs["axes"])]
    error = next((group[name][()] for name in (f"{signal}_errors", "errors") if name in group), None)
    units = _text(group[axis].attrs.get("units", ""))
    return np.asarray(group[axis][()], dtype=float), np.asarray(group[signal][()], dtype=float), error, units


def _mantid(group: Any, where: str) -> tuple[Any, Any, Any, str]:
    error = group["errors"][()] if "errors" in group else None
    axis = group["axis1"]
    units = _text(axis.attrs.get("units", ""))
    return np.squeeze(np.asarray(axis[()], dtype=float)), np.asarray(group["values"][()], dtype=float), error, units


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode() if isinstance(value, bytes) else str(value)
