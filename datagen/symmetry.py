"""Operations of a crystal's space group, and which of its sites they carry onto one another."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

from datagen.supercells import Supercell

__all__ = ["Equivalence", "Operations", "compact_operations", "equivalent_sites", "symmetry_operations"]

Array = NDArray[np.float64]

_SYMMETRY_ANGSTROM = 1e-3


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
