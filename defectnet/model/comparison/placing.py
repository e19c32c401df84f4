"""Which host a query means, and where its spectra lie on that host's axis; many queries at once.

A host is known by its reference. Where one of those that may be meant is as the reference is without any warp, no other
is looked at further: a search costs some fifty times as much as a look.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.errors import DefectNetError, InputError
from defectnet.io.response_library import KnownHosts
from defectnet.model.comparison.axis import COARSE, N_BINS, moved_share
from defectnet.model.comparison.candidates import Candidates
from defectnet.model.comparison.features import axis_directions, coarse_directions
from defectnet.model.comparison.hosts import HostOnAxis
from defectnet.model.comparison.registration import EQUAL, LEAST_LIKENESS, Registration, moved, unmoved
from defectnet.model.comparison.warping import weighing
from defectnet.prediction import MOVED_BY_MEASURING
from defectnet.query import Query
from defectnet.spectrum import Spectrum

__all__ = ["Placed", "Placing"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

# Responses of hosts, 1.8 kB each, and of lists as an instrument shows them, 2.7 kB each: all hosts of the
# packaged library have room (300 MB), and each of them once without a list (450 MB).
_RESPONSES_KEPT, _CANDIDATES_KEPT = 196_608, 196_608
_REGISTRATIONS_KEPT = 512
_FIX = "name the host of the sample, or leave host_id out"


@dataclass(frozen=True, eq=False)
class Placed:
    """A query on the axis of its host.

    Attributes:
        host, registration: whose axis, and how the measured one lies on it.
        change, pristine: shape (N_BINS,).
        directions, seen_directions: shape (5, N_BINS), `axis_directions` of `pristine`, `coarse_directions` of these.
        candidates: what stands for the elements that were asked for.
        apart: whether sample and reference were laid onto the host each by itself, and lie apart by what that misses.
    """

    host: HostOnAxis
    registration: Registration
    change: Floats
    pristine: Floats
    directions: Floats
    seen_directions: Floats
    candidates: Candidates
    apart: bool


@dataclass(frozen=True, eq=False)
class _Laid:
    """A measured spectrum on the axis of the host that is most like it.

    Attributes:
        host, registration: whose axis, and how the measured one lies on it.
        density: shape (N_BINS,).
        directions, seen_directions: shape (5, N_BINS), where a wrong axis would move it, as in `Placed`.
    """

    host: HostOnAxis
    registration: Registration
    density: Array
    directions: Floats
    seen_directions: Floats

    @property
    def alike(self) -> bool:
        """Whether it is the host's density at all."""
        return self.registration.likeness >= LEAST_LIKENESS


@dataclass(frozen=True, eq=False)
class _Meant:
    """A spectrum, and the hosts that it may be of."""

    hosts: tuple[HostOnAxis, ...]
    spectrum: Spectrum
    kind: str

    @property
    def key(self) -> Hashable:
        """The same for the same question."""
        said = self.spectrum.frequency_thz.tobytes() + self.spectrum.dos.tobytes()
        names = tuple(host.host_id for host in self.hosts)
        return names, self.kind, hashlib.blake2b(said, digest_size=16).digest()


_Made = TypeVar("_Made")


class _Recent(Generic[_Made]):
    """What was made of the last keys, as many as do not weigh too much together; threads may share it."""

    def __init__(self, most: int, weight: Callable[[_Made], int] = lambda made: 1) -> None:
        self._most, self._weight, self._whole, self._lock = most, weight, 0, Lock()
        self._kept: OrderedDict[Hashable, _Made] = OrderedDict()

    def get(self, key: Hashable) -> _Made | None:
        """The value of a key, where it is there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, made: _Made) -> _Made:
        """Keep a value; two threads at once may both have made it."""
        with self._lock:
            if (former := self._kept.pop(key, None)) is not None:
                self._whole -= self._weight(former)
            self._kept[key] = made
            self._whole += self._weight(made)
            while self._whole > self._most and len(self._kept) > 1:
                self._whole -= self._weight(self._kept.popitem(last=False)[1])
        return made


class Placing:
    """Lays queries onto the axes of known hosts; safe to share between threads."""

    def __init__(self, known: KnownHosts) -> None:
        self._known = known
        self._hosts: _Recent[HostOnAxis] = _Recent(_RESPONSES_KEPT, lambda host: 1 + len(host.entries))
        self._laid: _Recent[_Laid] = _Recent(_REGISTRATIONS_KEPT)
        self._candidates: _Recent[Candidates] = _Recent(_CANDIDATES_KEPT, lambda one: 1 + len(one.entries))

    def place(
        self, queries: Sequence[Query], elements: Sequence[Sequence[str]]
    ) -> list[Placed | DefectNetError | None]:
        """Lay each query onto its host's axis.

        Args:
            elements: what is weighed for each of `queries`.

        Returns:
            for each what stands for it; None without a reference, or where no known host fits it; and the error where
            the host that it names is not known, or of another composition.
        """
        results: list[Placed | DefectNetError | None] = [None] * len(queries)
        meant: dict[int, _Meant] = {}
        for row, query in enumerate(queries):
            try:
                hosts = self._hosts_of(query)
            except DefectNetError as error:
                results[row] = error
                continue
            if hosts and query.reference is not None:
                meant[row] = _Meant(hosts, query.reference, query.kind)
        references = {row: laid for row, laid in self._lay(meant).items() if laid.alike}
        # The sample's instrument and thermal state are not a calculation's: it is laid onto the host by itself.
        alone = {
            row: _Meant((laid.host,), queries[row].spectrum, queries[row].kind)
            for row, laid in references.items()
            if queries[row].reference_kind == "computed"
        }
        samples = {row: laid for row, laid in self._lay(alone).items() if laid.alike}
        seen = {row: laid.registration.as_seen(references[row].density) for row, laid in samples.items()}
        directions = dict(zip(seen, _directions(seen.values()), strict=True)) if seen else {}
        for row, laid in references.items():
            if row in samples:
                found, sample = samples[row].registration, samples[row].density
                reference, ways = seen[row], directions[row]
            elif row in alone:
                continue
            else:
                found, reference, ways = laid.registration, laid.density, (laid.directions, laid.seen_directions)
                sample = found.on_host_axis(queries[row].spectrum)
            results[row] = Placed(
                laid.host,
                found,
                (sample - reference).astype(np.float32),
                reference.astype(np.float32),
                *ways,
                self._weighed(laid.host, queries[row], tuple(elements[row]), found),
                row in samples,
            )
        return results

    def not_compared(self, query: Query) -> Iterator[str]:
        """What to say of an answer to a query that could not be placed, by a measured reference at least."""
        hosts = self._hosts_of(query)
        if query.reference is None:
            return
        if hosts:
            laid = self._lay({0: _Meant(hosts, query.reference, query.kind)})[0]
            if not laid.alike:
                names = ", ".join(host.host_id for host in hosts)
                yield (
                    f"the reference is unlike the computed {query.host.formula} ({names}): judged by the spectrum alone"
                )
        elif query.reference_kind == "measured":
            share = _share_elsewhere(query.spectrum, query.reference)
            much = f", and {share:.0%} of the modes lie elsewhere than in the reference" * (share > MOVED_BY_MEASURING)
            yield (
                f"no responses of {query.host.formula} are known: a guess from the spectrum alone{much}; "
                "prepare the host (defectnet prepare)"
            )

    def _hosts_of(self, query: Query) -> tuple[HostOnAxis, ...]:
        """The hosts that may be meant; none without a reference.

        Raises:
            InputError: the host that it names is not known, or of another composition.
        """
        if query.reference is None:
            return ()
        names = [query.host_id] if query.host_id else self._known.of_formula(query.host.formula)
        hosts = tuple(self._host(name, query.kind) for name in names)
        for host in hosts if query.host_id else ():  # those of the formula are of it
            if host.composition != query.host.formula:
                said = f"{host.host_id} is {host.composition}, not {query.host.formula}"
                raise InputError(said, fix=_FIX, field="host_id")
        return hosts

    def _host(self, name: str, kind: str) -> HostOnAxis:
        host = self._hosts.get((name, kind))
        return self._hosts.put((name, kind), HostOnAxis(self._known.host(name), kind)) if host is None else host

    def _lay(self, meant: dict[int, _Meant]) -> dict[int, _Laid]:
        """Each spectrum on the axis of the host that is most like it."""
        keys = {row: one.key for row, one in meant.items()}
        known = {key: laid for key in set(keys.values()) if (laid := self._laid.get(key)) is not None}
        new = {key: meant[row] for row, key in keys.items() if key not in known}
        if new:
            found = _registered(list(new.values()))
            densities = [laid.on_host_axis(one.spectrum) for (_, laid), one in zip(found, new.values(), strict=True)]
            for key, best, density, ways in zip(new, found, densities, _directions(densities), strict=True):
                known[key] = self._laid.put(key, _Laid(*best, density, *ways))
        return {row: known[key] for row, key in keys.items()}

    def _weighed(self, host: HostOnAxis, query: Query, elements: tuple[str, ...], seen: Registration) -> Candidates:
        key = host.host_id, query.kind, elements, seen.width, seen.constant, seen.cut
        known = self._candidates.get(key)
        if known is None:
            foreign = [one for one in elements if one not in query.host.fractions]
            known = self._candidates.put(key, Candidates.of(host, foreign, seen))
        return known


def _share_elsewhere(sample: Spectrum, reference: Spectrum) -> float:
    """The share of the modes that lie elsewhere in a sample than in its reference, coarsely smoothed."""
    as_it_is = Registration(reference.top_thz(), warp=(0.0, 0.0, 0.0), width=0.0, cut=0.0, visible=1.0, likeness=1.0)
    change = as_it_is.on_host_axis(sample) - as_it_is.on_host_axis(reference)
    return float(moved_share(change @ weighing(COARSE)))


def _registered(meant: Sequence[_Meant]) -> list[tuple[HostOnAxis, Registration]]:
    """For each spectrum the host that is most like it, and how it lies there."""
    pairs = [(row, host) for row, one in enumerate(meant) for host in one.hosts]
    looks = unmoved(
        [meant[row].spectrum for row, _ in pairs],
        np.stack([host.density for _, host in pairs]),
        np.array([host.top_thz for _, host in pairs]),
    )
    looked: list[list[tuple[HostOnAxis, Registration]]] = [[] for _ in meant]
    for (row, host), look in zip(pairs, looks, strict=True):
        looked[row].append((host, look))
    found = []
    for one, hosts in zip(meant, looked, strict=True):
        best = max(hosts, key=_likeness)
        if best[1].likeness <= EQUAL:
            best = max(((host, moved(one.spectrum, host.density, look)) for host, look in hosts), key=_likeness)
        found.append(best)
    return found


def _likeness(one: tuple[HostOnAxis, Registration]) -> float:
    return one[1].likeness


def _directions(densities: Iterable[Array]) -> Iterator[tuple[Floats, Floats]]:
    """Where a wrong axis would move each density, (N_BINS,): (5, N_BINS), and as it is coarsely seen."""
    stack = np.array(list(densities), dtype=np.float32).reshape(-1, N_BINS)
    fine = np.asarray(axis_directions(torch.from_numpy(stack)).numpy())
    return zip(fine, coarse_directions(fine), strict=True)
