"""One parent's workbench: from a plan of dopants to the density of states of the doped crystal.

Four methods, the best that applies:

- *interpolated*: the DFT crystals with the dopants on whole sublattices say what they change; no potential is asked;
- *embedded*: each dopant's change, found once alone in a small cell, is laid over its sites (dilute, mild misfit);
- *direct*: the doped cell itself is relaxed and displaced (concentrated, or strong misfit);
- *masses*: only the masses change, where the potential fails its gate; the row says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray

from datagen.dopants import Candidate
from datagen.dos import (
    Bins,
    ElementDos,
    chebyshev_dos,
    choose_bins,
    corrected,
    doped_dos,
    mesh_error,
    pristine_dos,
    pristine_dos_on_mesh,
)
from datagen.embedding import (
    Fragment,
    PotentialHost,
    Site,
    compute_potential_host,
    pressure_of,
    superpose,
)
from datagen.endmembers import Endmember, interpolate
from datagen.force_constants import (
    Equivalence,
    Stiffness,
    compact_by_displacement,
    equivalent_sites,
    full_by_displacement,
    impose_sum_rule,
    relax,
    strained,
)
from datagen.fragment_cache import FragmentCache
from datagen.parents import Parent
from datagen.potentials import Potential
from datagen.quasirandom import pair_error
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.supercells import Supercell, choose_matrix, low_symmetry_matrices
from defectnet.errors import SimulationError, UnstableError
from defectnet.host import Defect

__all__ = ["Outcome", "Workbench"]

Array = NDArray[np.float64]

# While the dopants together stay below this share of all atoms, and the sum of their strains below this, superposed
# fragments agree with the direct calculation to R² 0.98 to 1.00 (Si:Ge, Si:C, MgO:Zn, ZnS:Cd, AlAs:P in cells of 120
# atoms); beyond either the doped cell itself is computed.
_EMBEDDED_MAX_FRACTION = 0.06
_EMBEDDED_MAX_STRAIN = 0.006
# A direct cell must resolve the rarest dopant, up to this many atoms (its cost grows with their square).
_DIRECT_MAX_ATOMS = 240
# Beyond this many atoms Chebyshev moments are cheaper than solving for the modes, by far (`make bench-simulate`).
_MOST_ATOMS_SOLVED = 1000
# Low-symmetry cells tried for each size; the one that samples the pristine host best is kept.
_CELL_TRIES = 4
_SIZE_STEP = 1.35


@dataclass(frozen=True, eq=False)
class Outcome:
    """A simulated sample: its density of states and how it was made."""

    dos: ElementDos
    defects: tuple[Defect, ...]
    method: str
    n_atoms: int
    strain: float
    heterovalent: bool


@dataclass(frozen=True, eq=False)
class _Cell:
    """A doped cell's frame with what the pristine host contributes to it."""

    supercell: Supercell
    host_compact: Array
    host_on_mesh: ElementDos


class Workbench:
    """Everything about one parent that its samples share; computed when first needed.

    Raises:
        UnstableError: the DFT host itself has imaginary modes.
        SimulationError: its primitive cell is larger than the settings allow.
    """

    def __init__(
        self,
        parent: Parent,
        potential: Potential,
        settings: SimulateSettings,
        load: Callable[[str], Parent] | None = None,
        second: Potential | None = None,
    ) -> None:
        """`load` finds end members by name; without it there are none. `second` is asked where `potential` fails."""
        self.parent = parent
        # The one in use: `second` as soon as the first one has failed its gate.
        self.potential = potential
        self._second = second
        self._settings = settings
        self._load = load
        self._ends: dict[Candidate, Endmember | None] = {}
        self._fragments: dict[tuple[int, str], Fragment] = {}
        self._failed: dict[tuple[int, str], SimulationError] = {}
        self._cache = FragmentCache(Path(settings.fragment_cache) if settings.fragment_cache else None)
        self._cells: dict[int, _Cell] = {}
        self._end_compacts: dict[tuple[int, int], Array] = {}
        self._direct_hosts: dict[bytes, tuple[Array, Stiffness]] = {}
        if len(parent.primitive) > settings.max_basis:
            raise SimulationError(f"{parent.parent_id}: {len(parent.primitive)} atoms in the primitive cell")
        lowest = parent.lowest_thz()
        if lowest < settings.lowest_host_thz:
            raise UnstableError(f"{parent.parent_id}: the pristine crystal is unstable ({lowest:.2f} THz)")

    @cached_property
    def bins(self) -> Bins:
        """The bins of every density of this parent."""
        return choose_bins(self.parent.top_thz())

    @cached_property
    def reference(self) -> ElementDos:
        """The pristine host, converged."""
        return pristine_dos(self.parent, self.bins)

    @cached_property
    def _asked(self) -> PotentialHost | SimulationError:
        primitive = self.parent.primitive
        cell = Supercell(primitive, choose_matrix(primitive, max(self._settings.fragment_atoms, 2 * len(primitive))))
        failure = None
        for potential in (self.potential, self._second):
            if potential is None:
                continue
            try:
                found = compute_potential_host(self.parent, potential, cell, self._settings.max_host_imaginary)
            except SimulationError as error:
                failure = failure or error
                continue
            self.potential = potential
            return found
        assert failure is not None
        return failure

    @property
    def potential_host(self) -> PotentialHost:
        """The pristine host as the potential sees it.

        Raises:
            SimulationError: it fails its gate, or the primitive cell is larger than the settings allow.
        """
        if len(self.parent.primitive) > self._settings.max_basis_potential:
            raise SimulationError(f"{self.parent.parent_id}: no end member, and too large a cell for the potential")
        if isinstance(self._asked, SimulationError):
            raise self._asked
        return self._asked

    def can(self, choice: Candidate) -> bool:
        """Whether a substitution can be simulated: by its end member, or by a potential that passes its gate."""
        if choice.endmember:
            return self._endmember(choice) is not None
        if self._settings.allow_masses:
            return True
        try:
            return self.potential_host is not None
        except SimulationError:
            return False

    def _endmember(self, choice: Candidate) -> Endmember | None:
        """The end member of a substitution; None where it is unstable, another structure or too different in size."""
        if not choice.endmember or self._load is None:
            return None
        if choice not in self._ends:
            self._ends[choice] = None
            try:
                end = self._load(choice.endmember)
                found = Endmember(self.parent, end, choice.replaces, choice.element)
            except SimulationError:
                return None
            stable = end.lowest_thz() >= self._settings.lowest_host_thz
            if stable and abs(found.strain) <= self._settings.max_endmember_strain:
                self._ends[choice] = found
        return self._ends[choice]

    def simulate(self, plan: Plan, rng: np.random.Generator) -> Outcome:
        """Simulate one sample; positions of the dopants are drawn from `rng`."""
        if not plan.dopants:
            return Outcome(self.reference, (), "pristine", len(self.parent.primitive), 0.0, False)
        method = self._choose_method(plan)
        attempts: list[tuple[str, Callable[..., tuple[Array, float]]]] = []
        if method != "masses":
            attempts.append((method, self._directly if method == "direct" else self._superposed))
        if self._settings.allow_masses:
            attempts.append(("masses", self._by_masses))
        cell = self._cell(self._size(plan, method))
        sites = self._configuration(plan, cell.supercell, rng)
        doped = self._doped_atoms(cell.supercell, sites)
        for name, compute in attempts:
            try:
                phi, strain = compute(cell, sites, doped, plan)
            except SimulationError:
                if name == attempts[-1][0]:
                    raise
                continue
            dos = _density(cell.supercell)(phi, cell.supercell, doped.numbers, doped.get_masses(), self.bins)
            if dos.imaginary_weight <= self._settings.max_doped_imaginary:
                break
        else:
            raise UnstableError(f"{self.parent.parent_id}: the doped crystal is unstable ({dos.imaginary_weight:.1%})")
        dos = corrected(dos, cell.host_on_mesh, self.reference)
        return Outcome(dos, self._count(plan, cell, sites), name, cell.supercell.n_atoms, strain, _heterovalent(plan))

    def _choose_method(self, plan: Plan) -> str:
        rest = [(choice, share) for choice, share in plan.dopants if self._endmember(choice) is None]
        if not rest:
            return "interpolated"
        try:
            strains = [abs(self._strain_per_fraction(choice)) * share for choice, share in rest]
        except SimulationError:
            if not self._settings.allow_masses:
                raise
            return "masses"
        dilute = sum(share for _, share in rest) <= _EMBEDDED_MAX_FRACTION and sum(strains) <= _EMBEDDED_MAX_STRAIN
        return "embedded" if dilute else "direct"

    def _strain_per_fraction(self, choice: Candidate) -> float:
        """Linear strain of the crystal for each unit of the dopant's share of all atoms."""
        bases = self._basis_of[choice.replaces]
        end = self._endmember(choice)
        if end is not None:
            return end.strain * len(self.parent.primitive) / len(bases)
        return self._fragment(bases[0], choice.element).strain_per_fraction

    @cached_property
    def _basis_of(self) -> dict[str, list[int]]:
        symbols = self.parent.primitive.get_chemical_symbols()
        return {symbol: [k for k, one in enumerate(symbols) if one == symbol] for symbol in set(symbols)}

    @cached_property
    def _equivalences(self) -> list[Equivalence]:
        return equivalent_sites(self.parent.primitive)

    def _fragment(self, basis: int, element: str) -> Fragment:
        key = (self._equivalences[basis].representative, element)
        if key not in self._fragments and key not in self._failed:
            try:
                self._fragments[key] = self._cache.fragment(self.potential_host, self.potential, *key)
            except SimulationError as error:
                self._failed[key] = error
        if key in self._failed:
            raise self._failed[key]
        return self._fragments[key]

    def _size(self, plan: Plan, method: str) -> int:
        """Atoms of the cell, on a coarse ladder of sizes so that cells are shared between samples."""
        needed = 1.0 / plan.least
        concentrated = method == "direct" or plan.total > _EMBEDDED_MAX_FRACTION
        low = self._settings.direct_atoms if concentrated else self._settings.min_atoms
        high = min(_DIRECT_MAX_ATOMS, self._settings.max_atoms) if method == "direct" else self._settings.max_atoms
        size = float(low)
        while size < needed and size < high:
            size *= _SIZE_STEP
        return int(min(max(size, 2 * len(self.parent.primitive)), max(high, 2 * len(self.parent.primitive))))

    def _cell(self, n_atoms: int) -> _Cell:
        if n_atoms not in self._cells:
            rng = np.random.default_rng([n_atoms, self._settings.seed])
            matrices = low_symmetry_matrices(self.parent.primitive, n_atoms, rng, _CELL_TRIES)
            cells = [Supercell(self.parent.primitive, matrix) for matrix in matrices]
            best = min(cells, key=lambda cell: mesh_error(self.parent, cell, self.reference))
            compact = self.parent.compact_force_constants(best)
            if _density(best) is doped_dos:
                on_mesh = pristine_dos_on_mesh(self.parent, compact, best, self.bins)
            else:
                masses = np.tile(self.parent.primitive.get_masses(), best.n_points)
                on_mesh = chebyshev_dos(best.expand(compact), best, best.atoms.numbers, masses, self.bins)
            self._cells[n_atoms] = _Cell(best, compact, on_mesh)
        return self._cells[n_atoms]

    def _configuration(self, plan: Plan, supercell: Supercell, rng: np.random.Generator) -> list[Site]:
        """The dopants' sites: drawn at random, or the most random-like of so many draws."""
        n = self._settings.quasirandom
        if not n:
            return self._draw_sites(plan, supercell, rng)
        distances = supercell.atoms.get_all_distances(mic=True)
        before = supercell.atoms.get_chemical_symbols()

        def error(sites: list[Site]) -> float:
            return pair_error(distances, before, self._doped_atoms(supercell, sites).get_chemical_symbols())

        return min((self._draw_sites(plan, supercell, rng) for _ in range(n)), key=error)

    def _draw_sites(self, plan: Plan, supercell: Supercell, rng: np.random.Generator) -> list[Site]:
        free = {
            symbol: rng.permutation(
                [(L, k) for L in range(supercell.n_points) for k in self._basis_of[symbol]]
            ).tolist()
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

    def _doped_atoms(self, supercell: Supercell, sites: list[Site]) -> Atoms:
        atoms = supercell.atoms.copy()
        masses = np.tile(self.parent.primitive.get_masses(), supercell.n_points)
        numbers = atoms.numbers.copy()
        for site in sites:
            index = site.point * supercell.n_basis + site.basis
            numbers[index] = atomic_numbers[site.element]
            masses[index] = atomic_masses[numbers[index]]
        atoms.numbers = numbers
        atoms.set_masses(masses)
        return atoms

    def _by_masses(self, cell: _Cell, sites: list[Site], doped: Atoms, plan: Plan) -> tuple[Array, float]:
        return cell.supercell.expand(cell.host_compact), 0.0

    def _superposed(self, cell: _Cell, sites: list[Site], doped: Atoms, plan: Plan) -> tuple[Array, float]:
        """The pristine host with what each dopant changes: by its end member where there is one, else by a fragment."""
        supercell = cell.supercell
        phi, strain = supercell.expand(cell.host_compact), 0.0
        ends = {(choice.replaces, choice.element): self._endmember(choice) for choice, _ in plan.dopants}
        known = {kind: end for kind, end in ends.items() if end is not None}
        if known:
            compact = {kind: self._compact_of(end, cell) for kind, end in known.items()}
            phi = interpolate(cell.host_compact, compact, supercell, np.array(doped.get_chemical_symbols()))
        for choice, _ in plan.dopants:
            if (choice.replaces, choice.element) in known:
                share = sum(site.element == choice.element for site in sites) / supercell.n_atoms
                strain += share * self._strain_per_fraction(choice)
        left = [site for site in sites if (self._symbol_at(site), site.element) not in known]
        if left:
            for site in left:
                self._fragment(site.basis, site.element)
            change, more = superpose(self.potential_host, self._fragments, left, supercell, self._equivalences)
            phi, strain = impose_sum_rule(phi + change), strain + more
        return phi, strain

    def _symbol_at(self, site: Site) -> str:
        return str(self.parent.primitive.symbols[site.basis])

    def _compact_of(self, end: Endmember, cell: _Cell) -> Array:
        key = (id(end), cell.supercell.n_atoms)
        if key not in self._end_compacts:
            self._end_compacts[key] = end.compact_force_constants(cell.supercell)
        return self._end_compacts[key]

    def _directly(self, cell: _Cell, sites: list[Site], doped: Atoms, plan: Plan) -> tuple[Array, float]:
        host = self.potential_host
        supercell = cell.supercell
        key = supercell.matrix.tobytes()
        if key not in self._direct_hosts:
            compact = compact_by_displacement(supercell, host.atoms_in(supercell), self.potential)
            stiffness = Stiffness(supercell.expand(compact))
            self._direct_hosts[key] = (compact, stiffness)
        compact, stiffness = self._direct_hosts[key]
        residual = host.residual_in(supercell)
        # Vegard's strain from the dopants alone, then one Newton step on the pressure for their interaction. Atoms put
        # into a cell that is too small can fall into another structure.
        counted = ((choice, sum(site.element == choice.element for site in sites)) for choice, _ in plan.dopants)
        strain = sum(n * self._strain_per_fraction(choice) for choice, n in counted) / supercell.n_atoms
        start = host.atoms_in(supercell)
        start.numbers = doped.numbers
        relaxed = relax(strained(start, strain), self.potential, residual, stiffness)
        excess = pressure_of(self.potential.evaluate([relaxed])[1][0]) - host.pressure
        correction = -excess / host.pressure_per_strain
        relaxed = relax(strained(relaxed, correction / (1 + strain)), self.potential, residual, stiffness)
        strain += correction
        change = full_by_displacement(relaxed, self.potential, central=False) - supercell.expand(compact)
        return impose_sum_rule(supercell.expand(cell.host_compact) + change), strain

    def _count(self, plan: Plan, cell: _Cell, sites: list[Site]) -> tuple[Defect, ...]:
        counted = []
        for choice, _ in plan.dopants:
            bases = self._basis_of[choice.replaces]
            n = sum(site.element == choice.element and site.basis in bases for site in sites)
            if n:
                counted.append(Defect(choice.element, choice.replaces, n / cell.supercell.n_atoms))
        return tuple(counted)


def _density(supercell: Supercell) -> Callable[..., ElementDos]:
    return doped_dos if supercell.n_atoms <= _MOST_ATOMS_SOLVED else chebyshev_dos


def _heterovalent(plan: Plan) -> bool:
    return any(choice.heterovalent for choice, _ in plan.dopants)
