"""How much a dopant swells or shrinks a crystal, from the volumes of the atoms.

Volumes add up, to a good approximation (Zen's law), so that a share c of all atoms that are X in place of Y changes the
crystal's lengths by c (v_X - v_Y) / (3 v), where v is the mean volume of the host's atoms. The volumes were fitted to
pairs of DFT crystals of one structure, training formulas alone (`make strain`); only their ratios matter.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["atomic_volumes", "strain_per_concentration"]


@cache
def atomic_volumes() -> Mapping[str, float]:
    """Relative volume of an atom of each element of the vocabulary."""
    text = (files("defectnet.chemistry") / "volumes.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def strain_per_concentration(fractions: Mapping[str, float], element: str, replaces: str) -> float:
    """Linear strain of the crystal for each unit of concentration (fraction of all atoms) of `element` on `replaces`.

    Args:
        fractions: element → fraction of the host's atoms.
    """
    volumes = atomic_volumes()
    mean = sum(share * volumes[symbol] for symbol, share in fractions.items())
    return (volumes[element] - volumes[replaces]) / (3.0 * mean)
