"""From placed queries to answers by comparison: compare, and say what the answer explains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.io.response_library import KnownHosts
from defectnet.model.comparison.alike import alike_and_open
from defectnet.model.comparison.axis import COARSE, EDGES, WIDTHS, moved_share, smoothing
from defectnet.model.comparison.batches import flags_of, on_device
from defectnet.model.comparison.calibration import FOUND, MOST_TOGETHER, ComparisonCalibration, strangeness
from defectnet.model.comparison.candidates import Candidates, coarse_responses, sifted, together
from defectnet.model.comparison.comparer import Compared, Comparer, ComparerInputs
from defectnet.model.comparison.features import FEW, without
from defectnet.model.comparison.fused import FusedComparer
from defectnet.model.comparison.placing import Placed, Placing
from defectnet.model.comparison.verdicts import SourceMaps, judged
from defectnet.model.comparison.warping import weighing
from defectnet.model.precision import Precision, multiplying_in
from defectnet.model.unmixing import unmix
from defectnet.prediction import (
    CANNOT_TELL,
    MOST_UNEXPLAINED,
    MOVED_BY_MEASURING,
    Alternative,
    Curves,
    ElementVerdict,
    Fit,
)
from defectnet.query import Query

__all__ = ["Answered", "Comparison", "cannot_tell", "remarks"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Rival sets are sought among so many of the most probable substitutions, and so many are told.
_RIVALS, _ALTERNATIVES = 10, 4
# Sets that hold less of an element say what the set without it says; a fraction of all atoms.
_LEAST_TOLD = 0.001
# A computed host whose axis is stretched by more than this to fit the reference is worth a word.
_NOTABLE_STRETCH = 0.03
# Candidates that are compared at once: what passes between the network's layers then stays in a core's cache.
_AT_ONCE = 1152
_ROOT = np.sqrt(WIDTHS)
_SMOOTHING = smoothing(COARSE).double().numpy()
_WEIGHTED_SMOOTHING = weighing(COARSE)


@dataclass(frozen=True, eq=False)
class Answered:
    """What the comparison says of one query.

    Attributes:
        verdicts: for the elements that have a response, most probable first.
        fit: how much of the change the found elements explain.
        strangeness: 0 … 1, as `Prediction.ood_score`.
        sites: for each element its likeliest entry.
        off_axis: probability that the sample is off its reference's axis.
    """

    verdicts: tuple[ElementVerdict, ...]
    fit: Fit
    strangeness: float
    sites: dict[str, int]
    off_axis: float


class Comparison:
    """A trained comparer with the responses of known hosts; safe to share between threads.

    Attributes:
        placing: lays queries onto the axes of these hosts, for `answer`.
    """

    def __init__(
        self,
        comparer: Comparer,
        calibration: ComparisonCalibration,
        known: KnownHosts,
        precision: Precision = "float32",
    ) -> None:
        self._precision = precision
        self._comparer, self._calibration = comparer.eval(), calibration
        self._maps = SourceMaps(calibration)
        self._device = next(comparer.parameters()).device
        # Elsewhere, and in fewer digits, the layers take the time and not the number of operations.
        plain = self._device.type == "cpu" and precision == "float32"
        self._network = FusedComparer(comparer) if plain else self._by_layers
        self.placing = Placing(known)

    def answer(self, queries: Sequence[Query], placed: Sequence[Placed], least: float = 0.0) -> list[Answered]:
        """Compare; each of `placed` has at least one candidate.

        Args:
            least: without a list, elements below this probability have no verdict.
        """
        flags = np.stack(
            [
                flags_of(
                    computed=query.reference_kind == "computed", neutron=query.kind == "neutron", prior=query.prior
                )
                for query in queries
            ]
        )
        changes, pristine, directions, ways = (
            np.stack([getattr(one, name) for one in placed])
            for name in ("change", "pristine", "directions", "seen_directions")
        )
        lists = [one.candidates for one in placed]
        seen = _smoothed(changes.astype(np.float64))
        kept = sifted(seen.astype(np.float32), lists, flags[:, 2] > 0)
        numbers, unexplained = self._compared(changes, pristine, directions, lists, kept, flags)
        listed = [query.candidates is not None for query in queries]
        apart = np.array([one.apart for one in placed])
        verdicts = judged(lists, kept, numbers, listed, seen, ways, apart, self._maps, least)
        moved = moved_share(seen).tolist()
        return [
            Answered(
                of.told,
                Fit(
                    host_id=one.host.host_id,
                    explained=of.explained,
                    moved=moved[row],
                    sources={e: one.candidates.entries[place].source for e, place in of.sites.items()},
                ),
                strangeness(float(unexplained[row]), self._calibration),
                of.sites,
                of.off_axis,
            )
            for row, (one, of) in enumerate(zip(placed, verdicts, strict=True))
        ]

    def _compared(
        self,
        changes: Floats,
        pristine: Floats,
        directions: Floats,
        lists: Sequence[Candidates],
        kept: Sequence[Places],
        flags: Floats,
    ) -> tuple[Array, Array]:
        """What the network says of B spectra, as `Compared`: three numbers of each candidate, and what is unexplained.

        Few are compared at once, and those of as many candidates together.
        """
        sizes = [places.size for places in kept]
        numbers, unexplained = np.zeros((3, len(kept), max(sizes))), np.zeros(len(kept))
        order = np.argsort(sizes, kind="stable")
        start = 0
        while start < len(kept):
            rows = order[start : start + max(1, _AT_ONCE // max(sizes[order[start]], 1))]
            start += rows.size
            given = together(
                changes[rows],
                pristine[rows],
                directions[rows],
                [lists[row] for row in rows.tolist()],
                [kept[row] for row in rows.tolist()],
                flags[rows],
            )
            said = self._network(on_device(given, self._device))
            unexplained[rows] = said.unexplained.cpu().numpy()
            for number, values in zip(numbers, said[:3], strict=True):
                number[rows, : values.shape[1]] = values.float().cpu().numpy()
        return numbers, unexplained

    def _by_layers(self, given: ComparerInputs) -> Compared:
        with torch.inference_mode(), multiplying_in(self._precision, self._device):
            found: Compared = self._comparer(given)
            return found

    def curves(self, placed: Placed, answered: Answered) -> Curves:
        """The measured change and what the found elements' responses make of it, on the measured axis, smoothed."""
        scale = placed.registration.top_thz
        parts = _parts(placed, answered.verdicts, answered.sites)
        each = {element: curve / _ROOT / scale for element, curve in parts.items()}
        measured = placed.change @ _SMOOTHING / scale
        residual = measured - sum(each.values(), np.zeros_like(measured))
        edges = placed.registration.measured_thz(EDGES)
        return Curves(0.5 * (edges[1:] + edges[:-1]), measured, each, residual)

    def alternatives(self, placed: Placed, answered: Answered) -> tuple[Alternative, ...]:
        """The sets of elements that explain the change best, whatever the network says of them."""
        ranked = sorted(answered.verdicts, key=lambda verdict: -verdict.probability)
        places = [answered.sites[verdict.element] for verdict in ranked if verdict.element in answered.sites]
        places = places[:_RIVALS]
        if not places:
            return ()
        amounts = {v.element: v.concentration for v in answered.verdicts}
        entries = [placed.candidates.entries[place] for place in places]
        seen = _responses_at(placed, places, [amounts[entry.element] for entry in entries])
        change = placed.change.astype(float) @ _WEIGHTED_SMOOTHING
        if answered.off_axis > FOUND:
            ways = placed.seen_directions
            change, *seen = without(ways[None], np.concatenate([change[None], seen])[None])[0]
        found = unmix(change, np.array(seen)).sets
        told = [
            Alternative(tuple(entries[member].element for member in one.members), one.amounts, one.explained)
            for one in found
            if one.members and min(one.amounts) >= _LEAST_TOLD and max(one.amounts) <= MOST_TOGETHER
        ]
        return tuple(told[:_ALTERNATIVES])


def _smoothed(changes: Array) -> Array:
    """Changes, (B, N_BINS), coarsely smoothed and weighted: few by numpy, whose products of many start threads."""
    if len(changes) <= FEW:
        return np.asarray(changes @ _WEIGHTED_SMOOTHING)
    return np.asarray((torch.from_numpy(changes) @ torch.from_numpy(_WEIGHTED_SMOOTHING)).numpy())


def cannot_tell(query: Query) -> tuple[str, ...]:
    """Why a query that cannot be compared finds nothing, as a warning; empty where the spectrum alone may find."""
    if query.reference is None:
        return (f"{CANNOT_TELL} without the pristine crystal's spectrum: the spectrum alone allows a guess",)
    if query.reference_kind == "computed":
        why = "by a computed reference alone, without responses of this host"
        return (f"{CANNOT_TELL} {why}: give a measured one, or prepare the host (defectnet prepare)",)
    return ()


def remarks(query: Query, placed: Placed, answered: Answered) -> Iterator[str]:
    """What the fit says against an answer, and what the reader should know of the comparison."""
    found = [verdict.element for verdict in answered.verdicts if verdict.present]
    left = 1.0 - answered.fit.explained
    if found and left > MOST_UNEXPLAINED:
        yield f"{', '.join(found)} explain{'s' * (len(found) == 1)} only {1 - left:.0%} of the measured change"
    if answered.off_axis > FOUND and not placed.apart:
        yield (
            f"the sample's axis is probably off the reference's (p {answered.off_axis:.2f}): what that makes of the "
            "spectrum was taken out; calibrate both alike"
        )
    elif not found and answered.fit.moved > MOVED_BY_MEASURING:
        yield (
            f"{answered.fit.moved:.0%} of the modes lie elsewhere than in the reference, and no element that was "
            "weighed explains it: check that both are of this host and made alike, and the list of candidates"
        )
    if group := alike_and_open(placed.candidates, answered.verdicts, answered.sites):
        *names, last = (one.element for one in group)
        chances = ", ".join(f"{one.probability:.2f}" for one in group)
        yield (
            f"{', '.join(names)} or {last} is probably there (p {chances}), but their responses are too alike to tell "
            "which: give a list without those that cannot be there"
        )
    stretch = placed.registration.stretch
    if abs(stretch) > _NOTABLE_STRETCH:
        yield f"the reference's axis lies {stretch:+.1%} off the computed {placed.host.host_id}; responses moved"
    if (missing := placed.candidates.missing) and query.candidates is not None:
        yield f"no response of {placed.host.formula} to {', '.join(missing)} is known: judged by the spectrum"
    weak = sorted({e for e in found if answered.fit.sources[e] in ("springs", "masses")})
    if weak:
        yield f"the response to {', '.join(weak)} is an estimate from chemistry (springs): its amount is rough"


def _parts(placed: Placed, verdicts: Sequence[ElementVerdict], sites: Mapping[str, int]) -> dict[str, Array]:
    """What each found element adds to the change, shape (N_BINS,), coarsely smoothed and weighted."""
    found = [verdict for verdict in verdicts if verdict.present and verdict.element in sites]
    seen = _responses_at(placed, [sites[v.element] for v in found], [v.concentration for v in found])
    return {v.element: v.concentration * seen[row] for row, v in enumerate(found)}


def _responses_at(placed: Placed, places: Sequence[int], amounts: Sequence[float]) -> Array:
    """The responses of some entries at these amounts, shape (n, N_BINS), coarsely smoothed and weighted."""
    lists = [placed.candidates] * len(places)
    return coarse_responses(lists, np.array(places, dtype=np.int64), np.array(amounts, dtype=np.float64))
