"""Any ASE calculator as a potential, by its import path."""

import ast
import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from datagen.potentials.base import Array
from defectnet.errors import PotentialError

__all__ = ["AsePotential", "keywords"]


class AsePotential:
    """Any ASE calculator, one structure at a time."""

    def __init__(self, calculator: Calculator, name: str) -> None:
        self._calculator = calculator
        self.name = name
        package = type(calculator).__module__.partition(".")[0]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        self.fingerprint = f"{name} {version}"

    def knows(self, symbol: str) -> bool:
        # ASE calculators do not say; one that does not know an element raises when asked for forces.
        return True

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Array], Array]:
        forces, stresses = [], []
        for structure in structures:
            atoms = structure.copy()
            atoms.calc = self._calculator
            try:
                forces.append(np.asarray(atoms.get_forces(), dtype=float))
                stresses.append(np.asarray(atoms.get_stress(voigt=False), dtype=float))
            except Exception as error:  # each calculator has errors of its own
                raise PotentialError(f"{self.name} failed on {atoms.get_chemical_formula()}: {error}") from None
        return forces, np.array(stresses)


def keywords(arguments: str) -> dict[str, Any]:
    """Literal keyword arguments of "key=value, …)"; nothing is executed."""
    if not arguments:
        return {}
    try:
        call = ast.parse(f"f({arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("only key=value arguments")
        return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise PotentialError(f"arguments ({arguments} cannot be read ({error}); write (key=literal, …)") from None
