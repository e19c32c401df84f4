"""How much stiffer or softer a dopant's bonds are than those of the atom it replaces, predicted from chemistry.

A bond of the host from the replaced element Y to its neighbour Z is scaled by s when the dopant X takes the site:
Φ(XZ) = s Φ(YZ), for every pair of nearest neighbours; the atoms' own constants follow from the acoustic sum rule. What
s is was learned from pairs of DFT crystals of one structure, one with Y and one with X throughout: the least-squares
scale of the block of force constants between the same two sites. `make springs` fits the model again and judges it on
left-out formulas.

The model is gradient boosting on the elements' descriptors and the bond's geometry. Five were fitted, each without one
fifth of all formulas (as host and as end member); a host is answered by the one that has not seen it, so that what the
model says of a crystal of the database is as good as what it says of a new one.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element

from datagen.cells import Cell
from datagen.embedding import Site
from datagen.endmembers import Endmember
from datagen.force_constants import impose_sum_rule
from datagen.parents import Parent
from datagen.sampling import Plan
from datagen.supercells import Supercell, choose_matrix
from defectnet.host import Host

__all__ = [
    "N_FOLDS",
    "Bond",
    "ScaledBonds",
    "Springs",
    "bond_features",
    "bond_scales",
    "bonds_of",
    "cell_of_bonds",
    "fold_of",
    "length_key",
    "packaged_springs",
]

Array = NDArray[np.float64]

N_FOLDS = 5
# Bonds of one neighbour whose lengths differ by less than this belong together, Å.
_SAME_LENGTH = 0.01
# Atoms of the cell in which a host's bonds are looked at; only the first shell matters.
_CELL_ATOMS = 64
# Bounds of a scale: beyond them the two crystals have no bond in common.
_LEAST_SCALE, _MOST_SCALE = 0.15, 6.0


@dataclass(frozen=True)
class Bond:
    """The bonds of one site to neighbours of one element at one distance.

    Attributes:
        neighbour: the element.
        length: Å.
        count: how many there are.
        along: mean force constant along the bond, eV/Å² (negative where it holds).
        on_site: trace of the site's own force constants, eV/Å².
    """

    neighbour: str
    length: float
    count: int
    along: float
    on_site: float


def fold_of(formula: str) -> int:
    """The fold of a formula: the model of this number has not seen it."""
    return int.from_bytes(hashlib.sha256(Host(formula).formula.encode()).digest()[:8], "big") % N_FOLDS


def bonds_of(parent: Parent, element: str) -> list[Bond]:
    """The bonds of the sites of `element`, means over equal ones on all of these sites."""
    cell = cell_of_bonds(parent)
    return [bond for bond, _, _ in _bonds(cell, parent.compact_force_constants(cell), element)]


def bond_scales(host: Parent, end: Endmember, replaces: str, dopant: str) -> list[tuple[Bond, float, float]]:
    """What the model learns from: the host's bonds, ln s of each in an end member, and how much it matters.

    A bond between two atoms of the replaced element is between two dopants in the end member: one dopant scales it by
    the root.

    Returns:
        bonds with ln s, bounded, and the share of the site's stiffness that they hold, squared and at most 1.
    """
    cell = cell_of_bonds(host)
    compact = host.compact_force_constants(cell)
    return [
        (
            bond,
            (0.5 if bond.neighbour == replaces else 1.0) * math.log(min(max(scale, _LEAST_SCALE), _MOST_SCALE)),
            weight,
        )
        for bond, scale, weight in _bonds(cell, compact, replaces, end.compact_force_constants(cell))
        if math.isfinite(scale)
    ]


def cell_of_bonds(parent: Parent) -> Supercell:
    """The cell in which a host's bonds are looked at."""
    return Supercell(parent.primitive, choose_matrix(parent.primitive, max(_CELL_ATOMS, 2 * len(parent.primitive))))


def _bonds(
    cell: Supercell, compact: Array, element: str, other: Array | None = None
) -> list[tuple[Bond, float, float]]:
    """Bonds of `element`, the least-squares scale to the constants of `other`, and their share of the stiffness."""
    vectors, lengths = cell.neighbours
    symbols = cell.primitive.get_chemical_symbols()
    sites = [k for k, symbol in enumerate(symbols) if symbol == element]
    gathered: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for k in sites:
        on_site = float(np.trace(compact[k, :, 0, k, :]))
        for point, second, image in np.argwhere(cell.bonded[k]):
            length = float(lengths[k, point, second, image])
            along = vectors[k, point, second, image] / length
            block = compact[k, :, point, second, :]
            product = 0.0 if other is None else float((block * other[k, :, point, second, :]).sum())
            figures = length, float(along @ block @ along), on_site, product, float((block * block).sum())
            gathered[symbols[second], length_key(length)].append(figures)
    found = []
    for (neighbour, _), values in sorted(gathered.items()):
        length, strength, on_site, product, square = np.mean(values, axis=0).tolist()
        count = max(1, round(len(values) / len(sites)))
        weight = min(square * count / max((on_site / 3.0) ** 2, 1e-9), 1.0)
        found.append((Bond(neighbour, length, count, strength, on_site), product / max(square, 1e-12), weight))
    return found


def length_key(length: float) -> int:
    """A bond's length as `Springs.scales` names it."""
    return round(length / _SAME_LENGTH)


@cache
def _described(symbol: str) -> tuple[float, ...]:
    """Atomic, calculated atomic and mean ionic radius (Å), electronegativity, group, period, log mass, Mendeleev number
    over 100 and melting point in 1000 K: what pymatgen tabulates, with middling values where it has none."""
    element = Element(symbol)
    radius = float(element.atomic_radius or 1.5)
    return (
        radius,
        float(element.atomic_radius_calculated or radius),
        float(element.average_ionic_radius or 0.9),
        float(element.X) if element.Z not in (2, 10, 18) else 3.0,
        float(element.group),
        float(element.row),
        math.log(float(element.atomic_mass)),
        float(element.mendeleev_no or 50) / 100.0,
        float(element.melting_point or 500.0) / 1000.0,
    )


def bond_features(bond: Bond, replaced: str, dopant: str) -> list[float]:
    """What the model reads of a bond whose atom `replaced` gives way to `dopant`; 44 numbers."""
    new, old, beside = (_described(symbol) for symbol in (dopant, replaced, bond.neighbour))
    ionic, pull = 2, 3
    return [
        *(x - y for x, y in zip(new, old, strict=True)),
        *old,
        *beside,
        *new,
        bond.length,
        bond.length / max(old[ionic] + beside[ionic], 0.2),
        bond.length / max(new[ionic] + beside[ionic], 0.2),
        float(bond.count),
        -bond.along,
        math.log(max(bond.on_site, 0.1)),
        abs(new[pull] - beside[pull]) - abs(old[pull] - beside[pull]),
        float(bond.neighbour == replaced),
    ]


class Springs:
    """Boosted trees, one set a fold, as plain arrays.

    Args:
        arrays: for each fold k `feature_k`, `threshold_k`, `left_k`, `right_k`, `value_k`, all of shape (trees, nodes);
            a leaf has the feature −1. `base`: shape (folds,).
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        self._arrays = {name: np.asarray(values) for name, values in arrays.items()}

    def log_scales(self, features: Array, fold: int) -> Array:
        """ln s of bonds with `features`, shape (n, 44), by the model that has not seen `fold`."""
        feature, threshold, left, right, value = (
            self._arrays[f"{name}_{fold}"] for name in ("feature", "threshold", "left", "right", "value")
        )
        trees = np.arange(len(feature))[:, None]
        node = np.zeros((len(feature), len(features)), dtype=np.int64)
        rows = np.arange(len(features))[None, :]
        for _ in range(feature.shape[1]):
            split = feature[trees, node]
            inner = split >= 0
            if not inner.any():
                break
            goes_left = features[rows, np.maximum(split, 0)] <= threshold[trees, node]
            node = np.where(inner, np.where(goes_left, left[trees, node], right[trees, node]), node)
        return np.asarray(value[trees, node].sum(axis=0) + float(self._arrays["base"][fold]))

    def scales(
        self, parent: Parent, dopant: str, replaced: str, bonds: Sequence[Bond] | None = None
    ) -> dict[tuple[str, int], float]:
        """By (neighbour, length in hundredths of an Å), the factor of the bonds of `dopant` on sites of `replaced`.

        `bonds` are those of these sites (`bonds_of`), where they are known already.
        """
        bonds = bonds_of(parent, replaced) if bonds is None else bonds
        features = np.array([bond_features(bond, replaced, dopant) for bond in bonds])
        logs = self.log_scales(features, fold_of(parent.host.formula))
        bounded = np.clip(np.exp(logs), _LEAST_SCALE, _MOST_SCALE)
        return {(b.neighbour, length_key(b.length)): float(s) for b, s in zip(bonds, bounded, strict=True)}


@cache
def packaged_springs() -> Springs:
    """The model that ships with the package."""
    with as_file(files("datagen") / "springs.npz") as path, np.load(path, allow_pickle=False) as arrays:
        return Springs(dict(arrays))


class ScaledBonds:
    """A method (`datagen.methods.Method`) by which the dopants' bonds are the host's, scaled; it knows no strain."""

    def __init__(self, scales: Mapping[tuple[str, str], Mapping[tuple[str, int], float]]) -> None:
        """`scales`: by (replaced, dopant), what `Springs.scales` gives; 1 where a bond is not named."""
        self._scales = scales

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """See `datagen.methods.Method`."""
        supercell = cell.supercell
        n, n_basis = supercell.n_atoms, supercell.n_basis
        symbols = supercell.primitive.get_chemical_symbols()
        images, lengths = supercell.nearest_images[0], supercell.neighbours[1]
        factor = np.ones((n, n))
        for site in sites:
            known = self._scales.get((symbols[site.basis], site.element), {})
            near = np.argwhere(supercell.bonded[site.basis])
            cells = supercell.index_of(supercell.points[site.point] + images[site.basis][tuple(near.T)])
            first = site.point * n_basis + site.basis
            for (away, other, image), point in zip(near, cells, strict=True):
                scale = known.get((symbols[other], length_key(float(lengths[site.basis, away, other, image]))), 1.0)
                second = int(point) * n_basis + int(other)
                factor[first, second] *= scale
                factor[second, first] *= scale
        full = supercell.expand(cell.host_compact).reshape(n, 3, n, 3) * factor[:, None, :, None]
        return impose_sum_rule(full.reshape(3 * n, 3 * n)), 0.0
