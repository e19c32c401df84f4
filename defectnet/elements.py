"""The chemical elements DefectNet can name, and the physical descriptors that the network reads for each."""

from functools import cache

import numpy as np
from pymatgen.core.periodic_table import Element

from defectnet.errors import CompositionError

__all__ = ["DESCRIPTOR_NAMES", "VOCABULARY", "atomic_mass", "check_element", "descriptors"]

# Hydrogen to plutonium: what the universal potentials cover. The position in this tuple is Z - 1.
VOCABULARY: tuple[str, ...] = tuple(Element.from_Z(z).symbol for z in range(1, 95))
_KNOWN = frozenset(VOCABULARY)

DESCRIPTOR_NAMES = ("log_mass", "radius_angstrom", "electronegativity", "group", "period")

# Noble gases and a few actinides have no Pauling electronegativity; the mean of the vocabulary stands in.
_MEAN_ELECTRONEGATIVITY = 1.7
_MEAN_RADIUS_ANGSTROM = 1.5


def check_element(symbol: str, *, field: str = "element") -> str:
    """Return `symbol` if it names an element of the vocabulary, else raise `CompositionError`."""
    if symbol not in _KNOWN:
        raise CompositionError(
            f"{symbol!r} is not an element between H and Pu", fix="write a symbol such as Si or Ge", field=field
        )
    return symbol


@cache
def atomic_mass(symbol: str) -> float:
    """Standard atomic mass in unified atomic mass units."""
    return float(Element(check_element(symbol)).atomic_mass)


def _or_mean(value: float | None, mean: float) -> float:
    return mean if value is None or not np.isfinite(value) else float(value)


@cache
def descriptors() -> np.ndarray:
    """Physical descriptors of the vocabulary, each standardised to zero mean and unit variance.

    Returns:
        shape (94, 5), float32, rows in the order of `VOCABULARY`, columns in the order of `DESCRIPTOR_NAMES`. Masses,
        radii (Slater's atomic radii) and Pauling electronegativities are pymatgen's.
    """
    rows = []
    for symbol in VOCABULARY:
        element = Element(symbol)
        electronegativity = element.X if element.Z not in (2, 10, 18) else None
        rows.append(
            [
                np.log(float(element.atomic_mass)),
                _or_mean(element.atomic_radius, _MEAN_RADIUS_ANGSTROM),
                _or_mean(electronegativity, _MEAN_ELECTRONEGATIVITY),
                float(element.group),
                float(element.row),
            ]
        )
    table = np.asarray(rows)
    table = ((table - table.mean(axis=0)) / table.std(axis=0)).astype(np.float32)
    table.setflags(write=False)
    return table
