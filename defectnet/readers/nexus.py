"""NeXus/HDF5 files of a reduced density of states: NXdata by the standard.

NXdata (https://manual.nexusformat.org/classes/base_classes/NXdata.html): the group that the `default` attributes lead
to, or the only one there is; `signal`, `axes`, `SIGNAL_errors`, `uncertainties` or `errors`, and the axis's `units`; or
the older way, with `signal` and `axis` as attributes of the data sets.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from defectnet.errors import InputError, SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.header import refuse_optical
from defectnet.readers.not_read import HDF5_NOT_READ
from defectnet.readers.reading import Reading, unit_words
from defectnet.readers.registry import Format
from defectnet.units import find_unit

__all__ = ["FORMATS", "attribute", "choose", "opened"]

_GIVE = "give an NXdata group with a signal and one axis"


def opened(source: Source, read: Callable[[Any], Reading], give: str) -> Reading:
    """Open the bytes of an HDF5 file and read them; whatever h5py raises becomes one sentence.

    Raises:
        SpectrumError: no HDF5 file, or not what it should hold; `give` says what that is.
    """
    import h5py

    where = source.where
    try:
        file = h5py.File(io.BytesIO(source.content), "r")
    except (OSError, RuntimeError) as problem:
        reason = str(problem).splitlines()[0][:80]
        raise SpectrumError(
            f"{where} is not a readable HDF5 file ({reason})", fix="write or copy it again", field="file"
        ) from None
    with file:
        try:
            return read(file)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, RuntimeError):
            raise SpectrumError(f"{where} holds no whole NeXus spectrum", fix=give, field="file") from None


def attribute(item: Any, name: str) -> str:
    """An attribute as text; empty where there is none."""
    value = item.attrs.get(name, "")
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def choose(labels: Sequence[str], wanted: str | None, where: str) -> int:
    """The place of the one spectrum, or of the one that the caller names (by its name, or its number from 1 on).

    Raises:
        SpectrumError: several, and none is named; lists them.
        InputError: there is none of that name.
    """
    listed = ", ".join(f"{number} {label!r}" for number, label in enumerate(labels[:12], start=1))
    if wanted is None:
        if len(labels) == 1:
            return 0
        raise SpectrumError(
            f"{where} holds {len(labels)} spectra ({listed})", fix="name one with --spectrum", field="file"
        )
    found = [place for place, label in enumerate(labels) if label == wanted]
    if not found and wanted.isdigit() and 1 <= int(wanted) <= len(labels):
        found = [int(wanted) - 1]
    if len(found) != 1:
        raise InputError(f"{where} has no single spectrum {wanted!r}", fix=f"name one of {listed}", field="--spectrum")
    return found[0]


def _read(source: Source) -> Reading:
    return opened(source, lambda file: _nxdata(file, source), _GIVE)


def _nxdata(file: Any, source: Source) -> Reading:
    where = source.where
    group = _default(file)
    if group is None:
        found: list[Any] = []
        file.visititems(lambda name, item: found.append(item) if attribute(item, "NX_class") == "NXdata" else None)
        if not found:
            raise SpectrumError(f"{where} has no NXdata group", fix=_GIVE, field="file")
        group = found[choose([item.name for item in found], source.wish.spectrum, where)]
    signal, axis = _signal(group), _axis(group)
    y, x = np.asarray(group[signal][()], dtype=float), np.asarray(group[axis][()], dtype=float)
    errors = next(
        (n for n in (f"{signal}_errors", attribute(group[signal], "uncertainties"), "errors") if n and n in group), None
    )
    error = None if errors is None else np.asarray(group[errors][()], dtype=float)
    y, error, x = np.squeeze(y), None if error is None else np.squeeze(error), np.squeeze(x)
    if y.ndim != 1 or x.ndim != 1 or x.size not in (y.size, y.size + 1):
        shapes = f"{x.size} points for densities of shape {y.shape}"
        raise SpectrumError(f"{where} has {shapes}", fix="reduce it to one spectrum", field="file")
    long_name = attribute(group[axis], "long_name")
    refuse_optical([signal, axis, long_name, attribute(group[signal], "long_name"), attribute(group, "title")], where)
    words = (
        attribute(group[axis], "units")
        or (long_name if find_unit(long_name) else "")
        or (axis if find_unit(axis) else "")
    )
    unit = unit_words(words, source.wish, where, "the axis's attribute")
    counts = "count" in (attribute(group[signal], "units") + signal).lower() and x.size == y.size + 1
    return assemble(Found(x, y, error=error, counts=counts, origin=None), unit, "NeXus", where)


def _default(file: Any) -> Any:
    group = file
    while "default" in group.attrs and attribute(group, "default") in group:
        group = group[attribute(group, "default")]
    return group if attribute(group, "NX_class") == "NXdata" else None


def _signal(group: Any) -> str:
    if "signal" in group.attrs:
        return attribute(group, "signal")
    (name,) = [name for name in group if attribute(group[name], "signal") == "1"]
    return str(name)


def _axis(group: Any) -> str:
    if "axes" in group.attrs:
        (name,) = [
            value.decode() if isinstance(value, bytes) else str(value) for value in np.atleast_1d(group.attrs["axes"])
        ]
        return name
    written = attribute(group[_signal(group)], "axes").strip("[] ")
    if written:
        return written.replace(",", ":").split(":")[-1].strip()
    (name,) = [name for name in group if attribute(group[name], "axis") == "1"]
    return str(name)


def _recognises(source: Source) -> bool:
    is_hdf5 = source.content.startswith(b"\x89HDF\r\n\x1a\n")
    return is_hdf5 and not any(known.recognises(source) for known in HDF5_NOT_READ)


FORMATS = (
    Format(
        "NeXus, HDF5",
        "NXdata with one axis, by the standard or as it was before; with errors; several groups by `--spectrum`",
        "the axis's attribute `units`, or `--unit`",
        "nexus.nxs",
        _recognises,
        _read,
        ("spectrum",),
    ),
)
