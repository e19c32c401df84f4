"""Force constants by finite displacements of a potential, and relaxation against a DFT reference.

The DFT structure of the host is the reference: a potential's own residual forces and stress there are subtracted
everywhere, so that the pristine host is exactly at rest and only what a dopant changes moves the atoms.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from datagen.potentials import Potential
from datagen.supercells import Supercell, symmetrise_compact
from defectnet.errors import SimulationError

__all__ = [
    "Equivalence",
    "Stiffness",
    "compact_by_displacement",
    "equivalent_sites",
    "full_by_displacement",
    "impose_sum_rule",
    "relax",
    "strained",
    "symmetry_operations",
]

Array = NDArray[np.float64]

# Small enough to stay harmonic, large enough for forces in single precision; phonopy's default.
_DISPLACEMENT_ANGSTROM = 0.01
# Forces left after relaxation: with usual third derivatives they change a force constant by a part in a thousand.
_FORCE_TOLERANCE = 2e-3
_MAX_STEPS = 120
_MAX_STEP_ANGSTROM = 0.15
_HISTORY = 30
# eV/Å²: tried in turn until the stiffness is positive definite.
_STIFFNESS_FLOORS = (0.5, 2.0, 8.0)
_PLAIN_STIFFNESS = 30.0
# Beyond this a substitution is a reconstruction: the harmonic picture around the host's sites no longer holds.
_MAX_MOVE_ANGSTROM = 1.0
_SYMMETRY_ANGSTROM = 1e-3


class Stiffness:
    """What a displacement of every atom costs to second order: the metric in which `relax` takes its steps.

    Steps through the pristine host's force constants need some 5 to 20 forces where steps along the forces alone
    need 30 to 120 (Si:Ge, Si:C, MgO:Ca, ZnS:Cd, AlAs:In, TiO2:Zr in 120 atoms).
    """

    def __init__(self, phi: Array | None = None) -> None:
        self._factor = None  # the same stiffness for every displacement
        # Acoustic modes cost nothing and soft ones little; the floor keeps steps along them short.
        if phi is None:
            return
        for floor in _STIFFNESS_FLOORS:
            try:
                self._factor = cho_factor(phi + floor * np.eye(len(phi)), overwrite_a=True, check_finite=False)
                break
            except np.linalg.LinAlgError:
                continue

    def step(self, gradient: Array) -> Array:
        """The displacement, shape (3 n_atoms,), Å, that answers a gradient in eV/Å."""
        if self._factor is None:
            return gradient / _PLAIN_STIFFNESS
        return np.asarray(cho_solve(self._factor, gradient, check_finite=False))


def relax(atoms: Atoms, potential: Potential, residual: Array, stiffness: Stiffness | None = None) -> Atoms:
    """Positions at which the potential's forces equal `residual`, shape (n_atoms, 3) in eV/Å; the cell is kept.

    A limited-memory quasi-Newton method (Nocedal, Math. Comput. 35, 773) that starts from `stiffness`.

    Raises:
        SimulationError: not converged, or an atom moved farther than a defect's neighbour ever does.
    """
    name = atoms.get_chemical_formula()
    stiffness = stiffness or Stiffness()
    moved = atoms.copy()
    history: list[tuple[Array, Array]] = []
    last: tuple[Array, Array] | None = None
    for _ in range(_MAX_STEPS):
        gradient = (residual - potential.evaluate([moved])[0][0]).ravel()
        if not np.isfinite(gradient).all():
            break
        if np.linalg.norm(gradient.reshape(-1, 3), axis=1).max() < _FORCE_TOLERANCE:
            if np.linalg.norm(moved.positions - atoms.positions, axis=1).max() > _MAX_MOVE_ANGSTROM:
                raise SimulationError(f"{name}: an atom left its site")
            return moved
        if last is not None:
            change = gradient - last[1]
            if last[0] @ change > 0:
                history = [*history[1 - _HISTORY :], (last[0], change)]
        step = -_quasi_newton(gradient, history, stiffness)
        longest = float(np.linalg.norm(step.reshape(-1, 3), axis=1).max())
        step *= min(1.0, _MAX_STEP_ANGSTROM / longest)
        moved.positions += step.reshape(-1, 3)
        last = (step, gradient)
    raise SimulationError(f"{name}: atoms did not come to rest in {_MAX_STEPS} steps")


def _quasi_newton(gradient: Array, history: list[tuple[Array, Array]], stiffness: Stiffness) -> Array:
    """The two-loop recursion: the inverse Hessian, as far as the history of steps tells, times the gradient."""
    q = gradient.copy()
    weights = []
    for step, change in reversed(history):
        weights.append(step @ q / (change @ step))
        q -= weights[-1] * change
    z = stiffness.step(q)
    for (step, change), weight in zip(history, reversed(weights), strict=True):
        z += (weight - change @ z / (change @ step)) * step
    return z


def strained(atoms: Atoms, strain: float) -> Atoms:
    """A copy scaled by 1 + `strain` in all directions."""
    scaled = atoms.copy()
    scaled.set_cell(np.asarray(atoms.cell) * (1 + strain), scale_atoms=True)
    return scaled


def compact_by_displacement(supercell: Supercell, atoms: Atoms, potential: Potential) -> Array:
    """Compact force constants of a crystal with the supercell's translation symmetry, by central differences.

    `atoms` is the supercell itself or a strained or internally relaxed copy with the same order of atoms.

    Returns:
        shape (n_basis, 3, n_points, n_basis, 3), eV/Å².
    """
    n = supercell.n_basis
    structures = [_displaced(atoms, k, axis, sign) for k in range(n) for axis in range(3) for sign in (1, -1)]
    forces = np.array(potential.evaluate(structures)[0]).reshape(n, 3, 2, supercell.n_points, n, 3)
    return symmetrise_compact((forces[:, :, 1] - forces[:, :, 0]) / (2 * _DISPLACEMENT_ANGSTROM), supercell)


def _displaced(atoms: Atoms, index: int, axis: int, sign: int) -> Atoms:
    moved = atoms.copy()
    moved.positions[index, axis] += sign * _DISPLACEMENT_ANGSTROM
    return moved


@dataclass(frozen=True)
class Operations:
    """Symmetry operations of a structure: `rotations` (m, 3, 3) in Cartesian axes, `images[m, i]` where atom i goes."""

    rotations: Array
    images: NDArray[np.int64]


def _space_group(atoms: Atoms) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The space-group operations of a structure that carry its atoms onto one another.

    Yields:
        the rotation in fractional coordinates, shape (3, 3); which atom each atom becomes, shape (n_atoms,); and the
        cell in which it lands, shape (n_atoms, 3).
    """
    cell = np.asarray(atoms.cell)
    fractions = atoms.get_scaled_positions(wrap=False)
    found = spglib.get_symmetry((cell, fractions, atoms.numbers), symprec=_SYMMETRY_ANGSTROM)
    for rotation, shift in zip(found["rotations"], found["translations"], strict=True) if found else ():
        landed = fractions @ rotation.T + shift
        difference = landed[:, None, :] - fractions[None, :, :]
        distance = np.linalg.norm((difference - np.rint(difference)) @ cell, axis=-1)
        images = distance.argmin(axis=1)
        if distance.min(axis=1).max() < 10 * _SYMMETRY_ANGSTROM and len(set(images)) == len(images):
            yield rotation, images, np.rint(landed - fractions[images]).astype(np.int64)


def _cartesian(rotation: NDArray[np.int64], atoms: Atoms) -> Array:
    cell = np.asarray(atoms.cell)
    return np.asarray(cell.T @ rotation @ np.linalg.inv(cell.T))


def symmetry_operations(atoms: Atoms) -> Operations:
    """The space-group operations of `atoms`, the identity alone where none is found."""
    found = [(_cartesian(rotation, atoms), images) for rotation, images, _ in _space_group(atoms)]
    if not found:
        return Operations(np.eye(3)[None], np.arange(len(atoms))[None])
    return Operations(*(np.array(part) for part in zip(*found, strict=True)))


@dataclass(frozen=True)
class Equivalence:
    """How a symmetry operation of the crystal carries a representative basis atom to an equivalent one.

    Attributes:
        representative: the basis atom that it starts from.
        turn: shape (3, 3), integers: a lattice vector L (row) goes to `L @ turn`.
        shifts: shape (n_basis, 3), integers: the cell in which each basis atom of the cell at the origin lands.
        images: shape (n_basis,): which basis atom each becomes.
        rotation: shape (3, 3), Cartesian.
    """

    representative: int
    turn: NDArray[np.int64]
    shifts: NDArray[np.int64]
    images: NDArray[np.int64]
    rotation: Array


def equivalent_sites(primitive: Atoms) -> list[Equivalence]:
    """For each basis atom, the operation that carries the first atom equivalent to it onto it."""
    n = len(primitive)
    identity = Equivalence(0, np.eye(3, dtype=np.int64), np.zeros((n, 3), dtype=np.int64), np.arange(n), np.eye(3))
    found: dict[int, Equivalence] = {}
    for rotation, images, shifts in _space_group(primitive):
        for start in range(n):
            k = int(images[start])
            if start < k and (k not in found or start < found[k].representative):
                turn = rotation.T.astype(np.int64)
                found[k] = Equivalence(start, turn, shifts, images, _cartesian(rotation, primitive))
    return [found.get(k) or replace(identity, representative=k) for k in range(n)]


def full_by_displacement(
    atoms: Atoms, potential: Potential, operations: Operations | None = None, *, central: bool = True
) -> Array:
    """Full force constants of any structure, shape (3 n_atoms, 3 n_atoms), symmetric, acoustic sum rule imposed.

    Atoms that `operations` carry into one another are displaced once. One-sided differences cost half and carry a
    third-order error: on one Ge in 216 Si an L1 distance of 0.018 between densities, where the change of the bonds
    makes 0.069. That is too much for a fragment, and small beside the change in a concentrated cell.
    """
    n = len(atoms)
    operations = operations or Operations(np.eye(3)[None], np.arange(n)[None])
    signs = (1, -1) if central else (1,)
    first = operations.images.min(axis=0)  # the lowest index that each atom can be carried to
    irreducible = np.flatnonzero(first == np.arange(n)).tolist()
    structures = [_displaced(atoms, i, axis, sign) for i in irreducible for axis in range(3) for sign in signs]
    if not central:
        structures.append(atoms)
    forces = potential.evaluate(structures)[0]
    phi = np.zeros((n, 3, n, 3))
    done = np.zeros(n, dtype=bool)
    for count, i in enumerate(irreducible):
        block = np.array(forces[count * 3 * len(signs) : (count + 1) * 3 * len(signs)]).reshape(3, len(signs), n, 3)
        if central:
            rows = (block[:, 1] - block[:, 0]) / (2 * _DISPLACEMENT_ANGSTROM)  # (a, j, b)
        else:
            rows = (forces[-1][None] - block[:, 0]) / _DISPLACEMENT_ANGSTROM
        for rotation, image in zip(operations.rotations, operations.images, strict=True):
            target = image[i]
            if not done[target]:
                turned = np.einsum("xa,ajb,yb->xjy", rotation, rows, rotation)
                phi[target][:, image] = turned
                done[target] = True
    full = phi.reshape(3 * n, 3 * n)
    return impose_sum_rule(0.5 * (full + full.T))


def impose_sum_rule(phi: Array) -> Array:
    """Make symmetric full force constants cost nothing under a rigid shift of the crystal; they stay symmetric.

    Each atom's own block takes the symmetric part of what is missing. The antisymmetric part has no place there, and is
    projected out: it is spread evenly over all pairs.
    """
    n = len(phi) // 3
    blocks = phi.reshape(n, 3, n, 3).copy()
    missing = blocks.sum(axis=2)  # (i, a, b)
    own = np.arange(n)
    blocks[own, :, own, :] -= 0.5 * (missing + missing.transpose(0, 2, 1))
    left = blocks.sum(axis=2)
    blocks -= (left[:, :, None, :] + left.transpose(2, 0, 1)[None]) / n
    blocks += left.sum(axis=0)[None, :, None, :] / n**2
    return blocks.reshape(3 * n, 3 * n)
