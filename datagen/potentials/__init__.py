"""Interatomic potentials: the source of what a dopant *changes* in a crystal.

A potential is named by one line of text:

- `nep89`: NEP89 as it lies inside the `neptrainkit` wheel, run by `nep-adapters` (both GPL-3.0, both optional);
- `nep:PATH`: a NEP model file, run by `nep-adapters`;
- `nequix`: Nequix, fine-tuned on phonons (MIT), run by torch; its weights are looked for in two caches;
- `nequix:PATH`: a Nequix weights file;
- `package.module:Calculator` or `package.module:Calculator(key=value, …)`: any ASE calculator, by import path.
"""

import importlib

from datagen.potentials.ase_calculator import AsePotential, keywords
from datagen.potentials.base import Potential, PotentialCalculator
from datagen.potentials.nep import NepPotential, packaged_nep89
from defectnet.errors import PotentialError

__all__ = ["AsePotential", "NepPotential", "Potential", "PotentialCalculator", "load_potential"]


def load_potential(spec: str) -> Potential:
    """Load the potential that `spec` names (see the top of this package).

    Raises:
        PotentialError: the name cannot be resolved; says what to install or how to write it.
    """
    if spec == "nep89":
        return NepPotential(packaged_nep89(), name="nep89")
    if spec.startswith("nep:"):
        return NepPotential(spec.removeprefix("nep:"))
    if spec == "nequix" or spec.startswith("nequix:"):
        # Torch takes a second to import, which a run without this potential should not pay.
        from datagen.potentials.nequix import NequixPotential

        return NequixPotential(spec.partition(":")[2] or None, name="nequix" if spec == "nequix" else "")
    module_name, colon, call = spec.partition(":")
    if not colon:
        raise PotentialError(
            f"{spec!r} names no potential; write nep89, nequix, nep:PATH, nequix:PATH or package.module:Calculator"
        )
    name, _, arguments = call.partition("(")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise PotentialError(f"{spec!r}: {error}; install the package or correct the import path") from None
    try:
        return AsePotential(factory(**keywords(arguments)), name=spec)
    except PotentialError:
        raise
    except Exception as error:  # whatever the calculator's constructor raises
        raise PotentialError(f"{spec!r} cannot be made: {error}") from None
