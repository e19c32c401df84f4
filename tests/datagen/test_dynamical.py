"""Dynamical matrices at many q-points are phonopy's own; one of each pair q and −q stands for both."""

from pathlib import Path

import numpy as np
import pytest
from phonopy.harmonic.dynamical_matrix import DynamicalMatrixGL, get_dynamical_matrices_at_qpoints

from datagen.dynamical import DynamicalMatrices, half_mesh
from datagen.parents import Parent, compact_solve, load_parents, shifted_mesh
from datagen.supercells import Supercell

SKEWED = np.array([[2, 1, 0], [-1, 3, 1], [0, -1, 2]])
# Points of the zone's corners and edges, where q plus a reciprocal vector is another point of the truncated sum.
AWKWARD = np.array([[0, 0, 0], [0.5, 0, 0], [1, 0, 0], [0.5, 0.5, 0.5], [-0.3, 0.5, 0.25]])


def _agree(parent: Parent) -> None:
    matrix = parent.phonons.dynamical_matrix
    q = np.vstack([AWKWARD, np.random.default_rng(0).uniform(-1, 1, (20, 3))])
    truth = get_dynamical_matrices_at_qpoints(matrix, q)
    assert np.abs(DynamicalMatrices(matrix).at(q) - truth).max() < 1e-7 * np.abs(truth).max()


def test_short_range_crystals_are_as_phonopy_has_them(gallium_arsenide: Parent) -> None:
    assert not isinstance(gallium_arsenide.phonons.dynamical_matrix, DynamicalMatrixGL)
    _agree(gallium_arsenide)


@pytest.mark.parametrize("name", ["mp-2605", "mp-1968", "mp-14142"])
def test_polar_crystals_are_as_phonopy_has_them(name: str, phonon_database: Path) -> None:
    ((_, load),) = load_parents(phonon_database, [name])
    parent = load()
    assert isinstance(parent.phonons.dynamical_matrix, DynamicalMatrixGL)
    _agree(parent)


def test_compact_constants_fold_back(gallium_arsenide: Parent) -> None:
    """At the q-points that fit the cell, the constants made of D(q) give D(q) back."""
    cell = Supercell(gallium_arsenide.primitive, SKEWED)
    q = cell.commensurate_q()
    found, weights = compact_solve(gallium_arsenide.compact_force_constants(cell), cell, q)
    assert found == pytest.approx(gallium_arsenide.frequencies(q), abs=1e-3)
    assert weights.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("divisions", [(4, 4, 4), (3, 5, 7), (17, 17, 10)])
def test_half_a_mesh_stands_for_the_whole(divisions: tuple[int, int, int]) -> None:
    mesh = shifted_mesh(divisions)
    q, multiplicity = half_mesh(mesh)
    assert multiplicity.sum() == len(mesh)
    assert len(q) <= len(mesh) // 2 + 1
    both = np.concatenate([q, -q[multiplicity == 2]]) % 1.0

    def ordered(points: np.ndarray) -> np.ndarray:
        return np.array(sorted(np.round(points, 6).tolist()))

    assert ordered(both) == pytest.approx(ordered(mesh), abs=2e-6)
