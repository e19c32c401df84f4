"""How far a configuration of dopants is from a perfectly random alloy: what special quasirandom structures make small.

Zunger et al., Phys. Rev. Lett. 65, 353: in a cell of a few hundred atoms the pairs of a random draw differ from those
of the endless random alloy; a configuration is chosen whose pairs in the nearest shells do not.
"""

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_error"]

# Shells count up to this multiple of a sublattice's shortest distance.
_REACH = 2.0
# Sites whose distances differ by less than this are in one shell, Å.
_SHELL_ANGSTROM = 0.05


def pair_error(distances: NDArray[np.float64], before: Sequence[str], after: Sequence[str]) -> float:
    """Root mean square difference between the pairs of a configuration and those of a random alloy, over all shells.

    Args:
        distances: between the sites, nearest images, shape (n_atoms, n_atoms), Å.
        before, after: the elements on the sites without and with the dopants, n_atoms each.

    Returns:
        0 where each pair of species is as frequent in each shell as by chance; 0 without dopants too.
    """
    was, now = np.asarray(before), np.asarray(after)
    errors = []
    for replaced in sorted(set(was[was != now])):
        sites = np.flatnonzero(was == replaced)
        species = now[sites]
        kinds = sorted(set(species))
        if len(sites) < 2:
            continue
        apart = distances[np.ix_(sites, sites)] + np.diag(np.full(len(sites), np.inf))
        near = apart < _REACH * apart.min()
        shells = np.rint(apart[near] / _SHELL_ANGSTROM).astype(int)
        first, second = np.nonzero(near)
        for shell in np.unique(shells):
            one, other = species[first[shells == shell]], species[second[shells == shell]]
            for a, b in combinations_with_replacement(kinds, 2):
                observed = 0.5 * float(((one == a) & (other == b)).mean() + ((one == b) & (other == a)).mean())
                errors.append(observed - float((species == a).mean() * (species == b).mean()))
    return float(np.sqrt(np.mean(np.square(errors)))) if errors else 0.0
