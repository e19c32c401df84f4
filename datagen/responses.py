"""How a host answers to a dopant: the change of its density of states for each unit of the dopant's concentration.

A response is computed as a sample is: a supercell of the host with dopants on random sites, its density beside the
pristine one's in the same cell and on the same mesh, so that errors of the quadrature cancel. What the dopant does to
the force constants comes from one of `SOURCES`, best first:

- *endmember*: the DFT crystal with the dopant on the whole sublattice (`datagen.endmembers`);
- *potential:NAME*: the change around one dopant by an interatomic potential (`datagen.embedding`);
- *springs*: the bonds of the dopant scaled by what the chemistry of its pair tells (`datagen.springs`);
- *masses*: the mass alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray

from datagen.dos import Bins, ElementDos, choose_bins, doped_dos, mesh_error, pristine_dos, pristine_dos_on_mesh
from datagen.embedding import Fragment, PotentialHost, Site, superpose
from datagen.endmembers import Endmember, interpolate
from datagen.force_constants import Equivalence, equivalent_sites, impose_sum_rule
from datagen.parents import Parent
from datagen.sites import basis_of, doped_atoms
from datagen.springs import Springs, scaled_bonds
from datagen.supercells import Supercell, low_symmetry_matrices
from defectnet.errors import CompositionError, SimulationError, UnstableError
from defectnet.neutron import neutron_weight
from defectnet.spectrum import MODES_PER_ATOM

__all__ = ["CONCENTRATIONS", "LOWEST_THZ", "HostDynamics", "Response"]

Array = NDArray[np.float64]

# Fractions of all atoms at which a response is computed: where a change is still linear, where dopants meet, and near
# the most that is asked for.
CONCENTRATIONS = (0.01, 0.06, 0.2)
# Smaller cells give the form of a response, but its size only to a factor of two (80 atoms); 180 give it to 5 %.
_CELL_ATOMS = 216
_CELL_TRIES = 3
# A dopant takes at most this share of its sublattice, as in the simulated samples.
_MOST_OF_SUBLATTICE = 0.5
# A host with a mode below this is unstable, THz.
LOWEST_THZ = -0.3
# Beyond this share of imaginary modes a doped crystal is none.
_MOST_IMAGINARY = 0.01


@dataclass(frozen=True, eq=False)
class Response:
    """The change that one substitution makes at one concentration.

    Attributes:
        element, replaces: the dopant and the host element whose sites it takes.
        source: where the dopant's force constants come from (see the top of this file).
        concentration: of the cell that was computed, fraction of all atoms; 0 for a single dopant.
        strain: linear strain of the crystal at this concentration; 0 where the source does not say.
        change: shape (n_bins,), change of the normalised density (3 modes) in modes per THz, over the concentration.
        change_neutron: the same of the neutron-weighted density; None where a cross-section is not tabulated.
        imaginary_weight: share of imaginary modes in the doped cell.
    """

    element: str
    replaces: str
    source: str
    concentration: float
    strain: float
    change: Array
    change_neutron: Array | None
    imaginary_weight: float


class HostDynamics:
    """One pristine crystal, its supercell for responses, and the responses themselves.

    Raises:
        UnstableError: the crystal has modes below `lowest_thz`.
    """

    def __init__(
        self, parent: Parent, *, n_atoms: int = _CELL_ATOMS, seed: int = 0, lowest_thz: float = LOWEST_THZ
    ) -> None:
        self.parent = parent
        lowest = parent.lowest_thz()
        if lowest < lowest_thz:
            raise UnstableError(f"{parent.parent_id}: the pristine crystal is unstable ({lowest:.2f} THz)")
        self._n_atoms, self._seed = n_atoms, seed

    @cached_property
    def bins(self) -> Bins:
        """The bins of every density of this host."""
        return choose_bins(self.parent.top_thz())

    @cached_property
    def density(self) -> ElementDos:
        """The pristine host's converged density of states, by element."""
        return pristine_dos(self.parent, self.bins)

    @cached_property
    def supercell(self) -> Supercell:
        """The cell in which responses are computed: of a few without symmetry, the one that samples the host best."""
        primitive = self.parent.primitive
        rng = np.random.default_rng([self._seed, self._n_atoms])
        size = max(self._n_atoms, 4 * len(primitive))
        matrices = low_symmetry_matrices(primitive, size, rng, _CELL_TRIES)
        cells = [Supercell(primitive, matrix) for matrix in matrices]
        return min(cells, key=lambda cell: mesh_error(self.parent, cell, self.density))

    @cached_property
    def compact(self) -> Array:
        """The host's compact force constants in `supercell`, eV/Å²."""
        return self.parent.compact_force_constants(self.supercell)

    @cached_property
    def _full(self) -> Array:
        return self.supercell.expand(self.compact)

    @cached_property
    def _on_mesh(self) -> ElementDos:
        return pristine_dos_on_mesh(self.parent, self.compact, self.supercell, self.bins)

    @cached_property
    def equivalences(self) -> list[Equivalence]:
        """For each basis atom, how its representative is carried onto it."""
        return equivalent_sites(self.parent.primitive)

    @cached_property
    def bases(self) -> dict[str, list[int]]:
        """The basis atoms of each element."""
        return basis_of(self.parent.primitive)

    def masses(self, element: str, replaces: str, concentrations: Sequence[float] = CONCENTRATIONS) -> list[Response]:
        """Responses of a dopant that differs by its mass alone."""
        return self._at_each(element, replaces, "masses", concentrations, lambda doped, sites: (self._full, 0.0))

    def springs(
        self, element: str, replaces: str, springs: Springs, concentrations: Sequence[float] = CONCENTRATIONS
    ) -> list[Response]:
        """Responses of a dopant whose bonds are the host's, scaled as `springs` predicts."""
        scales = springs.scales(self.parent, element, replaces)

        def constants(doped: Atoms, sites: list[Site]) -> tuple[Array, float]:
            symbols = np.array(doped.get_chemical_symbols())
            return scaled_bonds(self._full, self.supercell, symbols, {(replaces, element): scales}), 0.0

        return self._at_each(element, replaces, "springs", concentrations, constants)

    def endmember(self, end: Endmember, element: str, replaces: str) -> list[Response]:
        """Responses by the DFT crystal with the dopant on the whole sublattice."""
        compact = end.compact_force_constants(self.supercell)
        per_fraction = end.strain * len(self.parent.primitive) / len(self.bases[replaces])

        def constants(doped: Atoms, sites: list[Site]) -> tuple[Array, float]:
            symbols = np.array(doped.get_chemical_symbols())
            phi = interpolate(self.compact, {(replaces, element): compact}, self.supercell, symbols)
            return phi, per_fraction * len(sites) / self.supercell.n_atoms

        return self._at_each(element, replaces, "endmember", CONCENTRATIONS, constants)

    def fragments(
        self, host: PotentialHost, fragments: Mapping[tuple[int, str], Fragment], element: str, replaces: str, name: str
    ) -> list[Response]:
        """Responses by the change around one dopant that a potential gives (`datagen.embedding.compute_fragment`)."""

        def constants(doped: Atoms, sites: list[Site]) -> tuple[Array, float]:
            change, strain = superpose(host, dict(fragments), sites, self.supercell, self.equivalences)
            return impose_sum_rule(self._full + change), strain

        return self._at_each(element, replaces, f"potential:{name}", CONCENTRATIONS, constants)

    def _at_each(
        self,
        element: str,
        replaces: str,
        source: str,
        concentrations: Iterable[float],
        constants: Callable[[Atoms, list[Site]], tuple[Array, float]],
    ) -> list[Response]:
        """The response at each concentration that the sublattice has room for; unstable cells are left out.

        Raises:
            UnstableError: the doped crystal is unstable at every concentration.
        """
        found, worst = [], 0.0
        for count in self._counts(replaces, concentrations):
            rng = np.random.default_rng([self._seed, count, atomic_numbers[element], atomic_numbers[replaces]])
            sites = self._draw(element, replaces, count, rng)
            doped = doped_atoms(self.supercell, sites)
            phi, strain = constants(doped, sites)
            dos = doped_dos(phi, self.supercell, doped.numbers, doped.get_masses(), self.bins)
            worst = max(worst, dos.imaginary_weight)
            if dos.imaginary_weight > _MOST_IMAGINARY:
                continue
            share = count / self.supercell.n_atoms
            weighted = self.weighted(dos), self.weighted(self._on_mesh)
            neutron = None if weighted[0] is None or weighted[1] is None else (weighted[0] - weighted[1]) / share
            change = (_normalised(dos.total, self.bins) - _normalised(self._on_mesh.total, self.bins)) / share
            found.append(Response(element, replaces, source, share, strain, change, neutron, dos.imaginary_weight))
        if not found:
            name = f"{self.parent.parent_id} with {element} for {replaces} ({source})"
            raise UnstableError(f"{name}: unstable ({worst:.1%} imaginary modes)")
        return found

    def _counts(self, replaces: str, concentrations: Iterable[float]) -> list[int]:
        """Numbers of dopants in the cell, without doubles."""
        sites = self.supercell.n_points * len(self.bases[replaces])
        most = max(1, int(_MOST_OF_SUBLATTICE * sites))
        counts = [min(max(1, round(c * self.supercell.n_atoms)), most) for c in concentrations]
        return sorted(set(counts))

    def _draw(self, element: str, replaces: str, count: int, rng: np.random.Generator) -> list[Site]:
        free = [(L, k) for L in range(self.supercell.n_points) for k in self.bases[replaces]]
        chosen = rng.permutation(len(free))[:count]
        return sorted(Site(free[index][0], free[index][1], element) for index in chosen.tolist())

    def weighted(self, dos: ElementDos) -> Array | None:
        """The neutron-weighted density, 3 modes; None where an element has no tabulated cross-section."""
        try:
            weights = {symbol: neutron_weight(symbol) for symbol in dos.partial}
        except CompositionError:
            return None
        return _normalised(np.sum([weights[s] * d for s, d in dos.partial.items()], axis=0), self.bins)


def _normalised(density: Array, bins: Bins) -> Array:
    total = float(density.sum()) * bins.step_thz
    if total <= 0:
        raise SimulationError("a density without modes")
    return density * (MODES_PER_ATOM / total)
