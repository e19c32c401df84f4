"""Pairs of a configuration against those of a random alloy."""

import numpy as np
from ase.build import bulk

from datagen.quasirandom import pair_error


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
