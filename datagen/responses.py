"""How a host answers to a dopant: the change of its density of states for each unit of the dopant's concentration.

A response is computed as a sample is: a supercell of the host with dopants on random sites, its density beside the
pristine one's in the same cell and on the same mesh, so that errors of the quadrature cancel. What the dopant does to
the force constants is a method's to say (`datagen.methods`, and `datagen.springs.ScaledBonds`).

Where two dopants of 216 atoms sit decides what they change by more than what they are. A crystal holds every
configuration at once: so a library's responses are drawn as lines through those of several configurations.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from datagen.cells import Cell, choose_cell
from datagen.dopants import Replacement
from datagen.dos import Bins, ElementDos, choose_bins, density_by_site, doped_dos
from datagen.methods import Method
from datagen.parents import Parent
from datagen.sampling import Plan
from datagen.sites import basis_of, choose_sites, doped_atoms
from datagen.supercells import Supercell
from defectnet.errors import CompositionError, SimulationError, UnstableError
from defectnet.neutron import neutron_weighted
from defectnet.spectrum import HIGHEST_THZ, Spectrum, bin_centres_thz

__all__ = ["CONCENTRATIONS", "LOWEST_THZ", "SMOOTHING", "HostDynamics", "Response", "smoothed"]

Array = NDArray[np.float64]

# Fractions of all atoms at which a response is computed: where a change is still linear, where dopants meet, and near
# the most that is asked for.
CONCENTRATIONS = (0.01, 0.06, 0.2)
# Those of a second configuration, in a cell of its own, and how near to one another concentrations tell the same. Lines
# through these bring F1 from 0.772 to 0.796 on validation hosts (without a list, as the library is); sixteen more
# configurations 0.795, lines through the first alone nothing.
_FURTHER = (0.01, 0.03, 0.06)
_NEAR = 0.03
# What decides how responses are smoothed.
SMOOTHING = (_FURTHER, _NEAR)
# Smaller cells give the form of a response, but its size only to a factor of two (80 atoms); 180 give it to 5 %.
_CELL_ATOMS = 216
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
        source: where the dopant's force constants come from: "endmember", "potential:NAME", "springs" or "masses".
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
        SimulationError: it has modes above any crystal's: its force constants are wrong.
    """

    def __init__(
        self, parent: Parent, *, n_atoms: int = _CELL_ATOMS, seed: int = 0, lowest_thz: float = LOWEST_THZ
    ) -> None:
        self.parent = parent
        lowest = parent.lowest_thz()
        if lowest < lowest_thz:
            raise UnstableError(f"{parent.parent_id}: the pristine crystal is unstable ({lowest:.2f} THz)")
        self._top_thz = parent.top_thz()
        if self._top_thz > HIGHEST_THZ:
            raise SimulationError(
                f"{parent.parent_id}: modes up to {self._top_thz:.0f} THz are no crystal's; check its force constants"
            )
        self._n_atoms, self._seed = n_atoms, seed
        self._cells: dict[int, Cell] = {}

    @cached_property
    def bins(self) -> Bins:
        """The bins of every density of this host."""
        return choose_bins(self._top_thz)

    @cached_property
    def by_site(self) -> list[Array]:
        """The converged density of each basis atom, 3 modes."""
        return density_by_site(self.parent, self.bins)

    @cached_property
    def density(self) -> ElementDos:
        """The pristine host's converged density of states, by element."""
        n = len(self.by_site)
        bases = basis_of(self.parent.primitive)
        # Of a stable host's mesh so little is imaginary that nothing reads it.
        return ElementDos(
            {e: np.sum([self.by_site[k] for k in own], axis=0) / n for e, own in bases.items()}, self.bins, 0.0
        )

    @property
    def cell(self) -> Cell:
        """The cell in which responses are computed."""
        return self._cell(self._seed)

    def _cell(self, seed: int) -> Cell:
        if seed not in self._cells:
            n_atoms = max(self._n_atoms, 4 * len(self.parent.primitive))
            self._cells[seed] = choose_cell(self.parent, n_atoms, seed, self.density)
        return self._cells[seed]

    def smooth_responses(self, method: Method, choice: Replacement, source: str) -> list[Response]:
        """The responses at `CONCENTRATIONS`, each read off a line through all configurations near it.

        Raises:
            UnstableError, SimulationError: as `responses`.
        """
        found = self.responses(method, choice, source)
        every = list(found)
        with suppress(UnstableError):
            every += self.responses(method, choice, source, _FURTHER, configuration=1)
        return [smoothed(one, every) for one in found]

    def responses(
        self,
        method: Method,
        choice: Replacement,
        source: str,
        concentrations: Sequence[float] = CONCENTRATIONS,
        *,
        configuration: int = 0,
    ) -> list[Response]:
        """The response at each concentration that the sublattice has room for; unstable cells are left out.

        Args:
            configuration: each has a cell and draws of its own.

        Raises:
            UnstableError: the doped crystal is unstable at every concentration.
            SimulationError: the method does not apply.
        """
        drawn_by = self._seed + configuration
        cell = self._cell(drawn_by)
        supercell, pristine = cell.supercell, cell.host_on_mesh
        found, worst = [], 0.0
        for count in _counts(supercell, choice.replaces, concentrations):
            share = count / supercell.n_atoms
            seed = [drawn_by, count, atomic_numbers[choice.element], atomic_numbers[choice.replaces]]
            plan = Plan(((choice, share),))
            sites = choose_sites(plan, supercell, np.random.default_rng(seed))
            doped = doped_atoms(supercell, sites)
            phi, strain = method.force_constants(cell, sites, plan)
            dos = doped_dos(phi, supercell, doped.numbers, doped.get_masses(), self.bins)
            worst = max(worst, dos.imaginary_weight)
            if dos.imaginary_weight > _MOST_IMAGINARY:
                continue
            change = (_normalised(dos) - _normalised(pristine)) / share
            weighted = self.weighted(dos), self.weighted(pristine)
            neutron = None if weighted[0] is None or weighted[1] is None else (weighted[0] - weighted[1]) / share
            found.append(
                Response(choice.element, choice.replaces, source, share, strain, change, neutron, dos.imaginary_weight)
            )
        if not found:
            name = f"{self.parent.parent_id} with {choice.element} for {choice.replaces} ({source})"
            raise UnstableError(f"{name}: unstable ({worst:.1%} imaginary modes)")
        return found

    def weighted(self, dos: ElementDos) -> Array | None:
        """The neutron-weighted density, 3 modes; None where an element has no tabulated cross-section."""
        try:
            n = _readable(dos.bins)
            partial = {element: density[:n] for element, density in dos.partial.items()}
            return neutron_weighted(partial, bin_centres_thz(n, dos.bins.step_thz)).dos
        except CompositionError:
            return None


def _counts(supercell: Supercell, replaces: str, concentrations: Iterable[float]) -> list[int]:
    """Numbers of dopants in the cell, without doubles."""
    sites = supercell.n_points * len(basis_of(supercell.primitive)[replaces])
    most = max(1, int(_MOST_OF_SUBLATTICE * sites))
    return sorted({min(max(1, round(c * supercell.n_atoms)), most) for c in concentrations})


def smoothed(one: Response, every: Sequence[Response]) -> Response:
    """One of these responses as a line through them has it, in which each counts by its dopants and by how near it is.

    Local linear regression: W. S. Cleveland, J. Am. Stat. Assoc. 74, 829 (1979).
    """
    concentrations = np.array([other.concentration for other in every])
    away = concentrations - one.concentration
    weights = concentrations * np.exp(-0.5 * np.square(away / _NEAR))
    first, second = weights @ away, weights @ np.square(away) + 1e-9  # so that equal ones have a line too
    weights *= second - first * away
    weights /= weights.sum()

    def mean(curves: Iterable[Array | None]) -> Array | None:
        known = [curve for curve in curves if curve is not None]
        return weights @ np.stack(known) if len(known) == len(every) else None

    change = mean(other.change for other in every)
    assert change is not None
    return replace(one, change=change, change_neutron=mean(other.change_neutron for other in every))


def _normalised(dos: ElementDos) -> Array:
    n = _readable(dos.bins)
    whole = Spectrum.from_bins(dos.total[:n], dos.bins.step_thz).normalised().dos
    return np.pad(whole, (0, dos.bins.n - n))


def _readable(bins: Bins) -> int:
    """How many of the bins a spectrum may have: those of hosts of fast modes go on beyond any crystal's."""
    return min(bins.n, int(HIGHEST_THZ / bins.step_thz) - 1)
