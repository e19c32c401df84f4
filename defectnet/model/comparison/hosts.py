"""A host of the response library on the axis of the comparison, and which of its responses stand for a candidate."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from defectnet.chemistry.strain import strain_per_concentration
from defectnet.host import Host
from defectnet.io.response_library import HostResponses, StoredResponse
from defectnet.model.comparison.axis import CENTRES, EVEN_TO, N_BINS, on_axis, top_of
from defectnet.model.comparison.comparer import N_ABOUT, SOURCES
from defectnet.model.features import element_index
from defectnet.model.prior import LEAST_SITE_RATIO, substitutions

__all__ = ["MEASURED", "SWELLING", "Entry", "HostOnAxis", "source_class", "swollen"]

Array = NDArray[np.float64]

# A substitution that no chemist expects, as natural logs of its weight and of its ratio to the element's best site.
_UNEXPECTED, _UNEXPECTED_RATIO = -14.0, -3.0
_LEAST_WEIGHT = 1e-6
_SPRINGS = "springs"
# The source of responses that were learned from samples whose doping is known.
MEASURED = "measured"
# Of what `swollen` says, how much is added to springs: fitted to end members by `make strain`. It is less than a
# crystal's Grüneisen parameters would have it, for how stiff the dopant's own bonds are the springs know.
SWELLING = 0.44
# Of the prior's weight beside the element's best site, natural log; a good source speaks for less likely sites too.
_LEAST_LOG_RATIO = math.log(LEAST_SITE_RATIO)


def swollen(density: Array) -> Array:
    """How a density of states (N_BINS,) changes for each unit of strain, but for a factor, same shape.

    Frequencies fall as the crystal swells, those in the middle of the band most: by 1 + sin(π u) of their share.
    """
    within = np.minimum(CENTRES, EVEN_TO)
    return np.asarray(np.gradient(density * CENTRES * (1.0 + np.sin(np.pi * within)), CENTRES))


def source_class(source: str) -> str:
    """The class of a response's source: every potential is one; what was measured is as good as an end member."""
    if source == MEASURED:
        return SOURCES[0]
    return "potential" if source.startswith("potential:") else source


@dataclass(frozen=True, eq=False)
class Entry:
    """One substitution, with its responses from one source.

    Attributes:
        element, replaces, source: as in `StoredResponse`.
        curves: shape (3, N_BINS), for each unit of concentration, on the axis.
        concentrations: shape (3,), ascending.
        log_weight, log_ratio, heterovalent: what the chemical prior says of it.
    """

    element: str
    replaces: str
    source: str
    curves: NDArray[np.float32]
    concentrations: NDArray[np.float32]
    log_weight: float
    log_ratio: float
    heterovalent: bool

    def about(self) -> NDArray[np.float32]:
        """What the network reads of it beside the curves, shape (N_ABOUT,)."""
        values = np.zeros(N_ABOUT, dtype=np.float32)
        values[:3] = (self.log_weight + 3.0) / 3.0, self.log_ratio, self.heterovalent
        values[3 + SOURCES.index(source_class(self.source))] = 1.0
        values[3 + len(SOURCES) :] = 5.0 * self.concentrations[-1], 5.0 * self.concentrations[0]
        return values

    @property
    def log_prior(self) -> float:
        """The prior as the greedy choice counts it."""
        return 0.5 * min(max(self.log_weight, -8.0), 0.0)


def _rank(entry: Entry) -> tuple[int, bool]:
    """Smaller is better: the class of its source, and in it what was measured first."""
    return SOURCES.index(source_class(entry.source)), entry.source != MEASURED


def _three_amounts(found: Sequence[StoredResponse]) -> list[StoredResponse]:
    """The least, the middle and the greatest amount of a substitution; or the only one."""
    ordered = sorted(found, key=lambda one: one.concentration)
    return ordered if len(ordered) == 1 else [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


class HostOnAxis:
    """A host of the library, of one kind of spectrum, on the axis of the comparison.

    Attributes:
        host_id, formula: as in `HostResponses`.
        composition: the formula as `Host` writes it.
        top_thz: the host's highest frequency.
        density: shape (N_BINS,), 3 modes an atom.
        entries: by (element, replaced element) and source.
    """

    def __init__(self, responses: HostResponses, kind: str = "vibrational", *, swelling: float = SWELLING) -> None:
        """Lay a host onto the axis; one without a density of this `kind` has no entries and a density of zeros.

        Args:
            swelling: of what strain does to a density, how much is added to springs, which know none.
        """
        step = responses.frequency_step_thz
        self.host_id, self.formula = responses.host_id, responses.formula
        self.top_thz = top_of(responses.dos, step)
        dos = responses.dos_neutron if kind == "neutron" else responses.dos
        self.density: Array = np.zeros(N_BINS) if dos is None else on_axis(dos, step, self.top_thz)
        self._stood: dict[str | None, list[Entry]] = {}
        self.composition = Host(responses.formula).formula
        known = responses.responses if dos is not None else ()
        self.entries = self._laid([one for one in known if one.change_of(kind) is not None], step, kind, swelling)

    def _laid(
        self, known: Sequence[StoredResponse], step: float, kind: str, swelling: float
    ) -> dict[tuple[str, str], dict[str, Entry]]:
        host = Host(self.formula)
        weights = {(one.element, one.replaces): one for one in substitutions(host)}
        best: dict[str, float] = {}
        for (element, _), one in weights.items():
            best[element] = max(best.get(element, 0.0), one.weight)
        grouped: dict[tuple[str, str, str], list[StoredResponse]] = {}
        for response in known:
            if response.element not in host.fractions:
                grouped.setdefault((response.element, response.replaces, response.source), []).append(response)
        chosen = [_three_amounts(found) for found in grouped.values()]
        every = [one for three in chosen for one in three]
        curves = self._on_axis(every, step, kind)
        strains = [
            strain_per_concentration(host.fractions, r.element, r.replaces) * (r.source == _SPRINGS) for r in every
        ]
        curves += np.multiply.outer(swelling * np.array(strains), swollen(self.density)).astype(np.float32)
        amounts = np.array([one.concentration for one in every], dtype=np.float32)
        # One response stands for all three amounts, and takes the memory of one.
        alone = np.broadcast_to(curves[:, None], (len(every), 3, N_BINS))
        alike = np.broadcast_to(amounts[:, None], (len(every), 3))
        entries: dict[tuple[str, str], dict[str, Entry]] = {}
        start = 0
        for (element, replaces, source), three in zip(grouped, chosen, strict=True):
            own, start = slice(start, start + 3), start + len(three)
            single = len(three) == 1
            expected = weights.get((element, replaces))
            log_weight, ratio = _UNEXPECTED, _UNEXPECTED_RATIO
            if expected is not None:
                log_weight = math.log(max(expected.weight, _LEAST_WEIGHT))
                ratio = math.log(max(expected.weight, _LEAST_WEIGHT) / best[element])
            entries.setdefault((element, replaces), {})[source] = Entry(
                element,
                replaces,
                source,
                alone[own.start] if single else curves[own],
                alike[own.start] if single else amounts[own],
                log_weight,
                ratio,
                expected is not None and expected.heterovalent,
            )
        return entries

    def _on_axis(self, found: Sequence[StoredResponse], step: float, kind: str) -> NDArray[np.float32]:
        """Changes on the axis, shape (n, N_BINS)."""
        changes = [change for one in found if (change := one.change_of(kind)) is not None]
        stack = np.zeros((len(changes), max((change.size for change in changes), default=1)))
        for row, change in enumerate(changes):
            stack[row, : change.size] = change
        return on_axis(stack, step, self.top_thz).astype(np.float32)

    @property
    def elements(self) -> frozenset[str]:
        """Elements of which some response is known."""
        return frozenset(element for element, _ in self.entries)

    def chosen(self, elements: Collection[str], source: str | None = None) -> list[Entry]:
        """The entries that stand for `elements`: on each likely site, the best source.

        Args:
            elements: symbols; those without a response have no entry.
            source: a class of sources, to take no other.
        """
        wanted = set(elements)
        return [entry for entry in self._standing(source) if entry.element in wanted]

    def _standing(self, source: str | None) -> list[Entry]:
        """What `chosen` gives of all elements; made once for each `source`."""
        if source not in self._stood:
            found = []
            for _, sources in sorted(self.entries.items()):
                ranked = [entry for one, entry in sources.items() if source is None or source_class(one) == source]
                if ranked:
                    found.append(min(ranked, key=_rank))
            best: dict[str, float] = {}
            for entry in found:
                best[entry.element] = max(best.get(entry.element, -math.inf), entry.log_ratio)
            # What was prepared though no chemist expects it was wanted: its best site stands.
            standing = [
                entry
                for entry in found
                if entry.log_ratio > _LEAST_LOG_RATIO
                or entry.log_ratio == best[entry.element]
                or source_class(entry.source) in SOURCES[:2]
            ]
            self._stood[source] = sorted(standing, key=lambda entry: (element_index(entry.element), entry.replaces))
        return self._stood[source]
