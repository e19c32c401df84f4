"""A parent as an interatomic potential sees it: its gate, one dopant at a time, and the host in a doped cell."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datagen.embedding import Fragment, PotentialHost, Site, compute_potential_host, superpose
from datagen.force_constants import compact_by_displacement
from datagen.fragment_cache import FragmentCache
from datagen.parents import Parent
from datagen.potentials import Potential
from datagen.relaxation import Stiffness
from datagen.settings import SimulateSettings
from datagen.supercells import Supercell, choose_matrix
from datagen.symmetry import Equivalence, equivalent_sites
from defectnet.errors import SimulationError

__all__ = ["PotentialView"]

Array = NDArray[np.float64]


class PotentialView:
    """What the potentials say about one parent; each question is computed when it is first asked, and kept.

    Attributes:
        parent: the pristine crystal.
    """

    def __init__(
        self, parent: Parent, potential: Potential, settings: SimulateSettings, second: Potential | None = None
    ) -> None:
        """`second` is asked where `potential` fails its gate on the host."""
        self.parent = parent
        self._first, self._second = potential, second
        self._settings = settings
        self._answer: tuple[Potential, PotentialHost] | SimulationError | None = None
        self._cache = FragmentCache(Path(settings.fragment_cache) if settings.fragment_cache else None)
        self._fragments: dict[tuple[int, str], Fragment] = {}
        self._failed: dict[tuple[int, str], SimulationError] = {}
        self._hosts: dict[bytes, tuple[Array, Stiffness]] = {}

    @property
    def potential(self) -> Potential:
        """The one in use: the second as soon as the first has failed its gate and the second has passed it."""
        return self._answer[0] if isinstance(self._answer, tuple) else self._first

    def host(self) -> PotentialHost:
        """The pristine host in the fragments' cell.

        Raises:
            SimulationError: every potential fails its gate, or the primitive cell is larger than the settings allow.
        """
        if len(self.parent.primitive) > self._settings.max_basis_potential:
            raise SimulationError(f"{self.parent.parent_id}: no end member, and too large a cell for the potential")
        if self._answer is None:
            self._answer = self._first_that_passes()
        if isinstance(self._answer, SimulationError):
            raise self._answer
        return self._answer[1]

    def _first_that_passes(self) -> tuple[Potential, PotentialHost] | SimulationError:
        primitive = self.parent.primitive
        cell = Supercell(primitive, choose_matrix(primitive, max(self._settings.fragment_atoms, 2 * len(primitive))))
        failures = []
        for potential in (self._first, *filter(None, (self._second,))):
            try:
                host = compute_potential_host(self.parent, potential, cell, self._settings.max_host_imaginary)
            except SimulationError as error:
                failures.append(error)
            else:
                return potential, host
        return failures[0]

    @cached_property
    def _equivalences(self) -> list[Equivalence]:
        return equivalent_sites(self.parent.primitive)

    def fragment(self, basis: int, element: str) -> Fragment:
        """The change that `element` makes on the basis atom's site, on the representative of its equivalent sites.

        Raises:
            SimulationError: see `host` and `datagen.embedding.compute_fragment`; the same each time.
        """
        key = (self._equivalences[basis].representative, element)
        if key not in self._fragments and key not in self._failed:
            try:
                host = self.host()
                self._fragments[key] = self._cache.fragment(host, self.potential, *key)
            except SimulationError as error:
                self._failed[key] = error
        if key in self._failed:
            raise self._failed[key]
        return self._fragments[key]

    def superposed(self, sites: Sequence[Site], supercell: Supercell) -> tuple[Array, float]:
        """What dopants on `sites` change, by fragments laid over them; returns as `datagen.embedding.superpose`.

        Raises:
            SimulationError: see `fragment`.
        """
        for site in sites:
            self.fragment(site.basis, site.element)
        return superpose(self.host(), self._fragments, sites, supercell, self._equivalences)

    def host_in(self, supercell: Supercell) -> tuple[Array, Stiffness]:
        """The pristine host in a doped cell: compact force constants, eV/Å², and the metric of relaxations there.

        Raises:
            SimulationError: see `host`.
        """
        host = self.host()
        key = supercell.matrix.tobytes()
        if key not in self._hosts:
            compact = compact_by_displacement(supercell, host.atoms_in(supercell), self.potential)
            self._hosts[key] = (compact, Stiffness(supercell.expand(compact)))
        return self._hosts[key]
