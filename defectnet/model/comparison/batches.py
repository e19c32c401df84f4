"""Candidates' responses stacked into the network's inputs; and, of many candidates, the most promising few."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defectnet.model.comparison.axis import COARSE, N_BINS, weighted_smoothing
from defectnet.model.comparison.comparer import N_ABOUT, N_FLAGS, ComparerInputs
from defectnet.model.comparison.features import TYPICAL_AMOUNT, Prepared, Responses, response_at
from defectnet.model.comparison.fitting import least_squares
from defectnet.model.comparison.hosts import Entry

__all__ = [
    "MOST_CANDIDATES",
    "SIFTING_RIDGE",
    "SIFTING_STEPS",
    "flags_of",
    "most_promising",
    "on_device",
    "promise",
    "stacked",
    "typical",
    "unit",
]

# More candidates than these are sifted before the network sees them.
MOST_CANDIDATES = 36
# Of the least squares by which they are sifted.
SIFTING_STEPS, SIFTING_RIDGE = 30, 0.02
Floats = NDArray[np.float32]

_COARSE = weighted_smoothing(COARSE)


def flags_of(*, computed: bool, neutron: bool, prior: bool) -> NDArray[np.float32]:
    """What the network reads of a spectrum beside its curves, shape (N_FLAGS,).

    Args:
        computed: the reference is computed, or not of the sample's instrument.
        neutron: weighted by cross-sections over mass.
        prior: the chemical prior may be used.
    """
    flags = np.zeros(N_FLAGS, dtype=np.float32)
    flags[:3] = computed, neutron, not prior
    return flags


def stacked(
    changes: NDArray[np.float32],
    pristine: NDArray[np.float32],
    lists: Sequence[Sequence[Entry]],
    flags: NDArray[np.float32],
) -> ComparerInputs:
    """The network's inputs of B spectra; lists may differ in length.

    Args:
        changes, pristine: shape (B, N_BINS).
        lists: each spectrum's candidates.
        flags: shape (B, N_FLAGS); the third says that the prior is not used.
    """
    b, k = len(lists), max(1, *(len(entries) for entries in lists))
    stack = np.zeros((b, k, 3, N_BINS), dtype=np.float32)
    concentrations = np.zeros((b, k, 3), dtype=np.float32)
    about = np.zeros((b, k, N_ABOUT), dtype=np.float32)
    log_prior = np.zeros((b, k), dtype=np.float32)
    mask = np.zeros((b, k), dtype=bool)
    for row, entries in enumerate(lists):
        n = len(entries)
        if not n:
            continue
        stack[row, :n] = np.stack([entry.curves for entry in entries])
        concentrations[row, :n] = [entry.concentrations for entry in entries]
        about[row, :n] = [entry.about() for entry in entries]
        mask[row, :n] = True
        if flags[row, 2]:
            about[row, :n, :3] = 0.0
        else:
            log_prior[row, :n] = [entry.log_prior for entry in entries]
    curves, amounts, there, prior = (torch.from_numpy(array) for array in (stack, concentrations, mask, log_prior))
    first, second = (torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (changes, pristine))
    return ComparerInputs(
        first, second, Responses(curves, amounts, there, prior), torch.from_numpy(about), torch.from_numpy(flags)
    )


def on_device(given: ComparerInputs, device: torch.device) -> ComparerInputs:
    """The network's inputs where it computes."""
    if device.type == "cpu":
        return given
    r = given.responses
    curves, amounts, there, prior = (x.to(device) for x in (r.curves, r.concentrations, r.mask, r.log_prior))
    moved = Responses(curves, amounts, there, prior)
    if r.prepared is not None:
        moved = replace(moved, prepared=Prepared(*(tensor.to(device) for tensor in vars(r.prepared).values())))
    if r.directions is not None:
        moved = replace(moved, directions=r.directions.to(device))
    rest = {name: getattr(given, name).to(device) for name in ("change", "pristine", "about", "flags")}
    return ComparerInputs(responses=moved, **rest)


def most_promising(given: ComparerInputs, most: int = MOST_CANDIDATES) -> tuple[ComparerInputs, Tensor]:
    """Keep each spectrum's `most` candidates that explain its change best, alone or beside the others.

    Returns:
        the smaller inputs, and the places kept, shape (B, most).
    """
    mask = given.responses.mask
    b, k = mask.shape
    if k <= most:
        return given, torch.arange(k).expand(b, k)
    r = given.responses
    there = mask[:, None].numpy()
    seen = (unit(typical(r.curves, r.concentrations) @ _COARSE) * mask[..., None]).numpy()
    changes = unit(given.change[:, None] @ _COARSE).numpy()
    overlap = changes @ seen.mT
    parts = least_squares(seen @ seen.mT, overlap, there, SIFTING_STEPS, SIFTING_RIDGE)
    promised = promise(changes, seen, overlap, parts)[:, 0] + r.log_prior.numpy()
    score = torch.from_numpy(np.where(mask.numpy(), promised, np.float32(-1e9)))
    kept = score.topk(most, dim=1).indices

    def pick(values: Tensor) -> Tensor:
        index = kept.view(b, most, *[1] * (values.ndim - 2)).expand(b, most, *values.shape[2:])
        return values.gather(1, index)

    smaller = Responses(pick(r.curves), pick(r.concentrations), pick(r.mask), pick(r.log_prior))
    return given._replace(responses=smaller, about=pick(given.about)), kept


def typical(curves: Tensor, concentrations: Tensor) -> Tensor:
    """Responses (..., K, 3, N) at an amount of a few per cent, shape (..., K, N)."""
    return response_at(curves, concentrations, torch.full(concentrations.shape[:-1], TYPICAL_AMOUNT))


def unit(curves: Tensor) -> Tensor:
    """Curves (..., N) of unit norm."""
    return curves / curves.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def promise(changes: Floats, seen: Floats, overlap: Floats, parts: Floats) -> Floats:
    """How well each candidate explains a change, alone or beside the others, shape (..., n, K), its prior left out.

    Args:
        changes: shape (..., n, N), n changes that have one list, coarsely smoothed and of unit norm.
        seen: the candidates' `typical` responses, alike, shape (..., K, N).
        overlap: their products, shape (..., n, K).
        parts: the changes' parts by `least_squares`, shape (..., n, K).
    """
    rest = changes - parts @ seen
    left = np.maximum(np.square(rest).sum(axis=-1, keepdims=True), np.float32(0.01))
    alone = -6.0 * np.log1p(-np.minimum(np.square(np.maximum(overlap, 0.0)), np.float32(0.99)))
    beside = 6.0 * np.log1p(np.square(np.maximum(rest @ seen.swapaxes(-1, -2) + parts, 0.0)) / left)
    return np.asarray(np.maximum(alone, beside) + 4.0 * parts)
