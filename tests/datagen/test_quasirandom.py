"""Pairs of a configuration against those of a random alloy."""

import numpy as np
from ase.build import bulk

from datagen.dopants import Candidate
from datagen.engine import Workbench
from datagen.parents import Parent
from datagen.potentials import Potential
from datagen.quasirandom import pair_error
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.supercells import Supercell, choose_matrix


def test_order_is_far_from_random_and_chance_is_nearer() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (3, 3, 3)
    before = atoms.get_chemical_symbols()
    distances = atoms.get_all_distances(mic=True)
    sites = [index for index, symbol in enumerate(before) if symbol == "Na"]
    rng = np.random.default_rng(0)

    def doped(chosen: list[int]) -> list[str]:
        return ["K" if index in chosen else symbol for index, symbol in enumerate(before)]

    clustered = sorted(sites, key=lambda index: distances[sites[0], index])[: len(sites) // 4]
    drawn = [rng.permutation(sites)[: len(sites) // 4].tolist() for _ in range(20)]
    errors = [pair_error(distances, before, doped(one)) for one in drawn]
    assert pair_error(distances, before, before) == 0.0
    assert max(errors) < 0.5 * pair_error(distances, before, doped(clustered))
    assert min(errors) < max(errors)


def test_the_best_of_many_draws_is_kept(silicon: Parent, potential: Potential) -> None:
    cell = Supercell(silicon.primitive, choose_matrix(silicon.primitive, 130))
    plan = Plan(((Candidate("Ge", "Si", 1.0, False), 0.2),))
    before, distances = cell.atoms.get_chemical_symbols(), cell.atoms.get_all_distances(mic=True)
    errors = []
    for quasirandom in (0, 30):
        bench = Workbench(silicon, potential, SimulateSettings(quasirandom=quasirandom))
        sites = bench._configuration(plan, cell, np.random.default_rng(1))
        assert len(sites) == round(0.2 * cell.n_atoms)
        errors.append(pair_error(distances, before, bench._doped_atoms(cell, sites).get_chemical_symbols()))
    assert errors[1] < errors[0]
