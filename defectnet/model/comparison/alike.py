"""Elements that were not found because their responses are alike: that one of them is there can be told."""

from collections.abc import Mapping, Sequence

import numpy as np

from defectnet.model.comparison.candidates import Candidates
from defectnet.prediction import HESITATION, ElementVerdict

__all__ = ["alike_and_open"]

# Of the validation samples of which this was said one of the elements was there in 0.80 (hard lists), 0.83 (another
# source, and springs) and 0.80 (without a list); it was said of no pristine one.
_ALIKE, _TOGETHER = 0.95, 0.8


def alike_and_open(
    candidates: Candidates, verdicts: Sequence[ElementVerdict], sites: Mapping[str, int]
) -> tuple[ElementVerdict, ...]:
    """Of the elements that were not found, those around one whose responses are like its own: the most probable such.

    Args:
        sites: for each element the place of its entry among the candidates.

    Returns:
        most probable first; empty where none has another like it, or where they have too little probability together.
    """
    open_ones = [one for one in verdicts if not one.present and one.probability >= HESITATION and one.element in sites]
    chances = np.array([one.probability for one in open_ones])
    if chances.sum() < _TOGETHER:
        return ()
    curves = candidates.typical[[sites[one.element] for one in open_ones]]
    alike = curves @ curves.T >= _ALIKE
    members = np.flatnonzero(alike[int((alike @ chances).argmax())])
    group = sorted((open_ones[member] for member in members.tolist()), key=lambda one: -one.probability)
    return tuple(group) if len(group) > 1 and chances[members].sum() >= _TOGETHER else ()
