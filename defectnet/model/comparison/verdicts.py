"""From what the network says of candidates to verdicts on elements, for all spectra of a batch at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.amount_fits import Fittable
from defectnet.model.comparison.amounts import MOST_WEIGHED, POSSIBLE, settled
from defectnet.model.comparison.axis import N_BINS
from defectnet.model.comparison.calibration import (
    FOUND,
    ComparisonCalibration,
    any_of_each,
    interval,
    of_logit,
)
from defectnet.model.comparison.candidates import Candidates, coarse_nodes
from defectnet.model.comparison.comparer import SOURCES
from defectnet.prediction import ElementVerdict

__all__ = ["SourceMaps", "Verdicts", "judged"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
# Of an empty place.
_NO_LOGIT = -30.0
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """On one spectrum.

    Attributes:
        told: most probable first.
        sites: for each element that was weighed its likeliest entry.
        explained: share of the change that the found elements explain, 0 … 1.
        off_axis: probability that the sample is off its reference's axis.
    """

    told: tuple[ElementVerdict, ...]
    sites: dict[str, int]
    explained: float
    off_axis: float


class SourceMaps:
    """A calibration as tables over `SOURCES`.

    Attributes:
        logits: shape (2, 2, S), slopes and offsets, without a list and with one.
        amounts: shape (2, S), shifts of the log concentration and interval factors.
    """

    def __init__(self, calibration: ComparisonCalibration) -> None:
        maps = [[calibration.map_of(source, candidates=asked) for source in SOURCES] for asked in (False, True)]
        self.logits: Array = np.array(
            [[[getattr(m, name) for m in row] for row in maps] for name in ("slope", "offset")]
        )
        self.amounts: Array = np.array(
            [[of(source) for source in SOURCES] for of in (calibration.shift_of, calibration.factor_of)]
        )


def judged(
    lists: Sequence[Candidates],
    kept: Sequence[Places],
    said: Array,
    listed: Sequence[bool],
    seen: Array,
    directions: Floats,
    apart: Flags,
    maps: SourceMaps,
    least: float = 0.0,
) -> list[Verdicts]:
    """Verdicts on the elements of B spectra; an element that was sifted out has probability 0.

    Args:
        lists, kept: each spectrum's candidates, and which of them the network saw, ascending.
        said: logits, log concentrations and log spreads, shape (3, B, K), filled from the left.
        seen: the changes, coarsely smoothed and weighted, shape (B, N).
        directions, apart: shape (B, M, N) and (B,), as in `Fittable.of`.
        maps: of the calibration.
        listed: whether each spectrum was asked with a list.
        least: elements below this probability are not told where there was no list.
    """
    counts = [places.size for places in kept]
    filled = np.arange(said.shape[2]) < np.array(counts)[:, None]
    logit, log_mean, log_spread = (values[filled] for values in said)
    row = np.repeat(np.arange(len(lists)), counts)
    place = np.concatenate(kept)
    element = np.concatenate([one.element[places] for one, places in zip(lists, kept, strict=True)])
    source = np.concatenate([one.source[places] for one, places in zip(lists, kept, strict=True)])
    # One element's entries lie side by side.
    begins = np.ones(row.size, dtype=bool)
    begins[1:] = (row[1:] != row[:-1]) | (element[1:] != element[:-1])
    starts, group = np.flatnonzero(begins), np.cumsum(begins)
    likeliest = np.lexsort((logit, group))[np.append(starts[1:], row.size) - 1]
    row, element, place, source = (values[likeliest] for values in (row, element, place, source))
    asked = np.array(listed)[row]
    slope, offset = maps.logits[:, asked.astype(np.int64), source]
    odds = slope * any_of_each(logit, starts) + offset
    shift, factor = maps.amounts[:, source]
    amounts = np.stack([odds, log_mean[likeliest] + shift, log_spread[likeliest]])
    fit = _fitted(lists, (row, place), amounts, seen, directions, apart)
    p = of_logit(amounts[0])
    figures = np.stack([p, *interval(amounts[1], amounts[2], factor)], axis=1)
    told = asked | (p >= least)
    found = []
    for number, one in enumerate(lists):
        begin, end = np.searchsorted(row, (number, number + 1)).tolist()
        names = [one.elements[i] for i in element[begin:end].tolist()]
        order = [i for i in np.argsort(-p[begin:end], kind="stable").tolist() if told[begin + i]]
        verdicts = [
            ElementVerdict(names[i], values[0] >= FOUND, *values)
            for i, values in zip(order, figures[begin:end][order].tolist(), strict=True)
        ]
        if listed[number] or least <= 0.0:
            weighed = set(names)
            verdicts += [ElementVerdict(e, False, 0.0, 0.0, 0.0, 0.0) for e in one.elements if e not in weighed]
        sites = dict(zip(names, place[begin:end].tolist(), strict=True))
        found.append(Verdicts(tuple(verdicts), sites, *fit[:, number].tolist()))
    return found


def _fitted(
    lists: Sequence[Candidates],
    at: tuple[Places, Places],
    amounts: Array,
    seen: Array,
    directions: Floats,
    apart: Flags,
) -> Array:
    """Weigh what may be there by the fit to the changes, in place; `explained` and `off_axis` of each, shape (2, B).

    Args:
        at: of n elements, row by row, the spectrum and the place of the entry in its list.
        amounts: shape (3, n), calibrated logits, log concentrations and log spreads.
    """
    weighed = _worth_a_place(at[0], amounts[0])
    row, place = (values[weighed] for values in at)
    slot = np.arange(row.size) - np.searchsorted(row, row)
    shape = len(lists), int(slot.max(initial=0)) + 1
    nodes, concentrations = np.zeros((*shape, 3, N_BINS)), np.zeros((*shape, 3))
    if row.size:
        nodes[row, slot], concentrations[row, slot] = coarse_nodes([lists[one] for one in row.tolist()], place)
    said = np.full((3, *shape), _NO_LOGIT)
    said[:, row, slot] = amounts[:, weighed]
    result = settled(Fittable.of(seen, nodes, concentrations, directions, apart), *said)
    amounts[:, weighed] = np.stack([result.logit, result.log_mean, result.log_spread])[:, row, slot]
    return np.stack([np.clip(result.explained, 0.0, 1.0), result.off_axis])


def _worth_a_place(row: Places, logit: Array) -> NDArray[np.bool_]:
    """Of n elements, row by row, the most probable few of each row that are possible, shape (n,)."""
    order = np.lexsort((-logit, row))
    rank = np.empty(row.size, dtype=np.int64)
    rank[order] = np.arange(row.size) - np.searchsorted(row, row)
    return (logit > POSSIBLE) & (rank < MOST_WEIGHED)
