"""One parent's workbench: from a plan of dopants to the density of states of the doped crystal.

Here is chosen: which method, which size of cell, and whether the outcome is to be believed. What the methods do is in
`methods`, where the dopants sit in `sites`, which cell of a size is taken in `cells`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from datagen.cells import Cell, choose_cell
from datagen.dopants import Replacement
from datagen.dos import Bins, ElementDos, cell_dos, choose_bins, corrected, pristine_dos
from datagen.endmembers import Endmembers
from datagen.methods import Direct, Embedded, Interpolated, Masses, Method, MethodName
from datagen.parents import Parent
from datagen.potential_view import PotentialView
from datagen.potentials import Potential
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.sites import choose_sites, count_defects, doped_atoms
from defectnet.errors import SimulationError, UnstableError
from defectnet.host import Defect

__all__ = ["Outcome", "Workbench"]

# While the dopants together stay below this share of all atoms, and the sum of their strains below this, superposed
# fragments agree with the direct calculation to R² 0.98 to 1.00 (Si:Ge, Si:C, MgO:Zn, ZnS:Cd, AlAs:P in cells of 120
# atoms); beyond either the doped cell itself is computed.
_EMBEDDED_MAX_FRACTION = 0.06
_EMBEDDED_MAX_STRAIN = 0.006
# A direct cell must resolve the rarest dopant, up to this many atoms (its cost grows with their square).
_DIRECT_MAX_ATOMS = 240
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


class Workbench:
    """Everything about one parent that its samples share; computed when first needed.

    Attributes:
        parent: the pristine crystal.
        view: what the potentials say about it.
        methods: how doped force constants are found, by name.

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
        self._settings = settings
        self._cells: dict[int, Cell] = {}
        if len(parent.primitive) > settings.max_basis:
            raise SimulationError(f"{parent.parent_id}: {len(parent.primitive)} atoms in the primitive cell")
        lowest = parent.lowest_thz()
        if lowest < settings.lowest_host_thz:
            raise UnstableError(f"{parent.parent_id}: the pristine crystal is unstable ({lowest:.2f} THz)")
        self.view = PotentialView(parent, potential, settings, second)
        self._ends = Endmembers(
            parent, load, max_strain=settings.max_endmember_strain, lowest_thz=settings.lowest_host_thz
        )
        interpolated = Interpolated(self._ends)
        self._embedded = Embedded(interpolated, self.view)
        self.methods: dict[MethodName, Method] = {
            "interpolated": interpolated,
            "embedded": self._embedded,
            "direct": Direct(self._embedded, self.view),
            "masses": Masses(),
        }

    @cached_property
    def bins(self) -> Bins:
        """The bins of every density of this parent."""
        return choose_bins(self.parent.top_thz())

    @cached_property
    def reference(self) -> ElementDos:
        """The pristine host, converged."""
        return pristine_dos(self.parent, self.bins)

    def can(self, choice: Replacement) -> bool:
        """Whether a substitution can be simulated: by its end member, or by a potential that passes its gate."""
        if choice.endmember:
            return self._ends.of(choice) is not None
        if self._settings.allow_masses:
            return True
        try:
            self.view.host()
        except SimulationError:
            return False
        return True

    def strain_per_fraction(self, choice: Replacement) -> float:
        """Linear strain of the crystal for each unit of the dopant's share of all atoms.

        Raises:
            SimulationError: no end member, and no fragment either.
        """
        return self._embedded.strain_per_fraction(choice)

    def choose_method(self, plan: Plan) -> MethodName:
        """The best method that applies to every dopant of the plan.

        Raises:
            SimulationError: none does, or only one that the settings do not allow.
        """
        rest = [(choice, share) for choice, share in plan.dopants if self._ends.of(choice) is None]
        if not rest:
            return "interpolated"
        try:
            strains = [abs(self.strain_per_fraction(choice)) * share for choice, share in rest]
        except SimulationError:
            if not self._settings.allow_masses:
                raise
            return "masses"
        dilute = sum(share for _, share in rest) <= _EMBEDDED_MAX_FRACTION and sum(strains) <= _EMBEDDED_MAX_STRAIN
        if not dilute and not self._settings.allow_direct:
            raise SimulationError(f"{self.parent.parent_id}: too much for fragments to be superposed")
        return "embedded" if dilute else "direct"

    def choose_size(self, plan: Plan, method: MethodName) -> int:
        """Atoms of the cell, on a coarse ladder of sizes so that cells are shared between samples."""
        needed = 1.0 / plan.least
        concentrated = method == "direct" or plan.total > _EMBEDDED_MAX_FRACTION
        low = self._settings.direct_atoms if concentrated else self._settings.min_atoms
        high = min(_DIRECT_MAX_ATOMS, self._settings.max_atoms) if method == "direct" else self._settings.max_atoms
        size = float(low)
        while size < needed and size < high:
            size *= _SIZE_STEP
        return int(min(max(size, 2 * len(self.parent.primitive)), max(high, 2 * len(self.parent.primitive))))

    def cell(self, n_atoms: int) -> Cell:
        """The cell of about `n_atoms` atoms that this parent's samples share."""
        if n_atoms not in self._cells:
            self._cells[n_atoms] = choose_cell(self.parent, n_atoms, self._settings.seed, self.reference)
        return self._cells[n_atoms]

    def simulate(self, plan: Plan, rng: np.random.Generator, method: MethodName | None = None) -> Outcome:
        """Simulate one sample; positions of the dopants are drawn from `rng`.

        Args:
            method: this one, whatever `choose_method` says; masses stand in for it where the settings allow them.

        Raises:
            SimulationError: no method applies, or none converges.
            UnstableError: the doped crystal has more imaginary modes than the settings allow.
        """
        if not plan.dopants:
            return Outcome(self.reference, (), "pristine", len(self.parent.primitive), 0.0, False)
        method = method or self.choose_method(plan)
        attempts = [method]
        if self._settings.allow_masses and method != "masses":
            attempts.append("masses")
        cell = self.cell(self.choose_size(plan, method))
        sites = choose_sites(plan, cell.supercell, rng, self._settings.quasirandom)
        doped = doped_atoms(cell.supercell, sites)
        for name in attempts:
            try:
                phi, strain = self.methods[name].force_constants(cell, sites, plan)
            except SimulationError:
                if name == attempts[-1]:
                    raise
                continue
            dos = cell_dos(phi, cell.supercell, doped.numbers, doped.get_masses(), self.bins)
            if dos.imaginary_weight <= self._settings.max_doped_imaginary:
                break
        else:
            raise UnstableError(f"{self.parent.parent_id}: the doped crystal is unstable ({dos.imaginary_weight:.1%})")
        return Outcome(
            dos=corrected(dos, cell.host_on_mesh, self.reference),
            defects=count_defects(plan, cell.supercell, sites),
            method=name,
            n_atoms=cell.supercell.n_atoms,
            strain=strain,
            heterovalent=any(choice.heterovalent for choice, _ in plan.dopants),
        )
