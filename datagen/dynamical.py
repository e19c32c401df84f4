"""Dynamical matrices at many q-points at once.

phonopy prepares what depends on the crystal alone: short-range force constants, Born charges, reciprocal vectors. The
sums over lattice vectors and over reciprocal vectors, which it takes pair by pair, are matrix products here: four to
ten times as fast for cells of five to twenty atoms, and the same to the digits that the positions are given with.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from phonopy.harmonic.dynamical_matrix import (
    DynamicalMatrix,
    DynamicalMatrixGL,
    DynamicalMatrixWang,
    get_dynamical_matrices_at_qpoints,
)

__all__ = ["DipoleSum", "DynamicalMatrices", "LatticeSum", "half_mesh"]

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

# q-points are the same where they agree to a millionth of a reciprocal vector.
_Q_STEPS = 10**6
# A reciprocal vector that falls on −q, 1/Å: there the dipole term has no direction, and phonopy leaves it out.
_ZERO = 1e-5
# Numbers that are held at once for one chunk of q-points: they stay in a core's cache.
_CHUNK = 200_000


def half_mesh(q: Array) -> tuple[Array, Array]:
    """One of each pair q and −q, whose modes are the same by time reversal, and for how many it stands.

    For force constants that end with the cell. With the dipole term a matrix at q and at q plus a reciprocal vector
    differ by what its sum leaves out, and −q lies beyond such a vector: densities would differ by some 1e-3.

    Args:
        q: shape (n_q, 3), units of the reciprocal vectors; the same where they differ by integers.

    Returns:
        q-points, shape (m, 3), in the order of `q`, and their multiplicities, shape (m,), which sum to n_q.
    """
    there = np.rint(np.asarray(q) * _Q_STEPS).astype(np.int64) % _Q_STEPS
    place = np.array([_Q_STEPS**2, _Q_STEPS, 1])
    code = np.minimum(there @ place, (-there % _Q_STEPS) @ place)
    _, first, counts = np.unique(code, return_index=True, return_counts=True)
    order = np.argsort(first)
    return np.asarray(q)[first[order]], counts[order].astype(float)


class LatticeSum:
    """Σ_T Φ(T) exp(2πi q·(T + r_j − r_i)) over the lattice vectors T that short-range force constants reach."""

    def __init__(self, terms: NDArray[np.int64], blocks: Array, pairs: NDArray[np.int64], positions: Array) -> None:
        """Collect force constants by their lattice vector.

        Args:
            terms: T of each term, shape (m, 3), units of the lattice vectors.
            blocks: its share of the force constants, shape (m, 3, 3), eV/Å².
            pairs: the two basis atoms (i, j) of each term, shape (m, 2).
            positions: of the basis atoms, shape (n, 3), units of the lattice vectors; zeros for phases over T alone.
        """
        n = len(positions)
        low = terms.min(axis=0)
        span = terms.max(axis=0) - low + 1
        codes = (terms - low) @ np.array([span[1] * span[2], span[2], 1])
        _, first, which = np.unique(codes, return_index=True, return_inverse=True)
        self._vectors = terms[first].astype(float)
        collected = np.zeros((len(first), n, n, 3, 3))
        np.add.at(collected, (which.ravel(), pairs[:, 0], pairs[:, 1]), blocks)
        self._flat = collected.transpose(0, 1, 3, 2, 4).reshape(len(first), 9 * n * n)
        self._positions = positions

    def at(self, q: Array) -> Complex:
        """The sum at each q-point, shape (n_q, 3n, 3n), eV/Å²."""
        n = len(self._positions)
        angle = 2 * np.pi * (q @ self._vectors.T)
        found = np.empty((len(q), 9 * n * n), dtype=np.complex128)
        found.real = np.cos(angle) @ self._flat
        found.imag = np.sin(angle) @ self._flat
        sums = found.reshape(len(q), n, 3, n, 3)
        own = np.exp(2j * np.pi * (q @ self._positions.T))
        sums *= own.conj()[:, :, None, None, None]
        sums *= own[:, None, None, :, None]
        return sums.reshape(len(q), 3 * n, 3 * n)


class DipoleSum:
    """The dipole term of Gonze and Lee (Phys. Rev. B 55, 10355), the sum over reciprocal vectors of its equation 71."""

    def __init__(self, phonopy: DynamicalMatrixGL) -> None:
        """Take charges and vectors from phonopy's object of one crystal."""
        if phonopy.short_range_force_constants is None:
            phonopy.make_Gonze_nac_dataset()
        _, at_zero, _, vectors, width = phonopy.Gonze_nac_dataset
        cell = phonopy.primitive
        self._to_cartesian = np.linalg.inv(cell.cell).T
        self._vectors = vectors  # 1/Å, without 2π
        self._width = width
        self._born, self._dielectric = phonopy.born, phonopy.dielectric_constant
        self._factor = phonopy.nac_factor
        self._phases = np.exp(2j * np.pi * vectors @ cell.positions.T)  # (n_G, n)
        self._at_zero = at_zero

    def at(self, q: Array) -> Complex:
        """The term at each q-point, shape (n_q, 3n, 3n), eV/Å²."""
        n = len(self._born)
        k = self._vectors[None] + (q @ self._to_cartesian)[:, None, :]  # (n_q, n_G, 3)
        screened = np.einsum("qGa,qGa->qG", k @ self._dielectric, k)
        away = np.linalg.norm(k, axis=-1) >= _ZERO
        screened = np.where(away, screened, 1.0)
        weight = np.where(away, np.exp(-screened / (4 * self._width**2)) / screened, 0.0)
        # Charges along k, times the phase of their atom: the sum is the product of this with its adjoint.
        along = np.einsum("qGa,iab->qGib", k, self._born, optimize=True) * np.sqrt(weight)[:, :, None, None]
        waves = (along * self._phases[None, :, :, None]).reshape(len(q), -1, 3 * n)
        sums = np.matmul(waves.transpose(0, 2, 1), waves.conj()).reshape(len(q), n, 3, n, 3)
        own = np.arange(n)
        sums[:, own, :, own, :] -= self._at_zero[:, None]
        return np.asarray(sums.reshape(len(q), 3 * n, 3 * n) * self._factor)


class DynamicalMatrices:
    """The dynamical matrices of one crystal, in phonopy's convention of phases."""

    def __init__(self, phonopy: DynamicalMatrix) -> None:
        """Take over what phonopy's object knows of the crystal."""
        self._phonopy = phonopy
        if isinstance(phonopy, DynamicalMatrixWang):
            return
        self._dipoles = DipoleSum(phonopy) if isinstance(phonopy, DynamicalMatrixGL) else None
        constants = phonopy.short_range_force_constants if self._dipoles else phonopy.force_constants
        self._lattice = _lattice_sum(phonopy, constants)
        self._root = np.repeat(1.0 / np.sqrt(phonopy.normalization_masses), 3)
        n = len(phonopy.primitive)
        vectors = len(self._dipoles._vectors) if self._dipoles else 0
        self._per_chunk = max(1, _CHUNK // (9 * n * n + 6 * n * vectors))

    def at(self, q: Array) -> Complex:
        """Dynamical matrices at q-points, shape (n_q, 3) in units of the reciprocal vectors.

        Returns:
            shape (n_q, 3n, 3n), eV/Å²/u, Hermitian.
        """
        if isinstance(self._phonopy, DynamicalMatrixWang):
            return np.asarray(get_dynamical_matrices_at_qpoints(self._phonopy, np.ascontiguousarray(q, dtype=float)))
        return np.concatenate([self._some(part) for part in self._parts(np.asarray(q, dtype=float))])

    def _parts(self, q: Array) -> Iterator[Array]:
        for start in range(0, len(q), self._per_chunk):
            yield q[start : start + self._per_chunk]

    def _some(self, q: Array) -> Complex:
        matrices = self._lattice.at(q)
        if self._dipoles is not None:
            matrices += self._dipoles.at(q)
        matrices *= self._root[:, None] * self._root[None, :]
        return np.asarray(0.5 * (matrices + matrices.conj().transpose(0, 2, 1)))


def _lattice_sum(phonopy: DynamicalMatrix, constants: Array) -> LatticeSum:
    """phonopy's force constants, compact or full, by the lattice vectors of the shortest images."""
    cell = phonopy.primitive
    images, multiplicity = cell.get_smallest_vectors()  # dense: all in one list, units of the primitive vectors
    index = {atom: k for k, atom in enumerate(cell.p2s_map)}
    basis = np.array([index[atom] for atom in cell.s2p_map])
    rows = np.arange(len(cell)) if len(constants) == len(cell) else np.asarray(cell.p2s_map)
    count, start = multiplicity[:, :, 0].ravel(), multiplicity[:, :, 1].ravel()  # (n_supercell × n)
    which = np.repeat(np.arange(count.size), count)
    term = np.repeat(start - np.cumsum(count) + count, count) + np.arange(count.sum())
    atom, i = np.divmod(which, len(cell))
    j = basis[atom]
    positions = cell.scaled_positions
    vectors = np.rint(images[term] - (positions[j] - positions[i])).astype(np.int64)
    blocks = constants[rows[i], atom] / count[which][:, None, None]
    return LatticeSum(vectors, blocks, np.stack([i, j], axis=1), positions)
