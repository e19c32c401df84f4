"""Neuroevolution potentials such as NEP89, by the `nep-adapters` runtime (both GPL-3.0 and optional)."""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from datagen.potentials.base import Array
from defectnet.errors import PotentialError

__all__ = ["NepPotential", "packaged_nep89"]

# Atoms a batch: enough to keep the runtime busy, little enough to stay within a few hundred megabytes.
_ATOMS_PER_BATCH = 20_000


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


def packaged_nep89() -> Path:
    # Found without importing: neptrainkit is a desktop program whose own dependencies are not installed.
    spec = importlib.util.find_spec("NepTrainKit")
    if spec is None or not spec.submodule_search_locations:
        raise PotentialError("`nep89` needs its weights; pip install --no-deps neptrainkit==2.5.4, or give nep:PATH")
    return Path(next(iter(spec.submodule_search_locations))) / "Config" / "nep89.txt"
