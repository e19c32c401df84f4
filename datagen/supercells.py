"""Supercells of a primitive cell, and the bookkeeping that every stage of the simulator shares.

An atom of a supercell is (lattice point L, basis atom k) and has the index `L * n_basis + k`. Force constants come in
two shapes, both in eV/Å²:

- *compact*, shape (n_basis, 3, n_points, n_basis, 3): the rows of the atoms in the cell at the origin, which say all
  where the crystal has translation symmetry;
- *full*, shape (3 n_atoms, 3 n_atoms).
"""

from functools import cached_property
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

__all__ = ["Supercell", "choose_matrix", "low_symmetry_matrices", "symmetrise_compact"]

Array = NDArray[np.float64]

# Pairs up to this multiple of an atom's shortest distance are its bonds.
BOND_SHELL = 1.25
# Images whose distances differ by less than this (Å) are equally near and share the weight.
_TIE_ANGSTROM = 1e-3


def choose_matrix(primitive: Atoms, n_atoms: int) -> NDArray[np.int64]:
    """The supercell of at most `n_atoms` atoms that leaves the most room around an atom.

    Candidates are cubes of many edge lengths expressed in the primitive vectors and rounded to integers, and diagonal
    matrices. The room is the radius of the largest sphere that does not touch its own periodic image.

    Returns:
        shape (3, 3), integers: the supercell's vectors are `matrix @ primitive.cell`.
    """
    cell = np.asarray(primitive.cell)
    n_basis = len(primitive)
    if n_basis >= n_atoms:
        return np.eye(3, dtype=np.int64)
    inverse = np.linalg.inv(cell)
    longest = (abs(np.linalg.det(cell)) * n_atoms / n_basis) ** (1 / 3)
    candidates = {_key(np.eye(3, dtype=np.int64))}
    for edge in np.linspace(0.4 * longest, 1.3 * longest, 181):
        candidates.add(_key(np.rint(edge * inverse).astype(np.int64)))
        lengths = np.linalg.norm(cell, axis=1)
        candidates.add(_key(np.diag(np.maximum(np.rint(edge / lengths), 1)).astype(np.int64)))
    best, best_score = np.eye(3, dtype=np.int64), (0.0, 0)
    for key in sorted(candidates):
        matrix = np.array(key, dtype=np.int64).reshape(3, 3)
        n_points = round(float(np.linalg.det(matrix)))
        if n_points < 1 or n_points * n_basis > n_atoms:
            continue
        score = (round(_inner_radius(matrix @ cell), 3), n_points)
        if score > best_score:
            best, best_score = matrix, score
    return best


def _key(matrix: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(value) for value in matrix.ravel())


def _inner_radius(cell: Array) -> float:
    images = np.array([image for image in product((-1, 0, 1), repeat=3) if any(image)])
    return 0.5 * float(np.linalg.norm(images @ cell, axis=1).min())


class Supercell:
    """A supercell of `primitive` with the integer `matrix` (rows are the supercell's vectors)."""

    def __init__(self, primitive: Atoms, matrix: NDArray[np.int64]) -> None:
        self.primitive = primitive
        self.matrix = np.asarray(matrix, dtype=np.int64)
        self.n_points = round(float(np.linalg.det(self.matrix)))
        if self.n_points < 1:
            raise ValueError(f"supercell matrix with determinant {self.n_points}")
        self.n_basis = len(primitive)
        self.n_atoms = self.n_points * self.n_basis
        # Adjugate: L @ adjugate is L in units of 1/determinant of the supercell's vectors, exactly.
        self._adjugate = np.rint(np.linalg.inv(self.matrix) * self.n_points).astype(np.int64)
        self.points = self._find_points()
        self._half_phases: dict[tuple[int, int, int], NDArray[np.float32]] = {}

    def _codes(self, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
        """One integer for each vector, shape (n, 3); equal where they differ by a vector of the supercell."""
        keys = (vectors @ self._adjugate) % self.n_points
        return np.asarray(keys @ np.array([self.n_points**2, self.n_points, 1]))

    def _find_points(self) -> NDArray[np.int64]:
        corners = np.array(list(product((0, 1), repeat=3))) @ self.matrix
        axes = [np.arange(low, high + 1) for low, high in zip(corners.min(0), corners.max(0), strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        inside = np.all((grid @ self._adjugate >= 0) & (grid @ self._adjugate < self.n_points), axis=1)
        points = grid[inside]
        # The origin first: compact force constants are rows of the atoms there.
        return points[np.lexsort((*points.T, np.any(points != 0, axis=1)))]

    def index_of(self, vectors: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index of the lattice point that each integer vector, shape (..., 3), falls on modulo the supercell."""
        order, codes = self._lookup
        found = self._codes(np.asarray(vectors, dtype=np.int64).reshape(-1, 3))
        return order[np.searchsorted(codes, found)].reshape(np.shape(vectors)[:-1])

    @cached_property
    def _lookup(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        codes = self._codes(self.points)
        order = np.argsort(codes)
        return order, codes[order]

    @cached_property
    def differences(self) -> NDArray[np.int64]:
        """Index of the point L2 - L1, shape (n_points, n_points)."""
        return self.index_of(self.points[None, :, :] - self.points[:, None, :])

    @cached_property
    def atoms(self) -> Atoms:
        """The undistorted supercell."""
        cell = np.asarray(self.primitive.cell)
        positions = (self.points @ cell)[:, None, :] + self.primitive.positions[None, :, :]
        return Atoms(
            numbers=np.tile(self.primitive.numbers, self.n_points),
            positions=positions.reshape(-1, 3),
            cell=self.matrix @ cell,
            pbc=True,
        )

    @cached_property
    def nearest_images(self) -> tuple[NDArray[np.int64], Array]:
        """From each basis atom at the origin to every atom: the nearest periodic images.

        Returns:
            vectors, shape (n_basis, n_points, n_basis, m, 3): lattice vectors of the image's cell, integers;
            weights, shape (n_basis, n_points, n_basis, m): 1 over the number of equally near images, 0 for padding.
        """
        cell = np.asarray(self.primitive.cell)
        start = self.primitive.positions
        # Fold every point near the origin first, so that the 27 neighbouring supercells hold the nearest image.
        fractions = self.points @ self._adjugate / self.n_points
        folded = self.points - np.rint(fractions).astype(np.int64) @ self.matrix
        shifts = np.array(list(product((-1, 0, 1), repeat=3))) @ self.matrix
        vectors = folded[:, None, :] + shifts[None, :, :]  # (n_points, 27, 3)
        cartesian = (vectors @ cell)[None, :, None, :, :] + (start[None, :, :] - start[:, None, :])[:, None, :, None, :]
        distances = np.linalg.norm(cartesian, axis=-1)  # (n_basis, n_points, n_basis, 27)
        near = distances < distances.min(axis=-1, keepdims=True) + _TIE_ANGSTROM
        m = int(near.sum(axis=-1).max())
        order = np.argsort(~near, axis=-1, kind="stable")[..., :m]
        chosen = np.take_along_axis(near, order, axis=-1)
        all_vectors = np.broadcast_to(vectors[None, :, None, :, :], (*near.shape, 3))
        picked = np.take_along_axis(all_vectors, order[..., None], axis=-2)
        return picked, chosen / chosen.sum(axis=-1, keepdims=True)

    @cached_property
    def neighbours(self) -> tuple[Array, Array]:
        """From each basis atom at the origin to the nearest images of every atom, in the order of `nearest_images`.

        Returns:
            vectors, shape (n_basis, n_points, n_basis, m, 3), Å; lengths, shape (n_basis, n_points, n_basis, m), Å,
            infinite for padding and the atom itself.
        """
        images, weights = self.nearest_images
        positions = self.primitive.positions
        offsets = positions[None, None, :, None] - positions[:, None, None, None]
        vectors = images @ np.asarray(self.primitive.cell) + offsets
        lengths = np.linalg.norm(vectors, axis=-1)
        lengths[(weights == 0) | (lengths < 1e-6)] = np.inf
        return vectors, lengths

    @cached_property
    def bonded(self) -> NDArray[np.bool_]:
        """Which of `neighbours` are bonded: up to `BOND_SHELL` of the atom's shortest distance."""
        lengths = self.neighbours[1]
        return np.asarray(lengths < BOND_SHELL * lengths.min(axis=(1, 2, 3), keepdims=True))

    def half_phases(self, q_half: tuple[int, int, int]) -> NDArray[np.float32]:
        """Mean phase exp(2πi q·T) over the nearest images of each pair, for q = `q_half` / 2 of the supercell.

        T is the supercell's lattice vector that carries the second atom to its image nearest the first. At these q the
        phases are ±1 and the dynamical matrix stays real.

        Returns:
            shape (n_atoms, n_atoms); not to be written to, for it is kept: every crystal doped in this cell asks again.
        """
        if q_half not in self._half_phases:
            self._half_phases[q_half] = self._mean_phases(np.array(q_half))
        return self._half_phases[q_half]

    def _mean_phases(self, half: NDArray[np.int64]) -> NDArray[np.float32]:
        vectors, weights = self.nearest_images
        images = (vectors - self.points[None, :, None, None, :]) @ self._adjugate // self.n_points
        compact = (weights * (1 - 2 * (images @ half % 2))).sum(axis=-1)
        # The difference of two points is a point of the cell plus a vector of the supercell, which has a phase too.
        difference = self.points[None, :, :] - self.points[:, None, :]
        wraps = (difference - self.points[self.differences]) @ self._adjugate // self.n_points
        signs = 1 - 2 * (wraps @ half % 2)
        pairs = compact[:, self.differences] * signs[None, :, :, None]  # (k, L1, L2, k')
        return pairs.transpose(1, 0, 2, 3).reshape(self.n_atoms, self.n_atoms).astype(np.float32)

    def expand(self, compact: Array) -> Array:
        """Full force constants, shape (3 n_atoms, 3 n_atoms), from compact ones."""
        full = compact[:, :, self.differences]  # (k, a, L1, L2, k', b)
        return full.transpose(2, 0, 1, 3, 4, 5).reshape(3 * self.n_atoms, 3 * self.n_atoms)

    def commensurate_q(self) -> Array:
        """The q-points that fit the supercell, shape (n_points, 3), in units of the primitive reciprocal vectors."""
        # Points of the dual lattice: rows g with matrix @ g integer.
        dual = Supercell(Atoms("H", cell=np.eye(3), pbc=True), self.matrix.T.copy())
        return (dual.points @ dual._adjugate % self.n_points) / self.n_points

    def transfer(self, compact: Array, target: "Supercell") -> Array:
        """Move compact force constants of this supercell into another of the same crystal, by nearest images.

        Pairs farther apart than this supercell's images reach are zero in a larger target; in a smaller one images add.
        """
        vectors, weights = self.nearest_images
        index = target.index_of(vectors)  # (k, L, k', m)
        moved = np.zeros((self.n_basis, 3, target.n_points, self.n_basis, 3))
        for k, k2 in product(range(self.n_basis), repeat=2):
            spread = weights[k, :, k2, :, None, None] * compact[k, :, :, k2, :].transpose(1, 0, 2)[:, None]
            np.add.at(moved[k, :, :, k2, :].transpose(1, 0, 2), index[k, :, k2], spread)
        return moved


def symmetrise_compact(compact: Array, supercell: Supercell) -> Array:
    """Make compact force constants symmetric under exchange of the two atoms, and obey the acoustic sum rule."""
    back = supercell.index_of(-supercell.points)
    compact = 0.5 * (compact + compact[:, :, back].transpose(3, 4, 2, 0, 1))
    for k in range(supercell.n_basis):
        compact[k, :, 0, k, :] -= compact[k].sum(axis=(1, 2))
    return compact


# Room around an atom that a low-symmetry cell must keep, relative to the cube of the same volume.
_LEAST_ROOM = 0.85


def low_symmetry_matrices(
    primitive: Atoms, n_atoms: int, rng: np.random.Generator, count: int
) -> list[NDArray[np.int64]]:
    """Compact supercells of 90 to 100 % of `n_atoms` atoms without symmetry of their own.

    Rounded cubes in random orientations. The q-points that fold onto such a cell are not related by symmetry, so that
    the same number of atoms samples the Brillouin zone three times better: 64 atoms in such a cell come nearer to the
    converged density of states than 432 in a cube (median of eight crystals, `make bench-sampling`).

    Returns:
        up to `count` matrices; the plain choice alone where the primitive cell is too large for anything else.
    """
    cell = np.asarray(primitive.cell)
    n_basis = len(primitive)
    edge = (abs(np.linalg.det(cell)) * n_atoms / n_basis) ** (1 / 3)
    found: dict[tuple[int, ...], NDArray[np.int64]] = {}
    for _ in range(200 * count):
        if len(found) == count:
            break
        cube = edge * rng.uniform(0.9, 1.05) * Rotation.random(rng=rng).as_matrix()
        matrix = np.rint(cube @ np.linalg.inv(cell)).astype(np.int64)
        n_points = round(float(np.linalg.det(matrix)))
        if n_points < 0:
            matrix, n_points = -matrix, -n_points
        if not 0.9 * n_atoms <= n_points * n_basis <= n_atoms:
            continue
        if _inner_radius(matrix @ cell) >= _LEAST_ROOM * 0.5 * (abs(np.linalg.det(matrix @ cell))) ** (1 / 3):
            found[_key(matrix)] = matrix
    return list(found.values()) or [choose_matrix(primitive, n_atoms)]
