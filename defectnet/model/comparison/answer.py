"""From queries to answers by comparison: find the host, register it, compare, and say what the answer explains."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.io.response_library import KnownHosts
from defectnet.model.comparison.axis import COARSE, EDGES, WIDTHS, smoothing
from defectnet.model.comparison.batches import MOST_CANDIDATES, flags_of, most_promising, stacked
from defectnet.model.comparison.calibration import FOUND, ComparisonCalibration, any_of, interval, strangeness
from defectnet.model.comparison.comparer import Comparer, ComparerInputs
from defectnet.model.comparison.features import response_at
from defectnet.model.comparison.hosts import Entry, HostOnAxis, source_class
from defectnet.model.comparison.registration import LEAST_LIKENESS, Registration, register, smeared
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
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["Answered", "Comparison", "Placed", "cannot_tell", "remarks"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

_HOSTS_KEPT, _REGISTRATIONS_KEPT = 256, 512
# Rival sets are sought among so many of the most probable substitutions, and so many are told.
_RIVALS, _ALTERNATIVES = 10, 4
# A computed host whose axis is stretched by more than this to fit the reference is worth a word.
_NOTABLE_STRETCH = 0.03
_FIX = "name the host of the sample, or leave host_id out"
_ROOT = np.sqrt(WIDTHS)
_SMOOTHING = smoothing(COARSE).double().numpy()
_WEIGHTED_SMOOTHING = _SMOOTHING * _ROOT


@dataclass(frozen=True, eq=False)
class Placed:
    """A query on the axis of its host.

    Attributes:
        host, registration: whose axis, and how the measured one lies on it.
        change, pristine: shape (N_BINS,).
        entries: the candidates.
        curves: shape (K, 3, N_BINS), their responses as the reference's instrument shows them.
        missing: elements that were asked for and have no response.
    """

    host: HostOnAxis
    registration: Registration
    change: Floats
    pristine: Floats
    entries: list[Entry]
    curves: Floats
    missing: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Answered:
    """What the comparison says of one query.

    Attributes:
        verdicts: one for each element that has a response, most probable first.
        fit: how much of the change the found elements explain.
        strangeness: 0 … 1, as `Prediction.ood_score`.
        sites: for each element its likeliest entry.
    """

    verdicts: tuple[ElementVerdict, ...]
    fit: Fit
    strangeness: float
    sites: dict[str, int]


_Made = TypeVar("_Made")


class _Recent(Generic[_Made]):
    """What was made of the last so many keys; threads may share it."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[Hashable, _Made] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Made]) -> _Made:
        """The value of a key, made where it is not there; two threads at once may both make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return made


class Comparison:
    """A trained comparer with the responses of known hosts; safe to share between threads."""

    def __init__(
        self,
        comparer: Comparer,
        calibration: ComparisonCalibration,
        known: KnownHosts,
        precision: Precision = "float32",
    ) -> None:
        self._known, self._precision = known, precision
        self._comparer, self._calibration = comparer.eval(), calibration
        self._hosts: _Recent[HostOnAxis] = _Recent(_HOSTS_KEPT)
        self._registrations: _Recent[Registration] = _Recent(_REGISTRATIONS_KEPT)

    def place(self, query: Query, elements: Sequence[str]) -> Placed | None:
        """Lay a query onto its host's axis; None without a reference, or where no known host fits it.

        Raises:
            InputError: the host that it names is not known, or of another composition.
        """
        fits = self._registrations_of(query)
        if query.reference is None or not fits:
            return None
        host, found = max(fits, key=lambda fit: fit[1].likeness)
        if found.likeness < LEAST_LIKENESS:
            return None
        reference = found.on_host_axis(query.reference)
        if query.reference_kind == "computed":
            # The sample's instrument and thermal state are not the calculation's: it is laid onto the host by itself.
            found = self._registered(host, query.spectrum, query.kind)
            if found.likeness < LEAST_LIKENESS:
                return None
            reference = found.as_seen(reference)
        sample = found.on_host_axis(query.spectrum)
        wanted = [element for element in elements if element not in query.host.fractions]
        entries = host.chosen(wanted)
        known = {entry.element for entry in entries}
        curves = np.stack([entry.curves for entry in entries]) if entries else np.zeros((0, 3, WIDTHS.size))
        curves = smeared(curves.astype(np.float32), found)
        change = sample - reference
        return Placed(
            host,
            found,
            change.astype(np.float32),
            reference.astype(np.float32),
            entries,
            curves,
            tuple(element for element in wanted if element not in known),
        )

    def unlike(self, query: Query) -> Iterator[str]:
        """What to say of an answer to a query that could not be placed though its host is known."""
        fits = self._registrations_of(query)
        if fits and max(found.likeness for _, found in fits) < LEAST_LIKENESS:
            names = ", ".join(host.host_id for host, _ in fits)
            yield f"the reference is unlike the computed {query.host.formula} ({names}): judged by the spectrum alone"

    def _registrations_of(self, query: Query) -> list[tuple[HostOnAxis, Registration]]:
        """The hosts that may be meant, each with how its axis lies on the reference's; none without a reference."""
        if query.reference is None:
            return []
        names = [query.host_id] if query.host_id else self._known.of_formula(query.host.formula)
        hosts = [self._host(name, query.kind) for name in names]
        for host in hosts if query.host_id else ():  # those of the formula are of it
            if (formula := Host(host.formula).formula) != query.host.formula:
                raise InputError(f"{host.host_id} is {formula}, not {query.host.formula}", fix=_FIX, field="host_id")
        return [(host, self._registered(host, query.reference, query.kind)) for host in hosts]

    def answer(self, queries: Sequence[Query], placed: Sequence[Placed]) -> list[Answered]:
        """Compare; each of `placed` has at least one entry."""
        flags = np.stack(
            [
                flags_of(
                    computed=query.reference_kind == "computed", neutron=query.kind == "neutron", prior=query.prior
                )
                for query in queries
            ]
        )
        changes, pristine = (np.stack([getattr(one, name) for one in placed]) for name in ("change", "pristine"))
        given = stacked(changes, pristine, [one.entries for one in placed], flags, [one.curves for one in placed])
        given, kept = most_promising(given, MOST_CANDIDATES)
        device = next(self._comparer.parameters()).device
        with torch.inference_mode(), multiplying_in(self._precision, device):
            said = self._comparer(_on_device(given, device))
        logit, mean, spread, unexplained = (tensor.double().cpu().numpy() for tensor in said)
        mask = given.responses.mask.numpy()
        return [
            self._answered(
                query,
                one,
                kept[row].numpy()[mask[row]],
                logit[row][mask[row]],
                mean[row][mask[row]],
                spread[row][mask[row]],
                float(unexplained[row]),
            )
            for row, (query, one) in enumerate(zip(queries, placed, strict=True))
        ]

    def _answered(
        self,
        query: Query,
        placed: Placed,
        kept: NDArray[np.int64],
        logit: Array,
        mean: Array,
        spread: Array,
        unexplained: float,
    ) -> Answered:
        calibration = self._calibration
        by_element: dict[str, list[tuple[float, int, int]]] = {}
        for column, place in enumerate(kept.tolist()):
            entry = placed.entries[place]
            by_element.setdefault(entry.element, []).append((float(logit[column]), column, place))
        verdicts, sites = [], {}
        for element, found in by_element.items():
            _, column, place = max(found)
            source = source_class(placed.entries[place].source)
            both = any_of(np.array([one for one, _, _ in found]))
            mapped = calibration.map_of(source, candidates=query.candidates is not None)
            p = float(mapped.probability(np.array(both)))
            amounts = interval(mean[column], spread[column], calibration.factor_of(source))
            verdicts.append(ElementVerdict(element, p >= FOUND, p, *map(float, amounts)))
            sites[element] = place
        verdicts += [
            ElementVerdict(entry.element, False, 0.0, 0.0, 0.0, 0.0)
            for entry in {e.element: e for e in placed.entries if e.element not in by_element}.values()
        ]
        verdicts.sort(key=lambda verdict: -verdict.probability)
        ordered = tuple(verdicts)
        fit = Fit(
            host_id=placed.host.host_id,
            explained=self._explained(placed, ordered, sites),
            moved=float(np.clip(0.5 * np.abs(placed.change @ _SMOOTHING * WIDTHS).sum() / MODES_PER_ATOM, 0.0, 1.0)),
            sources={e: placed.entries[place].source for e, place in sites.items()},
        )
        return Answered(ordered, fit, strangeness(unexplained, calibration), sites)

    def _explained(self, placed: Placed, verdicts: Sequence[ElementVerdict], sites: dict[str, int]) -> float:
        change = placed.change @ _WEIGHTED_SMOOTHING
        parts = self._parts(placed, verdicts, sites)
        left = change - sum((curve @ _WEIGHTED_SMOOTHING for curve in parts.values()), np.zeros_like(change))
        return float(np.clip(1.0 - left @ left / max(float(change @ change), 1e-12), 0.0, 1.0))

    def _parts(self, placed: Placed, verdicts: Sequence[ElementVerdict], sites: dict[str, int]) -> dict[str, Array]:
        """What each found element adds to the change, shape (N_BINS,)."""
        found = [verdict for verdict in verdicts if verdict.present and verdict.element in sites]
        if not found:
            return {}
        places = [sites[verdict.element] for verdict in found]
        seen = _responses_at(placed, places, [verdict.concentration for verdict in found])
        return {v.element: v.concentration * seen[row] for row, v in enumerate(found)}

    def curves(self, placed: Placed, answered: Answered) -> Curves:
        """The measured change and what the found elements' responses make of it, on the measured axis, smoothed."""
        scale = placed.registration.top_thz
        parts = self._parts(placed, answered.verdicts, answered.sites)
        each = {element: curve @ _SMOOTHING / scale for element, curve in parts.items()}
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
        seen = _responses_at(placed, places, [amounts[placed.entries[place].element] for place in places])
        found = unmix(placed.change.astype(float) @ _WEIGHTED_SMOOTHING, seen @ _WEIGHTED_SMOOTHING).sets
        told = [
            Alternative(
                tuple(placed.entries[places[member]].element for member in one.members), one.amounts, one.explained
            )
            for one in found
            if one.members
        ]
        return tuple(told[:_ALTERNATIVES])

    def _host(self, name: str, kind: str) -> HostOnAxis:
        return self._hosts.get((name, kind), lambda: HostOnAxis(self._known.host(name), kind))

    def _registered(self, host: HostOnAxis, reference: Spectrum, kind: str) -> Registration:
        digest = hashlib.blake2b(reference.frequency_thz.tobytes() + reference.dos.tobytes(), digest_size=16).digest()
        key = host.host_id, kind, digest
        return self._registrations.get(key, lambda: register(reference, host.density, host.top_thz))


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
    if not found and answered.fit.moved > MOVED_BY_MEASURING:
        yield (
            f"{answered.fit.moved:.0%} of the modes lie elsewhere than in the reference, and no element that was "
            "weighed explains it: check that both are of this host and made alike, and the list of candidates"
        )
    stretch = placed.registration.stretch
    if abs(stretch) > _NOTABLE_STRETCH:
        yield f"the reference's axis lies {stretch:+.1%} off the computed {placed.host.host_id}; responses moved"
    if placed.missing and query.candidates is not None:
        yield f"no response of {placed.host.formula} to {', '.join(placed.missing)} is known: judged by the spectrum"
    weak = sorted({e for e in found if answered.fit.sources[e] in ("springs", "masses")})
    if weak:
        yield f"the response to {', '.join(weak)} is an estimate from chemistry (springs): its amount is rough"


def _responses_at(placed: Placed, places: Sequence[int], amounts: Sequence[float]) -> Array:
    """The responses of some entries at these amounts, shape (n, N_BINS)."""
    curves = torch.from_numpy(placed.curves[list(places)])[None]
    nodes = torch.from_numpy(np.stack([placed.entries[place].concentrations for place in places]))[None]
    return np.asarray(response_at(curves, nodes, torch.tensor([amounts], dtype=torch.float32))[0].double().numpy())


def _on_device(given: ComparerInputs, device: torch.device) -> ComparerInputs:
    if device.type == "cpu":
        return given
    r = given.responses
    moved = type(r)(*(tensor.to(device) for tensor in (r.curves, r.concentrations, r.mask, r.log_prior)))
    rest = {name: getattr(given, name).to(device) for name in ("change", "pristine", "about", "flags")}
    return ComparerInputs(responses=moved, **rest)
