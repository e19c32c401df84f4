"""The candidates of a list as one instrument shows their responses: what the network reads of them, made once a list.

Many spectra are asked about one host with one list, or without one. What of a comparison hangs on the host, the list
and the instrument alone is computed here; `defectnet.model.comparison.answer` keeps it.

Shapes: B spectra, K candidates, N bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.model.comparison.amount_fits import weights_at
from defectnet.model.comparison.axis import N_BINS
from defectnet.model.comparison.batches import MOST_CANDIDATES, SIFTING_RIDGE, SIFTING_STEPS, promise, unit
from defectnet.model.comparison.comparer import N_ABOUT, SOURCES, ComparerInputs
from defectnet.model.comparison.features import TYPICAL_AMOUNT, Prepared, Responses, first_responses, smoothed
from defectnet.model.comparison.fitting import descended, descent
from defectnet.model.comparison.hosts import Entry, HostOnAxis, source_class
from defectnet.model.comparison.registration import Registration, smeared

__all__ = ["Candidates", "coarse_nodes", "coarse_responses", "sifted", "together"]

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Places = NDArray[np.int64]


# Spectra of one list that are sifted together: more, and numpy's products would start threads.
_SIFTED_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class Candidates:
    """What stands for a list of elements.

    Attributes:
        entries: those of one element lie side by side.
        missing: elements that were asked for and have no response.
        elements: those that have one, in the order of the entries.
        element: shape (K,), the place of each entry's element among `elements`.
        source: shape (K,), the place of each entry's class of source among `SOURCES`.
        first: shape (2, K, N), responses as the instrument shows them, `smoothed` and read at `TYPICAL_AMOUNT`.
        slot: shape (K,), where those whose response hangs on the amount have their `nodes`; -1 for all others.
        nodes: shape (n, 3, 2, N), smoothed responses at three concentrations.
        concentrations, about, log_prior: shapes (n, 3), (K, N_ABOUT) and (K,), as in `ComparerInputs`.
    """

    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    elements: tuple[str, ...]
    element: Places
    source: Places
    first: Floats
    slot: Places
    nodes: Floats
    concentrations: Floats
    about: Floats
    log_prior: Floats

    @classmethod
    def of(cls, host: HostOnAxis, wanted: Sequence[str], registration: Registration) -> "Candidates":
        """The candidates for elements that are foreign to a host, by an instrument as it was registered."""
        entries = host.chosen(wanted)
        place = {element: at for at, element in enumerate(dict.fromkeys(entry.element for entry in entries))}
        concentrations = np.array([entry.concentrations for entry in entries], dtype=np.float32).reshape(-1, 3)
        varying = np.flatnonzero(concentrations[:, 0] < concentrations[:, -1])
        slot = np.full(len(entries), -1)
        slot[varying] = np.arange(varying.size)
        # Where one response stands for all amounts it is smoothed once.
        curves = [
            entry.curves[-1:] if at < 0 else entry.curves for entry, at in zip(entries, slot.tolist(), strict=True)
        ]
        shown = smeared(np.concatenate([np.zeros((0, N_BINS), np.float32), *curves]), registration)
        smooth = smoothed(torch.from_numpy(shown)[:, None])[:, :, 0]  # (2, rows, N)
        starts = np.cumsum([0, *(len(one) for one in curves)])[:-1]
        first = smooth[:, starts].numpy()
        nodes = smooth[:, starts[varying][:, None] + np.arange(3)]  # (2, n, 3, N)
        first[:, varying] = first_responses(nodes, torch.from_numpy(concentrations[varying])).numpy()
        return cls(
            tuple(entries),
            tuple(element for element in wanted if element not in place),
            tuple(place),
            np.array([place[entry.element] for entry in entries], dtype=np.int64),
            np.array([SOURCES.index(source_class(entry.source)) for entry in entries], dtype=np.int64),
            first,
            slot,
            nodes.permute(1, 2, 0, 3).contiguous().numpy(),
            concentrations[varying],
            np.array([entry.about() for entry in entries], dtype=np.float32),
            np.array([entry.log_prior for entry in entries], dtype=np.float32),
        )

    @property
    def typical(self) -> Floats:
        """Coarsely smoothed responses at a typical amount, of unit norm, shape (K, N): more are sifted by them."""
        return np.asarray(unit(torch.from_numpy(self.first[1])).numpy())

    @cached_property
    def sifting(self) -> tuple[Floats, Floats]:
        """The `descent` of their least squares, shapes (K, K) and (1, K)."""
        everyone = np.ones((1, len(self.entries)), dtype=bool)
        return descent(self.typical @ self.typical.T, everyone, SIFTING_RIDGE)

    def of_prior(self, used: bool) -> tuple[Floats, Floats]:
        """`about` and `log_prior` as they are read where the chemical prior is `used`, or is not."""
        if used:
            return self.about, self.log_prior
        about = self.about.copy()
        about[:, :3] = 0.0
        return about, np.zeros_like(self.log_prior)


def coarse_responses(lists: Sequence[Candidates], places: Places, amounts: Array) -> Array:
    """Coarsely smoothed responses, (n, N), of n candidates, each at its place in its own list, at `amounts`, (n,)."""
    nodes, concentrations = coarse_nodes(lists, places)
    return np.asarray((weights_at(concentrations, amounts)[0][:, None] @ nodes)[:, 0])


def coarse_nodes(lists: Sequence[Candidates], places: Places) -> tuple[Array, Array]:
    """Those of n candidates at three concentrations, (n, 3, N), and these, (n, 3), equal where there is one only."""
    n = len(lists)
    nodes, concentrations = np.empty((n, 3, N_BINS)), np.full((n, 3), TYPICAL_AMOUNT)
    for row, (one, place) in enumerate(zip(lists, places.tolist(), strict=True)):
        if (slot := one.slot[place]) < 0:
            nodes[row] = one.first[1, place]
        else:
            nodes[row], concentrations[row] = one.nodes[slot, :, 1], one.concentrations[slot]
    return nodes, concentrations


def sifted(
    changes: Floats, lists: Sequence[Candidates], without_prior: NDArray[np.bool_], most: int = MOST_CANDIDATES
) -> list[Places]:
    """The places of each list's most promising candidates, ascending: all, where they are no more than `most`.

    Args:
        changes: shape (B, N), coarsely smoothed and weighted.
        lists: each spectrum's candidates; spectra of one list are sifted together.
        without_prior: shape (B,), whether each one's chemical prior is left out.
    """
    kept = [np.arange(len(one.entries)) for one in lists]
    rows_of: dict[int, list[int]] = {}
    for row, places in enumerate(kept):
        if places.size > most:
            rows_of.setdefault(id(lists[row]), []).append(row)
    if not rows_of:
        return kept
    starts = [(rows, at) for rows in rows_of.values() for at in range(0, len(rows), _SIFTED_AT_ONCE)]
    groups = [(lists[rows[0]], rows[at : at + _SIFTED_AT_ONCE]) for rows, at in starts]
    n, k = max(len(rows) for _, rows in groups), max(len(one.entries) for one, _ in groups)
    start = np.zeros((len(groups), n, k), dtype=np.float32)
    step = np.zeros((len(groups), k, k), dtype=np.float32)
    typical = [one.typical for one, _ in groups]
    overlaps = []
    changes = changes / np.maximum(np.linalg.norm(changes, axis=1, keepdims=True), np.float32(1e-6))
    for group, (one, rows) in enumerate(groups):
        overlaps.append(changes[rows] @ typical[group].T)
        size = len(one.entries)
        step[group, :size, :size], rate = one.sifting
        np.multiply(overlaps[-1], rate, out=start[group, : len(rows), :size])
    parts = descended(step, start, SIFTING_STEPS)
    for group, (one, rows) in enumerate(groups):
        fitted = parts[group, : len(rows), : len(one.entries)]
        score = promise(changes[rows], typical[group], overlaps[group], fitted)
        score += np.where(without_prior[rows, None], np.float32(0.0), one.log_prior)
        found = np.sort(torch.from_numpy(score).topk(most, dim=1, sorted=False).indices.numpy(), axis=1)
        for at, row in enumerate(rows):
            kept[row] = found[at]
    return kept


def together(
    changes: Floats,
    pristine: Floats,
    directions: Floats,
    lists: Sequence[Candidates],
    kept: Sequence[Places],
    flags: Floats,
) -> ComparerInputs:
    """The network's inputs of B spectra.

    Args:
        changes, pristine, directions: shapes (B, N), (B, N) and (B, 5, N), as in `ComparerInputs` and `Responses`.
        lists: each spectrum's candidates, at least one.
        kept: the places in its list of those that are read; they fill its row from the left.
        flags: shape (B, N_FLAGS).
    """
    sizes = [places.size for places in kept]
    b, k = len(lists), max(sizes)
    make = np.empty if min(sizes) == k else np.zeros
    first, about, log_prior = (make((b, *shape), dtype=np.float32) for shape in ((2, k, N_BINS), (k, N_ABOUT), (k,)))
    slots = np.full((b, k), -1)
    for row, (one, places, n) in enumerate(zip(lists, kept, sizes, strict=True)):
        np.take(one.first, places, axis=1, out=first[row, :, :n], mode="clip")
        read, prior = one.of_prior(not flags[row, 2])
        about[row, :n], log_prior[row, :n], slots[row, :n] = read[places], prior[places], one.slot[places]
    rows, at = np.nonzero(slots >= 0)
    slot = slots[rows, at].tolist()
    nodes = [lists[row].nodes[i] for row, i in zip(rows.tolist(), slot, strict=True)]
    concentrations = [lists[row].concentrations[i] for row, i in zip(rows.tolist(), slot, strict=True)]
    prepared = Prepared(
        torch.from_numpy(first),
        torch.from_numpy(rows),
        torch.from_numpy(at),
        torch.from_numpy(np.array(nodes, dtype=np.float32).reshape(-1, 3, 2, N_BINS)),
        torch.from_numpy(np.array(concentrations, dtype=np.float32).reshape(-1, 3)),
    )
    mask, none = torch.from_numpy(np.arange(k) < np.array(sizes)[:, None]), torch.empty(b, 0)
    responses = Responses(none, none, mask, torch.from_numpy(log_prior), prepared, torch.from_numpy(directions))
    change, density, known, said = (torch.from_numpy(array) for array in (changes, pristine, about, flags))
    return ComparerInputs(change, density, responses, known, said)
