"""The chemical elements DefectNet can name, and the physical descriptors that the network reads for each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from defectnet.errors import CompositionError

__all__ = ["DESCRIPTOR_NAMES", "VOCABULARY", "Element", "atomic_mass", "check_element", "descriptors", "element"]

DESCRIPTOR_NAMES = ("log_mass", "radius_angstrom", "electronegativity", "group", "period")

# Noble gases and a few actinides have no Pauling electronegativity; the mean of the vocabulary stands in.
_MEAN_ELECTRONEGATIVITY = 1.7
_MEAN_RADIUS_ANGSTROM = 1.5


@dataclass(frozen=True)
class Element:
    """What the table says of one element.

    Attributes:
        mass_u: standard atomic mass, unified atomic mass units.
        radius_angstrom: Slater's atomic radius, Å; None where not tabulated.
        electronegativity: Pauling's; NaN where there is none.
        group, period: place in the periodic table; lanthanides and actinides are in group 3.
        ionic_radii_angstrom: charge → Shannon's radius of the ion, Å.
        oxidation_states: every state that is common or that the ICSD holds.
        usual_states: the states by which formulas are balanced, each with how many ions of it the ICSD holds.
    """

    symbol: str
    mass_u: float
    radius_angstrom: float | None
    electronegativity: float
    group: int
    period: int
    ionic_radii_angstrom: Mapping[int, float]
    oxidation_states: frozenset[int]
    usual_states: tuple[tuple[int, int], ...]


def _read_table() -> dict[str, Element]:
    text = (Path(__file__).parent / "chemistry" / "elements.json").read_text(encoding="utf-8")
    return {
        symbol: Element(
            symbol,
            values["mass_u"],
            values["radius_angstrom"],
            float("nan") if values["electronegativity"] is None else values["electronegativity"],
            values["group"],
            values["period"],
            {int(charge): radius for charge, radius in values["ionic_radii_angstrom"].items()},
            frozenset(values["oxidation_states"]),
            tuple((state, count) for state, count in values["usual_states"]),
        )
        for symbol, values in json.loads(text).items()
    }


_TABLE = _read_table()
# Hydrogen to plutonium: what the universal potentials cover. The position in this tuple is Z - 1.
VOCABULARY: tuple[str, ...] = tuple(_TABLE)


def check_element(symbol: str, *, field: str = "element") -> str:
    """Return `symbol` if it names an element of the vocabulary, else raise `CompositionError`."""
    if symbol not in _TABLE:
        raise CompositionError(
            f"{symbol!r} is not an element between H and Pu", fix="write a symbol such as Si or Ge", field=field
        )
    return symbol


def element(symbol: str) -> Element:
    """The table's row of an element; raises `CompositionError` where it is none."""
    return _TABLE[check_element(symbol)]


def atomic_mass(symbol: str) -> float:
    """Standard atomic mass in unified atomic mass units."""
    return element(symbol).mass_u


@cache
def descriptors() -> np.ndarray:
    """Physical descriptors of the vocabulary, each standardised to zero mean and unit variance.

    Returns:
        shape (94, 5), float32, rows in the order of `VOCABULARY`, columns in the order of `DESCRIPTOR_NAMES`.
    """
    rows = [
        [
            np.log(one.mass_u),
            _MEAN_RADIUS_ANGSTROM if one.radius_angstrom is None else one.radius_angstrom,
            _MEAN_ELECTRONEGATIVITY if np.isnan(one.electronegativity) else one.electronegativity,
            float(one.group),
            float(one.period),
        ]
        for one in _TABLE.values()
    ]
    table = np.asarray(rows)
    table = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
    table.setflags(write=False)
    return table
