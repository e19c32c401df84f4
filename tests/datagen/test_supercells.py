"""Bookkeeping of supercells: every identity here is exact."""

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import wasserstein_distance

from datagen.dos import HALF_MESH, chebyshev_dos, choose_bins, doped_dos, pristine_dos_on_mesh
from datagen.parents import Parent
from datagen.supercells import Supercell, choose_matrix, low_symmetry_matrices

SKEWED = np.array([[2, 1, 0], [-1, 3, 1], [0, -1, 2]])


@pytest.fixture(scope="module")
def skewed() -> Supercell:
    return Supercell(bulk("GaAs", "zincblende", a=5.65), SKEWED)


def test_points_are_one_of_each_class(skewed: Supercell) -> None:
    assert len(skewed.points) == round(np.linalg.det(SKEWED))
    assert np.array_equal(skewed.points[0], [0, 0, 0])
    assert np.array_equal(skewed.index_of(skewed.points), np.arange(skewed.n_points))


def test_index_is_periodic(skewed: Supercell) -> None:
    shifts = np.random.default_rng(0).integers(-5, 6, (20, 3)) @ SKEWED
    for shift in shifts:
        assert np.array_equal(skewed.index_of(skewed.points + shift), np.arange(skewed.n_points))


def test_nearest_images_are_the_minimum_image_distances(skewed: Supercell) -> None:
    vectors, weights = skewed.nearest_images
    start = skewed.primitive.positions
    expected = skewed.atoms.get_all_distances(mic=True)[: skewed.n_basis]
    for k in range(skewed.n_basis):
        ends = vectors[k] @ np.asarray(skewed.primitive.cell) + start[None, :, None, :]
        lengths = np.linalg.norm(ends - start[k], axis=-1)
        nearest = np.where(weights[k] > 0, lengths, np.inf).min(axis=-1).ravel()
        assert nearest == pytest.approx(expected[k], abs=1e-6)
    assert weights.sum(axis=-1) == pytest.approx(1.0)


def test_commensurate_q_are_integers_on_the_supercell(skewed: Supercell) -> None:
    q = skewed.commensurate_q()
    assert len({tuple(np.round(row, 9)) for row in q}) == skewed.n_points
    on_supercell = q @ SKEWED.T
    assert on_supercell == pytest.approx(np.rint(on_supercell), abs=1e-9)


def test_zone_centre_phases_are_one(skewed: Supercell) -> None:
    assert skewed.half_phases((0, 0, 0)) == pytest.approx(1.0)


def test_chosen_cells_keep_their_size() -> None:
    primitive = bulk("Si", "diamond", a=5.43)
    assert len(Supercell(primitive, choose_matrix(primitive, 64)).atoms) <= 64
    for matrix in low_symmetry_matrices(primitive, 100, np.random.default_rng(1), 4):
        assert 90 <= Supercell(primitive, matrix).n_atoms <= 100


def test_transfer_to_the_same_cell_changes_nothing(silicon: Parent) -> None:
    cell = Supercell(silicon.primitive, SKEWED)
    compact = silicon.compact_force_constants(cell)
    assert cell.transfer(compact, cell) == pytest.approx(compact, abs=1e-12)


def test_a_cell_without_dopants_folds_the_primitive_spectrum(gallium_arsenide: Parent) -> None:
    """The doped path (dense matrices, half mesh) and the pristine path (primitive q-points) are the same sum."""
    cell = Supercell(gallium_arsenide.primitive, SKEWED)
    compact = gallium_arsenide.compact_force_constants(cell)
    bins = choose_bins(gallium_arsenide.top_thz())
    atoms = cell.atoms
    masses = np.tile(gallium_arsenide.primitive.get_masses(), cell.n_points)
    folded = pristine_dos_on_mesh(gallium_arsenide, compact, cell, bins)
    dense = doped_dos(cell.expand(compact), cell, atoms.numbers, masses, bins)
    assert len(HALF_MESH) == 8
    for symbol in ("Ga", "As"):
        distance = np.abs(dense.partial[symbol] - folded.partial[symbol]).sum() * bins.step_thz
        assert distance < 5e-3  # of 1.5 modes; single precision moves a few modes across a bin's edge


def test_chebyshev_moments_count_the_same_modes(gallium_arsenide: Parent) -> None:
    """The method for large cells beside the solved modes: every mode counted, and each in nearly the same place."""
    cell = Supercell(gallium_arsenide.primitive, 2 * SKEWED)
    phi = cell.expand(gallium_arsenide.compact_force_constants(cell))
    numbers, masses = cell.atoms.numbers.copy(), np.tile(gallium_arsenide.primitive.get_masses(), cell.n_points)
    numbers[0], masses[0] = 13, 26.98  # one aluminium, three exact vectors
    bins = choose_bins(gallium_arsenide.top_thz())
    solved = doped_dos(phi, cell, numbers, masses, bins)
    found = chebyshev_dos(phi, cell, numbers, masses, bins)
    assert found.imaginary_weight < 1e-3
    axis = np.arange(bins.n) * bins.step_thz
    for symbol, density in solved.partial.items():
        assert found.partial[symbol].sum() == pytest.approx(density.sum(), rel=2e-3)
        distance = wasserstein_distance(axis, axis, np.maximum(found.partial[symbol], 0), density)
        assert distance < 0.02 * gallium_arsenide.top_thz()
