"""What neutrons make of a density of states: each element's part weighted by its cross-section over its mass.

Cross-sections are the bound total ones of the NIST table (V. F. Sears, Neutron News 3, 26, 1992), as the package
periodictable holds them.
"""

from functools import cache

import numpy as np
import periodictable
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY, atomic_mass

__all__ = ["neutron_weights"]


@cache
def neutron_weights() -> NDArray[np.float32]:
    """Total scattering cross-section over mass, shape (94,), barn per u; NaN where it was never measured."""
    weights = np.array([_cross_section(symbol) / atomic_mass(symbol) for symbol in VOCABULARY], dtype=np.float32)
    weights.setflags(write=False)
    return weights


def _cross_section(symbol: str) -> float:
    total = periodictable.elements.symbol(symbol).neutron.total
    return float("nan") if total is None else float(total)
