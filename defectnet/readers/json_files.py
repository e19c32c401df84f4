"""JSON: Euphonic's, pymatgen's, the Materials Project's, phonopy's dictionaries, and the project's own two dialects.

The files are read as data, without the packages: no class is made from a name in a file. A dictionary is known by its
keys, whatever it is nested in. Those of pymatgen, the Materials Project and phonopy are in THz by definition; of any
other, a key must say the unit, or the caller.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import InputError, SpectrumError, UnitError
from defectnet.io.json_depth import check_depth
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.column_names import Role, role_of
from defectnet.readers.content import Source, Wish
from defectnet.readers.euphonic_json import NAME, read_euphonic
from defectnet.readers.header import refuse_optical
from defectnet.readers.json_tables import json_tables
from defectnet.readers.reading import AxisUnit, Reading, located, said_units, settle_unit
from defectnet.readers.registry import Format
from defectnet.readers.table_text import read_table
from defectnet.readers.text import read_columns
from defectnet.spectrum import bin_centres_thz
from defectnet.units import SaidUnit, find_unit, unit_named

__all__ = ["FORMATS", "parse_json"]

_KNOWN = (
    "Euphonic Spectrum1D or Spectrum1DCollection, pymatgen PhononDos or CompletePhononDos, or a frequency and a dos"
)
# Pairs of keys whose unit is known by the definition of who writes them.
_DEFINED = {
    ("frequencies", "densities"): ("THz", "pymatgen's definition"),
    ("frequency_points", "total_dos"): ("THz", "phonopy's dictionary"),
    ("frequency_points", "projected_dos"): ("THz", "phonopy's dictionary"),
    ("phonon_dos_frequencies", "phonon_dos_intensity"): ("cm-1", "JARVIS's definition"),
}
_ELECTRONIC = ("Dos", "CompleteDos", "FermiDos", "LobsterCompleteDos")
_UNIT_KEYS = (
    "unit",
    "units",
    "frequency_unit",
    "frequency_units",
    "energy_unit",
    "energy_units",
    "x_unit",
    "x_units",
    "axis_unit",
)
_MAX_DEPTH = 4
_TABLE = "table in JSON"


def parse_json(
    text: str, unit: str | None = None, *, where: str = "text", column: str | None = None, spectrum: str | None = None
) -> Reading:
    """Read the text of a JSON file, or of JSON lines.

    Raises:
        UnitError: the file's unit is none of a frequency, nobody says it, or the caller says another.
        SpectrumError: not JSON, of another class, or several spectra where one belongs.
        InputError: there is no spectrum of the name that was asked for.
    """
    return _parse(text, Wish(unit, column, spectrum), where)


def _parse(text: str, wish: Wish, where: str) -> Reading:
    content = _load(text, where)
    found: list[tuple[str, Any]] = list(_spectra(content, ""))
    if (not found or wish.column is not None) and (tables := list(json_tables(content))):
        return read_columns(
            read_table(_choose(tables, wish, where), where), replace(wish, spectrum=None), where, _TABLE
        )
    if wish.column is not None:
        raise InputError(f"{where} has no table with columns to choose", fix="leave it out", field="--column")
    if not found:
        name = content.get("@class") or content.get(NAME) if isinstance(content, Mapping) else None
        what = f"is a {name}" if isinstance(name, str) else "is JSON of an unknown kind"
        what = what if isinstance(content, Mapping) else "holds no spectrum"
        raise SpectrumError(f"{where} {what}", fix=f"give one of {_KNOWN}", field="file")
    chosen = _choose(found, wish, where)
    if chosen.get("@class") in _ELECTRONIC or "efermi" in chosen:
        raise SpectrumError(f"{where} is an electronic density of states", fix=f"give one of {_KNOWN}", field="file")
    name = str(chosen.get("@class") or chosen.get(NAME) or "spectrum")
    try:
        if NAME in chosen:
            return read_euphonic(chosen, wish, where)
        return _dictionary(chosen, wish, where)
    except SpectrumError as error:
        raise error if error.field == "file" or where in error.message else located(error, where) from None
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        raise SpectrumError(f"{where} is not a whole {name}", fix="write it again", field="file") from None


def _load(text: str, where: str) -> Any:
    try:
        check_depth(text)
        try:
            return json.loads(text)
        except ValueError:
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            return lines
    except (ValueError, RecursionError):
        raise SpectrumError(f"{where} is not JSON", fix="write or copy it again", field="file") from None


def _spectra(content: Any, label: str, depth: int = 0) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every dictionary that holds a spectrum, with its place in the file."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(content, list) and len(content) < 10_000 and all(isinstance(item, Mapping) for item in content):
        for number, item in enumerate(content, start=1):
            name = item.get("id") or item.get("sample_id") or item.get("material_id") or number
            yield from _spectra(item, str(name) if not label else f"{label}.{name}", depth + 1)
    elif isinstance(content, Mapping):
        if (
            content.get(NAME) in ("Spectrum1D", "Spectrum1DCollection")
            or content.get("@class")
            in (
                "PhononDos",
                "CompletePhononDos",
            )
            or _keys(content) is not None
        ):
            yield label, content
        elif NAME not in content:
            for key, item in content.items():
                if isinstance(item, Mapping | list) and key not in ("structure", "reference"):
                    yield from _spectra(item, f"{label}.{key}" if label else str(key), depth + 1)


def _choose(found: list[tuple[str, Any]], wish: Wish, where: str) -> Any:
    """What the caller chooses of several things with their places in the file."""
    if len(found) == 1:
        return found[0][1]
    listed = ", ".join(f"{number} {label!r}" for number, (label, _) in enumerate(found[:12], start=1))
    wanted = wish.spectrum
    if wanted is None:
        raise SpectrumError(
            f"{where} holds {len(found)} spectra ({listed})", fix="name one with --spectrum", field="file"
        )
    named = [item for label, item in found if label == wanted]
    if not named and wanted.isdigit() and 1 <= int(wanted) <= len(found):
        named = [found[int(wanted) - 1][1]]
    if len(named) != 1:
        raise InputError(f"{where} has no single spectrum {wanted!r}", fix=f"name one of {listed}", field="--spectrum")
    return named[0]


def _keys(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of axis and density of a plain dictionary."""
    if _is_numbers(content.get("dos")) and isinstance(content.get("frequency_step_thz"), int | float):
        return "frequency_step_thz", "dos"
    for pair in _DEFINED:
        if all(key in content for key in pair) and _is_numbers(content[pair[0]]):
            return pair
    lists = [str(key) for key, value in content.items() if _is_numbers(value)]
    axes = [key for key in lists if role_of(_short(key)) == Role.AXIS]
    dense = [key for key in lists if role_of(_short(key)) in (Role.DENSITY, Role.TOTAL)]
    totals = [key for key in dense if role_of(_short(key)) == Role.TOTAL] or dense
    return (axes[0], totals[0]) if len(axes) == 1 and len(totals) == 1 else None


def _short(key: str) -> str:
    """A key without what only says which spectrum it is of: "phonon_dos_frequencies"."""
    return key.replace("phonon_dos_", "").replace("ph_dos_", "")


def _is_numbers(value: Any) -> bool:
    if isinstance(value, str):  # JARVIS writes its lists as text
        return value.count(",") > 3 and re.fullmatch(r"['\s\deE+.,-]+", value[:200]) is not None
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, int | float) for item in value[:3])


def _numbers(value: Any) -> NDArray[np.float64]:
    return np.array(value.strip("' ").split(",") if isinstance(value, str) else value, dtype=float)


def _dictionary(content: Mapping[str, Any], wish: Wish, where: str) -> Reading:
    keys = _keys(content)
    if keys is None and content.get("@class") in ("PhononDos", "CompletePhononDos"):
        keys = ("frequencies", "densities")
    assert keys is not None
    axis, density = keys
    y = _numbers(content[density])
    if density == "projected_dos":
        y = np.atleast_2d(y).sum(axis=0)
    if axis == "frequency_step_thz":
        x: NDArray[np.float64] = bin_centres_thz(y.size, float(content[axis]))
        unit = settle_unit([(unit_named("THz"), axis)], replace(wish, override_unit=False), where)
    else:
        x = _numbers(content[axis])
        unit = _unit(content, keys, wish, where)
    refuse_optical([*map(str, content)], where)
    error_key = next((key for key in content if role_of(str(key)) == Role.ERROR and _is_numbers(content[key])), None)
    kind = content.get("kind") if content.get("kind") in ("neutron", "vibrational") else None
    computed = keys in _DEFINED
    found = Found(
        x,
        y,
        error=None if error_key is None else np.array(content[error_key], dtype=float),
        partial=_sites(content),
        kind=kind or ("vibrational" if computed else None),
        origin="computed" if computed else None,
        notes=["the reference in it is not used: give it with --reference"] if content.get("reference") else [],
    )
    name = content.get("@class")
    what = f"pymatgen {name}" if name else f"JSON of {axis!r} and {density!r}"
    return assemble(found, unit, what, where)


def _unit(content: Mapping[str, Any], keys: tuple[str, str], wish: Wish, where: str) -> AxisUnit:
    said = list(said_units(lambda: _said(content, keys, where), wish))
    if not said and keys in _DEFINED:
        name, by = _DEFINED[keys]
        said.append((unit_named(name), by))
    return settle_unit(said, wish, where)


def _said(content: Mapping[str, Any], keys: tuple[str, str], where: str) -> list[tuple[SaidUnit, str]]:
    """The units that the axis's key and the keys for a unit say."""
    said = []
    if found := find_unit(keys[0]):
        said.append((found, f"the key {keys[0]!r}"))
    for key in _UNIT_KEYS:
        if isinstance(content.get(key), str):
            named = find_unit(content[key])
            if named is None:
                raise UnitError(f"{where} is in {content[key]}", fix="convert it to THz, meV or cm-1", field="unit")
            said.append((named, f"the key {key!r}"))
    return said


def _sites(content: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    """The elements' parts: the sites' densities, added up by the elements on them."""
    densities = content.get("pdos") or content.get("projected_densities")
    structure = content.get("structure")
    if not isinstance(structure, Mapping) or not isinstance(densities, list):
        return {}
    partial: dict[str, NDArray[np.float64]] = {}
    for site, density in zip(structure["sites"], densities, strict=True):
        if len(site["species"]) != 1:
            return {}  # a site shared by elements cannot be told apart
        element = str(site["species"][0]["element"])
        partial[element] = partial.get(element, np.zeros(len(density))) + np.array(density, dtype=float)
    return partial


def _read(source: Source) -> Reading:
    return _parse(source.text, source.wish, source.where)


FORMATS = (
    Format(
        "Euphonic JSON",
        "`Spectrum1D`, or a `Spectrum1DCollection` whose lines are elements or a total; neutron "
        "weighting wherever it is said",
        "the file says",
        "euphonic.json",
        lambda source: source.head.startswith("{") and NAME in source.text,
        _read,
        ("spectrum",),
    ),
    Format(
        "JSON of pymatgen, the Materials Project (emmet), matcalc, phonopy",
        "`PhononDos`, `CompletePhononDos`, "
        "`frequencies` and `densities`, `frequency_points` and `total_dos`, nested or not; .gz too",
        "THz, by definition",
        "pymatgen.json.gz",
        lambda source: (
            source.head.startswith(("{", "[")) and ("densities" in source.text or "frequency_points" in source.text)
        ),
        _read,
        ("spectrum",),
    ),
    Format(
        "any other JSON with a frequency and a dos",
        "the HTTP interface's object, a row of the spectra table, keys with such names, or a table as pandas "
        "writes it: rows that are objects (lines of them too) or lists, `columns` and `data`, columns by row",
        "a key `unit`, or the axis's key",
        "api.json",
        lambda source: source.head.startswith(("{", "[")),
        _read,
        ("column", "spectrum"),
    ),
)
