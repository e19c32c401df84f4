"""The methods by which a doped cell's force constants are found, behind one protocol.

- *interpolated*: the DFT crystals with the dopants on whole sublattices say what they change; no potential is asked;
- *embedded*: each dopant's change, found once alone in a small cell, is laid over its sites (dilute, mild misfit);
- *direct*: the doped cell itself is relaxed and displaced (concentrated, or strong misfit);
- *masses*: only the masses change.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from datagen.cells import Cell
from datagen.dopants import Replacement
from datagen.embedding import Site, pressure_of
from datagen.endmembers import Endmembers, interpolate
from datagen.force_constants import full_by_displacement, impose_sum_rule
from datagen.potential_view import PotentialView
from datagen.relaxation import relax, strained
from datagen.sampling import Plan
from datagen.sites import basis_of, doped_atoms

__all__ = ["Direct", "Embedded", "Interpolated", "Masses", "Method", "MethodName"]

Array = NDArray[np.float64]
MethodName = Literal["interpolated", "embedded", "direct", "masses"]


class Method(Protocol):
    """How the force constants of a doped cell are found."""

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """Full force constants of the doped cell, and the linear strain of the crystal relative to the host.

        Args:
            cell: the frame.
            sites: the dopants in it, each of a kind that `plan` names.
            plan: which substitutions, with their end members.

        Returns:
            shape (3 n_atoms, 3 n_atoms), eV/Å², symmetric, obeying the acoustic sum rule; and the strain.

        Raises:
            SimulationError: the method does not apply to one of the dopants, or does not converge.
        """


class Masses:
    """The host's own force constants: only the masses change."""

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """See `Method`."""
        return cell.supercell.expand(cell.host_compact), 0.0


class Interpolated:
    """Between the host and its end members; a dopant without one leaves the force constants as they are."""

    def __init__(self, ends: Endmembers) -> None:
        self._ends = ends

    def strain_per_fraction(self, choice: Replacement) -> float | None:
        """Linear strain of the crystal for each unit of the dopant's share of all atoms; None without an end member."""
        end = self._ends.of(choice)
        if end is None:
            return None
        primitive = self._ends.parent.primitive
        return end.strain * len(primitive) / len(basis_of(primitive)[choice.replaces])

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """See `Method`."""
        supercell = cell.supercell
        compact = {}
        strain = 0.0
        for choice, _ in plan.dopants:
            end, per_fraction = self._ends.of(choice), self.strain_per_fraction(choice)
            if end is None or per_fraction is None:
                continue
            compact[choice.replaces, choice.element] = self._ends.compact(end, supercell)
            strain += sum(site.element == choice.element for site in sites) / supercell.n_atoms * per_fraction
        if not compact:
            return supercell.expand(cell.host_compact), strain
        symbols = np.array(doped_atoms(supercell, sites).get_chemical_symbols())
        return interpolate(cell.host_compact, compact, supercell, symbols), strain


class Embedded:
    """Fragments laid over the dopants' sites; those that have an end member are interpolated."""

    def __init__(self, interpolated: Interpolated, view: PotentialView) -> None:
        self._interpolated, self._view = interpolated, view

    def strain_per_fraction(self, choice: Replacement) -> float:
        """Linear strain of the crystal for each unit of the dopant's share of all atoms.

        Raises:
            SimulationError: no end member, and no fragment either.
        """
        known = self._interpolated.strain_per_fraction(choice)
        if known is not None:
            return known
        basis = basis_of(self._view.parent.primitive)[choice.replaces][0]
        return self._view.fragment(basis, choice.element).strain_per_fraction

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """See `Method`."""
        phi, strain = self._interpolated.force_constants(cell, sites, plan)
        known = {
            (choice.replaces, choice.element)
            for choice, _ in plan.dopants
            if self._interpolated.strain_per_fraction(choice) is not None
        }
        symbols = cell.supercell.primitive.get_chemical_symbols()
        left = [site for site in sites if (symbols[site.basis], site.element) not in known]
        if left:
            change, more = self._view.superposed(left, cell.supercell)
            phi, strain = impose_sum_rule(phi + change), strain + more
        return phi, strain


class Direct:
    """The doped cell itself, relaxed and displaced beside the host in the same cell."""

    def __init__(self, embedded: Embedded, view: PotentialView) -> None:
        self._embedded, self._view = embedded, view

    def force_constants(self, cell: Cell, sites: Sequence[Site], plan: Plan) -> tuple[Array, float]:
        """See `Method`."""
        host, supercell = self._view.host(), cell.supercell
        compact, stiffness = self._view.host_in(supercell)
        potential, residual = self._view.potential, host.residual_in(supercell)
        # Vegard's strain from the dopants alone, then one Newton step on the pressure for their interaction. Atoms put
        # into a cell that is too small can fall into another structure.
        counted = ((choice, sum(site.element == choice.element for site in sites)) for choice, _ in plan.dopants)
        strain = sum(n * self._embedded.strain_per_fraction(choice) for choice, n in counted) / supercell.n_atoms
        start = host.atoms_in(supercell)
        start.numbers = doped_atoms(supercell, sites).numbers
        relaxed = relax(strained(start, strain), potential, residual, stiffness)
        excess = pressure_of(potential.evaluate([relaxed])[1][0]) - host.pressure
        correction = -excess / host.pressure_per_strain
        relaxed = relax(strained(relaxed, correction / (1 + strain)), potential, residual, stiffness)
        change = full_by_displacement(relaxed, potential, central=False) - supercell.expand(compact)
        return impose_sum_rule(supercell.expand(cell.host_compact) + change), strain + correction
