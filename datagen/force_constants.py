"""Force constants by finite displacements of a potential."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from datagen.potentials import Potential
from datagen.supercells import Supercell, symmetrise_compact
from datagen.symmetry import Operations

__all__ = [
    "OneSided",
    "compact_and_even",
    "compact_by_displacement",
    "full_by_displacement",
    "impose_sum_rule",
]

Array = NDArray[np.float64]

# Small enough to stay harmonic, large enough for forces in single precision; phonopy's default.
_DISPLACEMENT_ANGSTROM = 0.01
# How far a component of a turned axis may be from ±1: operations are exact but for rounding of the cell.
_SAME_DIRECTION = 1e-4
# Smallest mean square of directions along an axis that counts as reached: symmetry gives a third, or nothing.
_INDEPENDENT = 1e-3


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
