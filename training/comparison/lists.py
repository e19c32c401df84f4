"""Which candidates a comparison is given, and by which source each one's response is.

What source a response has must say nothing of whether its element is there. So a list holds one source alone, or its
true dopants keep their better source only as often as its distractors have one.
"""

from collections import defaultdict
from collections.abc import Collection
from typing import Literal, get_args

import numpy as np

from defectnet.elements import VOCABULARY, descriptors
from defectnet.model.comparison.hosts import Entry, HostOnAxis, source_class

__all__ = ["LISTS", "ListKind", "candidate_entries"]

# "hard": every substitution of the host that has a response by one good source, and no other; "likely": the true
# dopants and distractors drawn by the chemical prior; "random": distractors drawn evenly; "near": those most like the
# true dopants; "all": guess-free. All but the first with responses by springs; "mixed" and "all_mixed" are "likely" and
# "all" with better ones where there are some. "all_best" is guess-free with every candidate's best source, as a user
# has them: there the source does tell something, for labels were made where end members are.
ListKind = Literal["hard", "likely", "random", "near", "all", "mixed", "all_mixed", "all_best"]
LISTS: tuple[str, ...] = get_args(ListKind)
_SPRINGS = "springs"
# Distractors are drawn by the prior's weight to this power, so that the unlikely are met too.
_FLATTENED = 0.7


def candidate_entries(
    host: HostOnAxis,
    truth: Collection[str],
    kind: ListKind,
    rng: np.random.Generator,
    *,
    source: str = "endmember",
    n_distractors: int = 10,
) -> list[Entry]:
    """The candidates of one spectrum, in random order.

    Args:
        host: with its responses.
        truth: the true dopants.
        kind: see `ListKind`.
        source: the class of sources of a hard list.
        n_distractors: of all but hard and guess-free lists.
    """
    if kind == "hard":
        return host.chosen(host.elements, source)
    if kind == "all_best":
        found = host.chosen(host.elements)
        rng.shuffle(found)
        return found
    likely: dict[str, list[Entry]] = defaultdict(list)
    for entry in host.chosen(host.elements, _SPRINGS):
        likely[entry.element].append(entry)
    others = sorted(element for element in likely if element not in truth)
    if kind in ("all", "all_mixed"):
        drawn = others
    else:
        count = min(n_distractors, len(others))
        drawn = list(rng.choice(others, count, replace=False, p=_weights(likely, others, truth, kind))) if count else []
    found = [entry for element in (*sorted(e for e in truth if e in likely), *drawn) for entry in likely[element]]
    if kind in ("mixed", "all_mixed"):
        found = _some_better(host, found, truth, rng)
    rng.shuffle(found)  # a list is as good as an array
    return found


def _weights(
    likely: dict[str, list[Entry]], others: list[str], truth: Collection[str], kind: ListKind
) -> np.ndarray | None:
    if kind in ("likely", "mixed"):
        weights = np.array([np.exp(max(entry.log_weight for entry in likely[element])) for element in others])
        weights = np.maximum(weights, 1e-6) ** _FLATTENED
    elif kind == "near":
        place = {symbol: descriptors()[k] for k, symbol in enumerate(VOCABULARY)}
        gaps = [min((float(np.linalg.norm(place[o] - place[t])) for t in truth), default=1.0) for o in others]
        apart = np.array(gaps)
        weights = np.exp(-3.0 * apart / max(float(np.median(apart)), 1e-6))
    else:
        return None
    return np.asarray(weights / weights.sum())


def _some_better(
    host: HostOnAxis, entries: list[Entry], truth: Collection[str], rng: np.random.Generator
) -> list[Entry]:
    """Distractors take their best source; true dopants take theirs as often as distractors have one."""
    better = {
        (one.element, one.replaces): one for one in host.chosen(host.elements) if source_class(one.source) != _SPRINGS
    }
    distractors = [one for one in entries if one.element not in truth]
    have = sum((one.element, one.replaces) in better for one in distractors)
    share = have / max(len(distractors), 1)
    return [
        better.get((one.element, one.replaces), one) if one.element not in truth or rng.random() < share else one
        for one in entries
    ]
