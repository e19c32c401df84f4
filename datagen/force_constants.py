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
    "OneSided",
    "Operations",
    "Rest",
    "Stiffness",
    "compact_and_even",
    "compact_by_displacement",
    "compact_operations",
    "equivalent_sites",
    "full_by_displacement",
    "impose_sum_rule",
    "relax",
    "settle",
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
# How far a component of a turned axis may be from ±1: operations are exact but for rounding of the cell.
_SAME_DIRECTION = 1e-4
# Smallest mean square of directions along an axis that counts as reached: symmetry gives a third, or nothing.
_INDEPENDENT = 1e-3


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


@dataclass(frozen=True, eq=False)
class Rest:
    """A structure at rest: its atoms, the potential's forces there, (n_atoms, 3) in eV/Å, and stress in eV/Å³."""

    atoms: Atoms
    forces: Array
    stress: Array


def relax(atoms: Atoms, potential: Potential, residual: Array, stiffness: Stiffness | None = None) -> Atoms:
    """The atoms of `settle`."""
    return settle(atoms, potential, residual, stiffness).atoms


def settle(
    atoms: Atoms,
    potential: Potential,
    residual: Array,
    stiffness: Stiffness | None = None,
    tolerance: float = _FORCE_TOLERANCE,
) -> Rest:
    """Positions at which the potential's forces equal `residual`, shape (n_atoms, 3) in eV/Å; the cell is kept.

    A limited-memory quasi-Newton method (Nocedal, Math. Comput. 35, 773) that starts from `stiffness` and ends when no
    atom's force is farther than `tolerance`, eV/Å, from its residual.

    Raises:
        SimulationError: not converged, or an atom moved farther than a defect's neighbour ever does.
    """
    name = atoms.get_chemical_formula()
    stiffness = stiffness or Stiffness()
    moved = atoms.copy()
    history: list[tuple[Array, Array]] = []
    last: tuple[Array, Array] | None = None
    for _ in range(_MAX_STEPS):
        forces, stresses = potential.evaluate([moved])
        gradient = (residual - forces[0]).ravel()
        if not np.isfinite(gradient).all():
            break
        if np.linalg.norm(gradient.reshape(-1, 3), axis=1).max() < tolerance:
            if np.linalg.norm(moved.positions - atoms.positions, axis=1).max() > _MAX_MOVE_ANGSTROM:
                raise SimulationError(f"{name}: an atom left its site")
            return Rest(moved, forces[0], stresses[0])
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


def compact_by_displacement(
    supercell: Supercell, atoms: Atoms, potential: Potential, operations: "Operations | None" = None
) -> Array:
    """Compact force constants of a crystal with the supercell's translation symmetry, by central differences.

    `atoms` is the supercell itself or a strained or internally relaxed copy with the same order of atoms. Displacements
    that `operations` (see `compact_operations`) carry into one another are asked for once.

    Returns:
        shape (n_basis, 3, n_points, n_basis, 3), eV/Å².
    """
    return compact_and_even(supercell, atoms, potential, operations)[0]


def compact_and_even(
    supercell: Supercell, atoms: Atoms, potential: Potential, operations: "Operations | None" = None
) -> tuple[Array, Array]:
    """Compact force constants, and what is even in the displacement.

    Returns:
        the force constants, see `compact_by_displacement`; the mean of the forces that displacements to both sides
        along each axis cause, less the forces at rest, same shape, eV/Å (`full_by_displacement` takes one-sided
        differences less these).
    """
    n = supercell.n_basis
    operations = operations or Operations(np.eye(3)[None], np.arange(len(atoms))[None])
    wanted = [(k, axis, sign) for k in range(n) for axis in range(3) for sign in (1, -1)]
    asked: list[tuple[int, int, int]] = []
    came_from: dict[tuple[int, int, int], tuple[int, int]] = {}  # (which was asked, by which operation)
    for one in wanted:
        if one in came_from:
            continue
        k, axis, sign = one
        came_from[one] = (len(asked), -1)
        for m, image in enumerate(operations.images[:, k]):
            reached = sign * operations.rotations[m][:, axis]
            along = int(np.abs(reached).argmax())
            if image < n and abs(reached[along]) > 1 - _SAME_DIRECTION:
                came_from.setdefault((int(image), along, int(np.sign(reached[along]))), (len(asked), m))
        asked.append(one)
    base, *forces = potential.evaluate([atoms, *(_displaced(atoms, *one) for one in asked)])[0]
    pushed = np.empty((len(wanted), len(atoms), 3))
    for place, one in enumerate(wanted):
        number, m = came_from[one]
        if m < 0:
            pushed[place] = forces[number]
        else:
            pushed[place, operations.images[m]] = forces[number] @ operations.rotations[m].T
    pushed = pushed.reshape(n, 3, 2, supercell.n_points, n, 3)
    even = 0.5 * (pushed[:, :, 0] + pushed[:, :, 1]) - base.reshape(supercell.n_points, n, 3)
    constants = (pushed[:, :, 1] - pushed[:, :, 0]) / (2 * _DISPLACEMENT_ANGSTROM)
    return symmetrise_compact(constants, supercell), even


def _displaced(atoms: Atoms, index: int, axis: int, sign: int) -> Atoms:
    moved = atoms.copy()
    moved.positions[index, axis] += sign * _DISPLACEMENT_ANGSTROM
    return moved


@dataclass(frozen=True)
class Operations:
    """Symmetry operations of a structure: `rotations` (m, 3, 3) in Cartesian axes, `images[m, i]` where atom i goes."""

    rotations: Array
    images: NDArray[np.int64]


def _space_group(
    atoms: Atoms, first: int | None = None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The space-group operations of a structure that carry its atoms onto one another.

    With `first`, only those that carry one of so many first atoms onto one of these.

    Yields:
        the rotation in fractional coordinates, shape (3, 3); which atom each atom becomes, shape (n_atoms,); and the
        cell in which it lands, shape (n_atoms, 3).
    """
    cell = np.asarray(atoms.cell)
    fractions = atoms.get_scaled_positions(wrap=False)
    found = spglib.get_symmetry((cell, fractions, atoms.numbers), symprec=_SYMMETRY_ANGSTROM)
    for rotation, shift in zip(found["rotations"], found["translations"], strict=True) if found else ():
        landed = fractions @ rotation.T + shift
        if first is not None:
            apart = landed[:first, None, :] - fractions[None, :first, :]
            if np.linalg.norm((apart - np.rint(apart)) @ cell, axis=-1).min() > 10 * _SYMMETRY_ANGSTROM:
                continue
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
    return _operations(atoms, None)


def compact_operations(supercell: Supercell) -> Operations:
    """The operations of a supercell of the crystal that carry an atom of the cell at the origin onto another there."""
    return _operations(supercell.atoms, supercell.n_basis)


def _operations(atoms: Atoms, first: int | None) -> Operations:
    found = [(_cartesian(rotation, atoms), images) for rotation, images, _ in _space_group(atoms, first)]
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


@dataclass(frozen=True, eq=False)
class OneSided:
    """What lets displacements to one side do.

    Attributes:
        forces: of the structure at rest, shape (n_atoms, 3), eV/Å.
        even: for each atom and axis, the part of the forces that is even in the displacement, shape
            (n_atoms, 3, n_atoms, 3), eV/Å: taken from the pristine crystal (`compact_and_even`), for far from a dopant
            anharmonicity is the host's.
        central: shape (n_atoms,): atoms that are displaced to both sides all the same.
    """

    forces: Array
    even: Array
    central: NDArray[np.bool_]


def full_by_displacement(
    atoms: Atoms,
    potential: Potential,
    operations: Operations | None = None,
    *,
    central: bool = True,
    one_sided: OneSided | None = None,
) -> Array:
    """Full force constants of any structure, shape (3 n_atoms, 3 n_atoms), symmetric, acoustic sum rule imposed.

    Atoms that `operations` carry into one another are displaced once, and an atom only along as many axes and to as
    many sides as its site symmetry does not give. Without `central`, one-sided differences cost up to half and carry a
    third-order error: on one Ge in 216 Si an L1 distance of 0.018 between densities, where the change of the bonds
    makes 0.069. That is too much for a fragment, and small beside the change in a concentrated cell. `one_sided` takes
    the host's share of that error off.
    """
    n = len(atoms)
    operations = operations or Operations(np.eye(3)[None], np.arange(n)[None])
    both = np.full(n, central) if one_sided is None else one_sided.central
    first = operations.images.min(axis=0)  # the lowest index that each atom can be carried to
    irreducible = np.flatnonzero(first == np.arange(n)).tolist()
    asked = [(i, *one) for i in irreducible for one in _axes_and_signs(i, operations, bool(both[i]))]
    structures = [_displaced(atoms, *one) for one in asked]
    if one_sided is None and not central:
        structures.append(atoms)
    forces = potential.evaluate(structures)[0]
    base = np.zeros((n, 3)) if one_sided is None else one_sided.forces
    if one_sided is None and not central:
        base = forces[-1]
    phi = np.zeros((n, 3, n, 3))
    done = np.zeros(n, dtype=bool)
    for i in irreducible:
        pushed = []
        for (atom, axis, sign), force in zip(asked, forces, strict=False):
            if atom == i:
                even = 0.0 if one_sided is None or both[i] else one_sided.even[i, axis]
                pushed.append((axis, sign, force - base - even))
        rows = _rows(i, pushed, operations)
        for rotation, image in zip(operations.rotations, operations.images, strict=True):
            target = image[i]
            if not done[target]:
                turned = np.einsum("xa,ajb,yb->xjy", rotation, rows, rotation)
                phi[target][:, image] = turned
                done[target] = True
    # Of a pair's two blocks the one by differences to both sides counts, where only one is.
    share = np.where(both[:, None] == both[None, :], 0.5, both[:, None].astype(float))[:, None, :, None]
    return impose_sum_rule((share * phi + (share * phi).transpose(2, 3, 0, 1)).reshape(3 * n, 3 * n))


def _axes_and_signs(atom: int, operations: Operations, both: bool) -> list[tuple[int, int]]:
    """Displacements of an atom along axes from which its site symmetry gives those in all directions.

    With `both`, to both sides unless symmetry gives the other.
    """
    site = operations.rotations[operations.images[:, atom] == atom]
    chosen: list[int] = []
    for _ in range(3):
        ranks = [_rank(site[:, :, [*chosen, axis]]) for axis in range(3)]
        chosen.append(int(np.argmax(ranks)))
        if max(ranks) == 3:
            break
    found = []
    for axis in chosen:
        found.append((axis, 1))
        turned_back = np.any(site[:, axis, axis] < -1 + _SAME_DIRECTION)
        if both and not turned_back:
            found.append((axis, -1))
    return found


def _rank(vectors: Array) -> int:
    """Dimensions that the columns of many matrices, shape (m, 3, k), span."""
    columns = vectors.transpose(0, 2, 1).reshape(-1, 3)
    return int((np.linalg.eigvalsh(columns.T @ columns) > _INDEPENDENT * len(columns)).sum())


def _rows(atom: int, pushed: list[tuple[int, int, Array]], operations: Operations) -> Array:
    """An atom's rows of force constants, shape (3, n_atoms, 3), fitted to (axis, sign, forces) and all their images."""
    covariance, answer = np.zeros((3, 3)), np.zeros((3, *pushed[0][2].shape))
    for rotation, image in zip(operations.rotations, operations.images, strict=True):
        if image[atom] != atom:
            continue
        for axis, sign, force in pushed:
            moved = sign * _DISPLACEMENT_ANGSTROM * rotation[:, axis]
            turned = np.empty_like(force)
            turned[image] = force @ rotation.T
            covariance += np.outer(moved, moved)
            answer -= moved[:, None, None] * turned
    return np.asarray(np.einsum("ax,xjb->ajb", np.linalg.inv(covariance), answer))


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
