"""Doped force constants interpolated between DFT crystals of one structure.

Where the parents hold the same structure with a dopant on every site of a sublattice (CdS beside ZnS for cadmium in
zinc sulphide), no potential is needed to know how stiff the dopant's bonds are: DFT says it. A bond keeps its stiffness
from one crystal to the other, because it nearly keeps its length; so each pair of atoms takes the force constants of
the crystal that it belongs to. On the ordered alloys of the parents' file this is the best method where it applies
(`make bench-physics`).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Lattice, Structure
from scipy.linalg import polar

from datagen.dopants import Replacement
from datagen.force_constants import impose_sum_rule
from datagen.parents import Parent, is_table, parent_columns, read_parents
from datagen.supercells import Supercell, symmetrise_compact
from defectnet.errors import SimulationError

__all__ = ["Endmember", "Endmembers", "find_endmembers", "interpolate"]

Array = NDArray[np.float64]

# An atom of the end member this far from the host's site is on another site.
_MOST_OFF_SITE_ANGSTROM = 0.6
_MATCHER = StructureMatcher(primitive_cell=False, attempt_supercell=True, scale=True)


def find_endmembers(source: str | Path) -> dict[str, dict[tuple[str, str], str]]:
    """Which parents of a Parquet file are another with one element replaced throughout, space group and size alike.

    The file needs the columns `material_id`, `formula`, `spacegroup` and `n_atoms_primitive`; without them, and in a
    folder of parents, there are none.

    Returns:
        parent → {(replaced element, dopant): parent_id}; the name that sorts first where several qualify.
    """
    columns = ["material_id", "formula", "spacegroup", "n_atoms_primitive"]
    if not is_table(source) or not set(columns) <= set(parent_columns(source)):
        return {}
    rows = read_parents(source, columns).to_pylist()
    alike = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["material_id"]):
        amounts = {str(e): round(n) for e, n in Composition(row["formula"]).reduced_composition.items()}
        for element, amount in amounts.items():
            rest = tuple(sorted(pair for pair in amounts.items() if pair[0] != element))
            alike[rest, amount, row["spacegroup"], row["n_atoms_primitive"]].append((row["material_id"], element))
    found: dict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    for members in alike.values():
        for host, replaced in members:
            for end, dopant in members:
                if dopant != replaced:
                    found[host].setdefault((replaced, dopant), end)
    return dict(found)


class Endmember:
    """A parent of the host's own structure, read in the host's axes and order of atoms.

    Attributes:
        strain: linear, of the end member relative to the host.
    """

    def __init__(self, host: Parent, end: Parent, replaces: str, dopant: str) -> None:
        """Lay the structure of `end`, with `dopant` wherever the host has `replaces`, over the host's.

        Raises:
            SimulationError: the two are different structures.
        """
        self._end = end
        like_host = _structure(end)
        like_host.replace_species({dopant: replaces})
        target = _structure(host)
        found = _MATCHER.get_transformation(like_host, target) if len(like_host) == len(target) else None
        if found is None:
            raise SimulationError(f"{end.parent_id} does not have the structure of {host.parent_id}")
        turn, _, mapping = found
        moved = target * turn
        lattice, old, new = target.lattice.matrix, np.asarray(end.primitive.cell), moved.lattice.matrix
        # Rows of `_to_end` are the end's lattice vectors in units of the host's.
        self._to_end = np.rint(new @ np.linalg.inv(lattice)).astype(np.int64)
        self._rotation = polar(np.linalg.inv(old) @ new)[0]
        self.strain = float((abs(np.linalg.det(old)) / abs(np.linalg.det(new))) ** (1 / 3) - 1)
        # Host atom (L, k) is the end's atom `_basis[k]` in the cell L + `_cells[k]`, all in the host's vectors.
        ends = end.primitive.get_scaled_positions(wrap=False) @ self._to_end
        ends = ends - ends[0] + moved[int(mapping[0])].coords @ np.linalg.inv(lattice)
        gap = target.frac_coords[:, None, :] - ends[None, :, :]
        distance = np.linalg.norm((gap - np.rint(gap)) @ lattice, axis=-1)
        self._basis = distance.argmin(axis=1)
        if len(set(self._basis)) != len(target) or distance.min(axis=1).max() > _MOST_OFF_SITE_ANGSTROM:
            raise SimulationError(f"{end.parent_id} does not have the structure of {host.parent_id}")
        self._cells = np.rint(gap[np.arange(len(target)), self._basis]).astype(np.int64)

    def compact_force_constants(self, supercell: Supercell) -> Array:
        """DFT force constants of the end member in a supercell of the host, in the host's axes and order of atoms.

        Returns:
            shape (n_basis, 3, n_points, n_basis, 3), eV/Å².
        """
        inverse = np.linalg.inv(self._to_end)
        matrix = np.rint(supercell.matrix @ inverse).astype(np.int64)
        # The axes may be turned improperly; minus a lattice is the same lattice.
        own = Supercell(self._end.primitive, matrix if np.linalg.det(matrix) > 0 else -matrix)
        compact = self._end.compact_force_constants(own)
        moved = np.empty_like(compact)
        for k, first in enumerate(self._basis):
            for j, second in enumerate(self._basis):
                steps = supercell.points + self._cells[j] - self._cells[k]
                index = own.index_of(np.rint(steps @ inverse).astype(np.int64))
                moved[k, :, :, j, :] = compact[first][:, index, second, :]
        turned = np.einsum("ax,kaLjb,by->kxLjy", self._rotation, moved, self._rotation, optimize=True)
        return symmetrise_compact(turned, supercell)


class Endmembers:
    """The usable end members of one parent, each loaded when it is first asked for.

    Attributes:
        parent: the host.
    """

    def __init__(
        self, parent: Parent, load: Callable[[str], Parent] | None, *, max_strain: float, lowest_thz: float
    ) -> None:
        """Take none that differs by more than `max_strain` (linear), or has a mode below `lowest_thz`.

        Args:
            load: finds a parent by its name; without it there are no end members.
        """
        self.parent = parent
        self._load = load
        self._max_strain, self._lowest_thz = max_strain, lowest_thz
        self._found: dict[Replacement, Endmember | None] = {}
        self._compacts: dict[tuple[int, bytes], Array] = {}

    def of(self, choice: Replacement) -> Endmember | None:
        """The end member of a substitution; None where it is unstable, another structure or too different in size."""
        if not choice.endmember or self._load is None:
            return None
        if choice not in self._found:
            self._found[choice] = self._usable(choice, self._load)
        return self._found[choice]

    def _usable(self, choice: Replacement, load: Callable[[str], Parent]) -> Endmember | None:
        try:
            end = load(choice.endmember)
            found = Endmember(self.parent, end, choice.replaces, choice.element)
        except SimulationError:
            return None
        stable = end.lowest_thz() >= self._lowest_thz
        return found if stable and abs(found.strain) <= self._max_strain else None

    def compact(self, end: Endmember, supercell: Supercell) -> Array:
        """`Endmember.compact_force_constants`, computed once for each cell."""
        key = (id(end), supercell.matrix.tobytes())
        if key not in self._compacts:
            self._compacts[key] = end.compact_force_constants(supercell)
        return self._compacts[key]


def _structure(parent: Parent) -> Structure:
    atoms = parent.primitive
    return Structure(Lattice(atoms.cell[:]), atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False))


def interpolate(
    host_compact: Array, ends: Mapping[tuple[str, str], Array], supercell: Supercell, symbols: NDArray[np.str_]
) -> Array:
    """Force constants of a doped crystal from those of its end members.

    Args:
        host_compact: the pristine host's in `supercell`, shape (n_basis, 3, n_points, n_basis, 3), eV/Å².
        ends: by (replaced element, dopant), the end member's, of the same shape.
        supercell: the cell.
        symbols: the elements of the doped cell, shape (n_atoms,).

    Returns:
        full force constants, shape (3 n_atoms, 3 n_atoms), eV/Å².
    """
    before = np.tile(supercell.primitive.get_chemical_symbols(), supercell.n_points)
    first, second = _bonds(supercell)
    n = supercell.n_atoms
    host = supercell.expand(host_compact)
    phi = host.copy()
    for (replaced, dopant), compact in ends.items():
        on_site = before == replaced
        weight = _weights(on_site, on_site & (symbols == dopant), first, second)
        change = (supercell.expand(compact) - host).reshape(n, 3, n, 3)
        phi += (weight[:, None, :, None] * change).reshape(3 * n, 3 * n)
    return impose_sum_rule(0.5 * (phi + phi.T))


def _bonds(supercell: Supercell) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of nearest neighbours, each in both directions."""
    vectors, near = supercell.nearest_images[0], supercell.bonded
    first, _, second, _ = np.nonzero(near)
    cells = supercell.index_of(supercell.points[:, None, :] + vectors[near][None, :, :])
    starts = np.arange(supercell.n_points)[:, None] * supercell.n_basis + first[None, :]
    return starts.ravel(), (cells * supercell.n_basis + second[None, :]).ravel()


def _weights(
    on_site: NDArray[np.bool_], taken: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> Array:
    """How far each pair of atoms belongs to an end member, shape (n_atoms, n_atoms), 0 … 1.

    A site of the sublattice belongs where the dopant is on it, an atom elsewhere by the share of dopants among the
    sites beside it. A pair with one atom on the sublattice goes by that atom, any other by the mean of its two.
    """
    beside = on_site[second]
    sites = np.bincount(first[beside], minlength=len(taken))
    dopants = np.bincount(first[beside], weights=taken[second[beside]].astype(float), minlength=len(taken))
    elsewhere = np.where(sites > 0, dopants / np.maximum(sites, 1), taken.sum() / on_site.sum())
    belongs = np.where(on_site, taken, elsewhere)
    weight = 0.5 * (belongs[:, None] + belongs[None, :])
    weight[np.ix_(on_site, ~on_site)] = belongs[on_site][:, None]
    weight[np.ix_(~on_site, on_site)] = belongs[on_site][None, :]
    return np.asarray(weight)
