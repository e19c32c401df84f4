"""Where dopants sit: counts that are kept, sublattices that are not left, draws that look random."""

import numpy as np
import pytest

from datagen.dopants import Replacement
from datagen.parents import Parent
from datagen.quasirandom import pair_error
from datagen.sampling import Plan
from datagen.sites import basis_of, choose_sites, count_defects, doped_atoms
from datagen.supercells import Supercell, choose_matrix

PLAN = Plan(((Replacement("Al", "Ga", 1.0, False), 0.1), (Replacement("P", "As", 1.0, False), 0.001)))


@pytest.fixture(scope="module")
def cell(gallium_arsenide: Parent) -> Supercell:
    return Supercell(gallium_arsenide.primitive, choose_matrix(gallium_arsenide.primitive, 128))


def test_dopants_sit_on_their_sublattices_and_are_counted(cell: Supercell) -> None:
    sites = choose_sites(PLAN, cell, np.random.default_rng(0))
    assert len({(site.point, site.basis) for site in sites}) == len(sites)
    symbols = cell.primitive.get_chemical_symbols()
    assert {(symbols[site.basis], site.element) for site in sites} == {("Ga", "Al"), ("As", "P")}
    counts = {defect.element: defect.concentration * cell.n_atoms for defect in count_defects(PLAN, cell, sites)}
    assert counts == pytest.approx({"Al": round(0.1 * cell.n_atoms), "P": 1})  # at least one of each
    doped = doped_atoms(cell, sites)
    assert doped.get_chemical_symbols().count("Al") == counts["Al"]
    ours = [symbol not in ("Al", "P") for symbol in doped.get_chemical_symbols()]
    host = np.tile(cell.primitive.get_masses(), cell.n_points)
    assert np.array_equal(doped.get_masses()[ours], host[ours])


def test_a_full_sublattice_takes_no_more(cell: Supercell) -> None:
    plan = Plan(((Replacement("Al", "Ga", 1.0, False), 0.9),))
    sites = choose_sites(plan, cell, np.random.default_rng(0))
    assert len(sites) == cell.n_atoms // 2
    assert {site.basis for site in sites} == set(basis_of(cell.primitive)["Ga"])


def test_the_best_of_many_draws_is_kept(silicon: Parent) -> None:
    cell = Supercell(silicon.primitive, choose_matrix(silicon.primitive, 130))
    plan = Plan(((Replacement("Ge", "Si", 1.0, False), 0.2),))
    before, distances = cell.atoms.get_chemical_symbols(), cell.atoms.get_all_distances(mic=True)
    errors = []
    for quasirandom in (0, 30):
        sites = choose_sites(plan, cell, np.random.default_rng(1), quasirandom)
        assert len(sites) == round(0.2 * cell.n_atoms)
        errors.append(pair_error(distances, before, doped_atoms(cell, sites).get_chemical_symbols()))
    assert errors[1] < errors[0]
