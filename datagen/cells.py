"""The cell in which a crystal is doped: a low-symmetry supercell that samples the pristine host well."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datagen.dos import ElementDos, cell_dos, is_solved, mesh_error, pristine_dos_on_mesh
from datagen.parents import Parent
from datagen.supercells import Supercell, low_symmetry_matrices

__all__ = ["Cell", "choose_cell"]

Array = NDArray[np.float64]

# Low-symmetry cells tried for each size; the one that samples the pristine host best is kept.
_TRIES = 4


@dataclass(frozen=True, eq=False)
class Cell:
    """A doped cell's frame with what the pristine host contributes to it.

    Attributes:
        supercell: the undistorted cell.
        host_compact: the host's DFT force constants in it, shape (n_basis, 3, n_points, n_basis, 3), eV/Å².
        host_on_mesh: the host sampled as a doped crystal in this cell is.
    """

    supercell: Supercell
    host_compact: Array
    host_on_mesh: ElementDos


def choose_cell(parent: Parent, n_atoms: int, seed: int, reference: ElementDos) -> Cell:
    """Of some cells of 90 to 100 % of `n_atoms`, drawn by `seed`, the one that samples the pristine host best.

    Args:
        reference: the pristine host, converged.
    """
    rng = np.random.default_rng([n_atoms, seed])
    matrices = low_symmetry_matrices(parent.primitive, n_atoms, rng, _TRIES)
    cells = [Supercell(parent.primitive, matrix) for matrix in matrices]
    best = min(cells, key=lambda cell: mesh_error(parent, cell, reference))
    compact = parent.compact_force_constants(best)
    if is_solved(best):
        on_mesh = pristine_dos_on_mesh(parent, compact, best, reference.bins)
    else:
        masses = np.tile(parent.primitive.get_masses(), best.n_points)
        on_mesh = cell_dos(best.expand(compact), best, best.atoms.numbers, masses, reference.bins)
    return Cell(best, compact, on_mesh)
