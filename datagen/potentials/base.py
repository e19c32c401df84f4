"""What every interatomic potential answers, and how one is handed to ASE."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

__all__ = ["Array", "Potential", "PotentialCalculator"]

Array = NDArray[np.float64]


class Potential(Protocol):
    """Forces and stresses of many structures in one call."""

    name: str
    fingerprint: str  # changes whenever the forces may

    def knows(self, symbol: str) -> bool:
        """Whether the potential covers an element."""
        ...

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Array], Array]:
        """Forces, one array of shape (n_atoms, 3) in eV/Å a structure, and stresses, shape (n, 3, 3) in eV/Å³.

        The stress is the derivative of the energy by strain over the volume: positive under tension, as in ASE.
        """
        ...


class PotentialCalculator(Calculator):
    """A potential as an ASE calculator for ASE's optimisers, which step by forces and stress; the energy reads 0."""

    implemented_properties: ClassVar = ["energy", "forces", "stress"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self._potential = potential

    def calculate(self, atoms=None, properties=("forces",), system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        forces, stresses = self._potential.evaluate([atoms])
        stress = full_3x3_to_voigt_6_stress(stresses[0])
        self.results = {"energy": 0.0, "forces": forces[0], "stress": stress}
