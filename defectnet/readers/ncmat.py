"""NCrystal's material files (`.ncmat`): the vibrational densities of its elements, in eV.

`@DYNINFO` sections with `type vdos` hold a grid (`vdos_egrid`: all its points, or the first and the last) and densities
of any scale; the crystal's density is their sum, each of three modes for each of its atoms. Format: NCrystal's wiki,
"NCMAT format".
"""

import re
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import SpectrumError
from defectnet.readers.assemble import Found, assemble
from defectnet.readers.content import Source
from defectnet.readers.reading import Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.spectrum import MODES_PER_ATOM, Spectrum
from defectnet.units import SaidUnit, find_unit

__all__ = ["FORMATS"]

_DIGITS = 7  # of THz: nearer points are one
_REPEATED = re.compile(r"(\S+?)r(\d+)")


@dataclass
class _Section:
    words: dict[str, list[str]] = field(default_factory=dict)

    def numbers(self, key: str) -> NDArray[np.float64]:
        values: list[float] = []
        for word in self.words[key]:
            match = _REPEATED.fullmatch(word)
            values += [float(match[1])] * int(match[2]) if match else [float(word)]
        return np.array(values)


def _sections(text: str) -> list[_Section]:
    found: list[_Section] = []
    inside, key = False, ""
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("@"):
            inside = line == "@DYNINFO"
            if inside:
                found.append(_Section())
            continue
        for place, word in enumerate(line.split()):
            if not inside:
                break
            if place == 0 and re.match(r"[a-z_]+$", word):
                key = word
                found[-1].words[key] = []
            elif key:
                found[-1].words[key].append(word)
    return found


def _density(section: _Section) -> tuple[str, float, Spectrum]:
    """Element, fraction of the atoms, and density of three modes, on an axis in THz."""
    grid, density = section.numbers("vdos_egrid"), section.numbers("vdos_density")
    if grid.size == 2:
        grid = np.linspace(grid[0], grid[1], density.size)
    share = section.words["fraction"][0]
    numerator, _, denominator = share.partition("/")
    spectrum = Spectrum(grid * (_EV.thz or 0.0), density).normalised()
    return section.words["element"][0], float(numerator) / float(denominator or 1), spectrum


_EV = find_unit("eV") or SaidUnit("eV", None)


def _read(source: Source) -> Reading:
    where = source.where
    unit = settle_unit([(_EV, "NCMAT")], replace(source.wish, override_unit=False), where)
    try:
        sections = _sections(source.text)
        kinds = {section.words.get("type", [""])[0] for section in sections}
        if kinds != {"vdos"}:
            have = ", ".join(sorted(kind for kind in kinds if kind)) or "none"
            raise SpectrumError(
                f"{where} does not give each element a density of states (types: {have})",
                fix="give a material whose elements all have `type vdos`",
                field="file",
            )
        parts = [_density(section) for section in sections]
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        raise SpectrumError(f"{where} is not a whole NCMAT file", fix="write or copy it again", field="file") from None
    # Every point of every element's grid, so that no narrow peak falls between two.
    axis = np.unique(np.concatenate([spectrum.frequency_thz.round(_DIGITS) for _, _, spectrum in parts]))
    partial: dict[str, NDArray[np.float64]] = {}
    for element, share, spectrum in parts:
        density = np.interp(axis, spectrum.frequency_thz, spectrum.dos, left=0.0, right=0.0)
        partial[element] = partial.get(element, np.zeros_like(axis)) + share * density
    thz = unit.thz
    found = Found(
        axis / thz,
        np.sum(list(partial.values()), axis=0) * thz,
        partial={element: values * thz for element, values in partial.items()},
        kind="vibrational",
        notes=[f"its densities were scaled to {MODES_PER_ATOM:.0f} modes for each atom"] if len(parts) > 1 else [],
    )
    return assemble(found, unit, "NCMAT", where)


FORMATS = (
    Format(
        "NCrystal `.ncmat`",
        "the densities of its elements (`@DYNINFO`, `type vdos`) and their sum",
        "eV, by definition",
        "ncrystal.ncmat",
        lambda source: source.head.startswith("NCMAT"),
        _read,
    ),
)
