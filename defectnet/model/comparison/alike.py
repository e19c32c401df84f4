"""Elements that were not found because their responses are alike: that one of them is there can be told."""

from collections.abc import Mapping, Sequence

from defectnet.model.comparison.candidates import Candidates
from defectnet.prediction import HESITATION, ElementVerdict

__all__ = ["alike_and_open"]

# Of the validation samples of which this was said one of the elements was there in 0.81 (hard lists), 0.74 (another
# source), 0.87 (springs) and 0.86 (without a list); it was said of no pristine one.
_ALIKE, _TOGETHER = 0.95, 0.8


def alike_and_open(
    candidates: Candidates, verdicts: Sequence[ElementVerdict], sites: Mapping[str, int]
) -> tuple[ElementVerdict, ...]:
    """The most probable of the elements that were not found, and those whose responses are like its own.

    Args:
        sites: for each element the place of its entry among the candidates.

    Returns:
        most probable first; empty where there is no other, or where they have too little probability together.
    """
    open_ones = [one for one in verdicts if not one.present and one.probability >= HESITATION and one.element in sites]
    if sum(one.probability for one in open_ones) < _TOGETHER:
        return ()
    first, *others = sorted(open_ones, key=lambda one: -one.probability)
    curves = candidates.typical
    like = [one for one in others if curves[sites[one.element]] @ curves[sites[first.element]] >= _ALIKE]
    group = (first, *like)
    return group if like and sum(one.probability for one in group) >= _TOGETHER else ()
