"""Where the dopants of a plan sit in a supercell, and which crystal that makes."""

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from datagen.embedding import Site
from datagen.quasirandom import pair_error
from datagen.sampling import Plan
from datagen.supercells import Supercell
from defectnet.host import Defect

__all__ = ["basis_of", "choose_sites", "count_defects", "doped_atoms"]


def basis_of(primitive: Atoms) -> dict[str, list[int]]:
    """Element → the basis atoms of the primitive cell that are of it."""
    symbols = primitive.get_chemical_symbols()
    return {symbol: [k for k, one in enumerate(symbols) if one == symbol] for symbol in sorted(set(symbols))}


def choose_sites(plan: Plan, supercell: Supercell, rng: np.random.Generator, quasirandom: int = 0) -> list[Site]:
    """The dopants' sites, sorted: drawn at random, or the most random-like of `quasirandom` draws.

    Each dopant takes at least one site, and no more than its sublattice has left.
    """
    if not quasirandom:
        return _draw(plan, supercell, rng)
    distances = supercell.atoms.get_all_distances(mic=True)
    before = supercell.atoms.get_chemical_symbols()

    def error(sites: list[Site]) -> float:
        return pair_error(distances, before, doped_atoms(supercell, sites).get_chemical_symbols())

    return min((_draw(plan, supercell, rng) for _ in range(quasirandom)), key=error)


def _draw(plan: Plan, supercell: Supercell, rng: np.random.Generator) -> list[Site]:
    bases = basis_of(supercell.primitive)
    free = {
        symbol: rng.permutation([(L, k) for L in range(supercell.n_points) for k in bases[symbol]]).tolist()
        for symbol in sorted({choice.replaces for choice, _ in plan.dopants})
    }
    sites = []
    for choice, share in plan.dopants:
        for _ in range(max(1, round(share * supercell.n_atoms))):
            if not free[choice.replaces]:
                break
            point, basis = free[choice.replaces].pop()
            sites.append(Site(point, basis, choice.element))
    return sorted(sites)


def doped_atoms(supercell: Supercell, sites: Sequence[Site]) -> Atoms:
    """The undistorted supercell with dopants on `sites`; masses are the host's own elsewhere."""
    atoms = supercell.atoms.copy()
    masses = np.tile(supercell.primitive.get_masses(), supercell.n_points)
    numbers = atoms.numbers.copy()
    for site in sites:
        index = site.point * supercell.n_basis + site.basis
        numbers[index] = atomic_numbers[site.element]
        masses[index] = atomic_masses[numbers[index]]
    atoms.numbers = numbers
    atoms.set_masses(masses)
    return atoms


def count_defects(plan: Plan, supercell: Supercell, sites: Sequence[Site]) -> tuple[Defect, ...]:
    """What the cell really holds of each dopant of the plan, as a fraction of all atoms."""
    bases = basis_of(supercell.primitive)
    counted = []
    for choice, _ in plan.dopants:
        n = sum(site.element == choice.element and site.basis in bases[choice.replaces] for site in sites)
        if n:
            counted.append(Defect(choice.element, choice.replaces, n / supercell.n_atoms))
    return tuple(counted)
