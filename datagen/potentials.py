"""Interatomic potentials: the source of what a dopant *changes* in a crystal.

A potential is named by one line of text:

- `nep89`: NEP89 as it lies inside the `neptrainkit` wheel, run by `nep-adapters` (both GPL-3.0, both optional);
- `nep:PATH`: a NEP model file, run by `nep-adapters`;
- `package.module:Calculator` or `package.module:Calculator(key=value, …)`: any ASE calculator, by import path.
"""

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from numpy.typing import NDArray

from defectnet.errors import PotentialError

__all__ = ["AsePotential", "NepPotential", "Potential", "PotentialCalculator", "load_potential"]

Array = NDArray[np.float64]

# Atoms a batch: enough to keep the runtime busy, little enough to stay within a few hundred megabytes.
_ATOMS_PER_BATCH = 20_000


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


class NepPotential:
    """A neuroevolution potential (Fan et al., J. Chem. Phys. 157, 114801) through the `nep-adapters` runtime."""

    def __init__(self, path: str | Path, name: str = "") -> None:
        if not Path(path).is_file():
            raise PotentialError(f"no NEP model at {path}; check the path after `nep:`")
        try:
            from nep_adapters import NEPCalculator
        except ImportError:
            raise PotentialError("`nep:` needs nep-adapters; pip install 'defectnet[nep]'") from None
        try:
            self._calculator = NEPCalculator(str(path), backend="cpu")
        except Exception as error:  # the runtime has its own tree of errors, which is absent where it is not installed
            raise PotentialError(f"{path} is not a NEP model that nep-adapters reads ({error})") from None
        self.name = name or f"nep:{Path(path).stem}"
        self.fingerprint = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self._elements = frozenset(self._calculator.model_info.elements)

    def knows(self, symbol: str) -> bool:
        return symbol in self._elements

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Array], Array]:
        forces: list[Array] = []
        stresses: list[Array] = []
        for batch in _batches(structures):
            prediction = self._calculator.predict_structures(batch)
            forces += prediction.force_blocks()
            for atoms, virial in zip(batch, prediction.structure_virials, strict=True):
                # The runtime gives the mean virial of an atom, positive under pressure.
                stresses.append(-np.asarray(virial).reshape(3, 3) * len(atoms) / atoms.get_volume())
        return forces, np.array(stresses)


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


def _batches(structures: Sequence[Atoms]) -> list[list[Atoms]]:
    batches: list[list[Atoms]] = []
    size = 0
    for atoms in structures:
        if not batches or size + len(atoms) > _ATOMS_PER_BATCH:
            batches.append([])
            size = 0
        batches[-1].append(atoms)
        size += len(atoms)
    return batches


def load_potential(spec: str) -> Potential:
    """Load the potential that `spec` names (see the top of this file).

    Raises:
        PotentialError: the name cannot be resolved; says what to install or how to write it.
    """
    if spec == "nep89":
        return NepPotential(_packaged_nep89(), name="nep89")
    if spec.startswith("nep:"):
        return NepPotential(spec.removeprefix("nep:"))
    module_name, colon, call = spec.partition(":")
    if not colon:
        raise PotentialError(f"{spec!r} names no potential; write nep89, nep:PATH or package.module:Calculator")
    name, _, arguments = call.partition("(")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise PotentialError(f"{spec!r}: {error}; install the package or correct the import path") from None
    try:
        return AsePotential(factory(**_keywords(arguments)), name=spec)
    except PotentialError:
        raise
    except Exception as error:  # whatever the calculator's constructor raises
        raise PotentialError(f"{spec!r} cannot be made: {error}") from None


def _keywords(arguments: str) -> dict[str, Any]:
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


def _packaged_nep89() -> Path:
    # Found without importing: neptrainkit is a desktop program whose own dependencies are not installed.
    spec = importlib.util.find_spec("NepTrainKit")
    if spec is None or not spec.submodule_search_locations:
        raise PotentialError("`nep89` needs its weights; pip install --no-deps neptrainkit==2.5.4, or give nep:PATH")
    return Path(next(iter(spec.submodule_search_locations))) / "Config" / "nep89.txt"
