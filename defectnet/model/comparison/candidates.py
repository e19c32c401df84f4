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

from defectnet.model.comparison.axis import N_BINS
from defectnet.model.comparison.batches import MOST_CANDIDATES, promise, typical, unit
from defectnet.model.comparison.comparer import SOURCES, ComparerInputs
from defectnet.model.comparison.features import Responses, smoothed
from defectnet.model.comparison.hosts import Entry, HostOnAxis, source_class
from defectnet.model.comparison.registration import Registration, smeared

__all__ = ["Candidates", "together"]

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Candidates:
    """What stands for a list of elements.

    Attributes:
        entries: those of one element lie side by side.
        missing: elements that were asked for and have no response.
        elements: those that have one, in the order of the entries.
        element: shape (K,), the place of each entry's element among `elements`.
        source: shape (K,), the place of each entry's class of source among `SOURCES`.
        smooth: shape (2, K, 3, N), responses as the instrument shows them, `smoothed`.
        concentrations, about, log_prior: shapes (K, 3), (K, N_ABOUT) and (K,), as in `ComparerInputs`.
    """

    entries: tuple[Entry, ...]
    missing: tuple[str, ...]
    elements: tuple[str, ...]
    element: Places
    source: Places
    smooth: Floats
    concentrations: Floats
    about: Floats
    log_prior: Floats

    @classmethod
    def of(cls, host: HostOnAxis, wanted: Sequence[str], registration: Registration) -> "Candidates":
        """The candidates for elements that are foreign to a host, by an instrument as it was registered."""
        entries = host.chosen(wanted)
        elements = tuple(dict.fromkeys(entry.element for entry in entries))
        curves = np.stack([entry.curves for entry in entries]) if entries else np.zeros((0, 3, N_BINS), np.float32)
        return cls(
            tuple(entries),
            tuple(element for element in wanted if element not in elements),
            elements,
            np.array([elements.index(entry.element) for entry in entries], dtype=np.int64),
            np.array([SOURCES.index(source_class(entry.source)) for entry in entries], dtype=np.int64),
            smoothed(torch.from_numpy(smeared(curves, registration))).numpy(),
            np.array([entry.concentrations for entry in entries], dtype=np.float32).reshape(-1, 3),
            np.array([entry.about() for entry in entries], dtype=np.float32),
            np.array([entry.log_prior for entry in entries], dtype=np.float32),
        )

    @cached_property
    def typical(self) -> tuple[Floats, Floats]:
        """Unit responses at a typical amount, shape (K, N), and their products, shape (K, K): more are sifted by it."""
        seen = unit(typical(torch.from_numpy(self.smooth[1]), torch.from_numpy(self.concentrations)))
        return seen.numpy(), (seen @ seen.T).numpy()

    def of_prior(self, used: bool) -> tuple[Floats, Floats]:
        """`about` and `log_prior` as they are read where the chemical prior is `used`, or is not."""
        if used:
            return self.about, self.log_prior
        about = self.about.copy()
        about[:, :3] = 0.0
        return about, np.zeros_like(self.log_prior)


def together(
    changes: Floats, pristine: Floats, lists: Sequence[Candidates], flags: Floats, most: int = MOST_CANDIDATES
) -> tuple[ComparerInputs, list[Places]]:
    """The network's inputs of B spectra, with the most promising candidates of each list.

    Args:
        changes, pristine: shape (B, N).
        lists: each spectrum's candidates, at least one.
        flags: shape (B, N_FLAGS).
        most: that a spectrum keeps.

    Returns:
        the inputs, and each spectrum's places in its list, ascending; they fill its row from the left.
    """
    kept = [np.arange(len(one.entries)) for one in lists]
    read = [one.of_prior(not without) for one, without in zip(lists, flags[:, 2], strict=True)]
    long = [row for row, places in enumerate(kept) if places.size > most]
    if long:
        priors = [read[row][1] for row in long]
        for row, places in zip(long, _sifted(changes[long], [lists[row] for row in long], priors, most), strict=True):
            kept[row] = places
    b, k = len(lists), max(places.size for places in kept)
    mask = np.arange(k) < np.array([[places.size] for places in kept])
    smooth = np.zeros((b, 2, k, *lists[0].smooth.shape[2:]), dtype=np.float32)
    for row, (one, places) in enumerate(zip(lists, kept, strict=True)):
        smooth[row, :, : places.size] = one.smooth[:, places]
    responses = Responses(
        torch.empty(b, 0),
        torch.from_numpy(_padded([one.concentrations[places] for one, places in zip(lists, kept, strict=True)], k)),
        torch.from_numpy(mask),
        torch.from_numpy(_padded([prior[places] for (_, prior), places in zip(read, kept, strict=True)], k)),
        torch.from_numpy(smooth),
    )
    about = torch.from_numpy(_padded([about[places] for (about, _), places in zip(read, kept, strict=True)], k))
    first, second, third = (torch.from_numpy(array) for array in (changes, pristine, flags))
    return ComparerInputs(first, second, responses, about, third), kept


def _sifted(changes: Floats, lists: Sequence[Candidates], log_priors: Sequence[Floats], most: int) -> Places:
    """The places of each list's most promising candidates, ascending, shape (B, most); each list is longer."""
    k = max(len(one.entries) for one in lists)
    mask = np.arange(k) < np.array([[len(one.entries)] for one in lists])
    seen = _padded([one.typical[0] for one in lists], k)
    products = np.zeros((len(lists), k, k), dtype=np.float32)
    for row, one in enumerate(lists):
        n = len(one.entries)
        products[row, :n, :n] = one.typical[1]
    tensors = (torch.from_numpy(array) for array in (changes, seen, products, mask, _padded(log_priors, k)))
    return np.sort(promise(*tensors).topk(most, dim=1).indices.numpy(), axis=1)


def _padded(rows: Sequence[Floats], k: int) -> Floats:
    """Arrays (n, ...) stacked, each filled up with zeros to `k`."""
    stack = np.zeros((len(rows), k, *rows[0].shape[1:]), dtype=np.float32)
    for place, row in enumerate(rows):
        stack[place, : len(row)] = row
    return stack
