"""Ions: the oxidation states that balance a formula, and how readily two ions take each other's place in crystals."""

import json
import math
from collections.abc import Mapping
from functools import cache
from itertools import combinations_with_replacement, product
from pathlib import Path

from defectnet.elements import element

__all__ = ["balanced_states", "substitution_lift"]

# Lambda of two ions that were never seen in each other's place (Hautier et al.).
_NEVER_SEEN = -5.0


def balanced_states(counts: Mapping[str, int]) -> dict[str, float]:
    """The oxidation state of each element, averaged over its atoms, that the ICSD makes most likely.

    Every combination of the elements' usual states that has no charge is scored by how often its ions are found. The
    search grows steeply with the number of atoms: half a second at twenty.

    Args:
        counts: element → atoms in the formula.

    Returns:
        element → mean oxidation state; empty where no combination is neutral, 0 for an element alone.
    """
    if len(counts) == 1:
        return dict.fromkeys(counts, 0.0)
    sums: list[dict[int, int]] = []  # of each element: charge of all its atoms → the best score
    for symbol, count in counts.items():
        frequency = dict(element(symbol).usual_states)
        best: dict[int, int] = {}
        for states in combinations_with_replacement(frequency, count):
            charge, score = sum(states), sum(frequency[state] for state in states)
            best[charge] = max(score, best.get(charge, score))
        sums.append(best)
    neutral = [charges for charges in product(*sums) if sum(charges) == 0]
    if not neutral:
        return {}
    chosen = max(neutral, key=lambda charges: sum(best[c] for best, c in zip(sums, charges, strict=True)))
    return {symbol: charge / count for (symbol, count), charge in zip(counts.items(), chosen, strict=True)}


def substitution_lift(one: str, state: int, other: str, other_state: int) -> float | None:
    """How much more often than by chance two ions take each other's place in known crystals.

    Args:
        one, other: elements.
        state, other_state: their oxidation states.

    Returns:
        Probability of the pair over the product of the ions' own (Hautier et al., Inorg. Chem. 50, 656); None where
        the statistics do not know one of the ions.
    """
    weights, whole, share = _statistics()
    ions = (
        f"{one}{abs(state)}{'+' if state >= 0 else '-'}",
        f"{other}{abs(other_state)}{'+' if other_state >= 0 else '-'}",
    )
    if not (ions[0] in share and ions[1] in share):
        return None
    return math.exp(weights.get(frozenset(ions), _NEVER_SEEN)) * whole / (share[ions[0]] * share[ions[1]])


@cache
def _statistics() -> tuple[dict[frozenset[str], float], float, dict[str, float]]:
    """Lambda of each pair, the partition function, and each ion's part of it."""
    table = json.loads((Path(__file__).parent / "ions.json").read_text(encoding="utf-8"))
    weights = {frozenset((one, other)): value for one, others in table.items() for other, value in others.items()}
    ions = sorted({ion for pair in weights for ion in pair})
    likely = {
        (one, other): math.exp(weights.get(frozenset((one, other)), _NEVER_SEEN)) for one in ions for other in ions
    }
    share = {one: math.fsum(likely[one, other] for other in ions) for one in ions}
    return weights, math.fsum(share.values()), share
