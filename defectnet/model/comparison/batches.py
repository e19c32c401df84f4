"""Candidates' responses stacked into the network's inputs; and, of many candidates, the most promising few."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defectnet.model.comparison.axis import COARSE, N_BINS, weighted_smoothing
from defectnet.model.comparison.comparer import N_ABOUT, N_FLAGS, ComparerInputs
from defectnet.model.comparison.features import Responses, least_squares, response_at
from defectnet.model.comparison.hosts import Entry

__all__ = ["MOST_CANDIDATES", "flags_of", "most_promising", "on_device", "promise", "stacked", "typical", "unit"]

# More candidates than these are sifted before the network sees them.
MOST_CANDIDATES = 36
_TYPICAL_AMOUNT = 0.04
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
    tensors = (torch.from_numpy(array) for array in (stack, concentrations, mask, log_prior))
    first, second = (torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)) for array in (changes, pristine))
    return ComparerInputs(first, second, Responses(*tensors), torch.from_numpy(about), torch.from_numpy(flags))


def on_device(given: ComparerInputs, device: torch.device) -> ComparerInputs:
    """The network's inputs where it computes."""
    if device.type == "cpu":
        return given
    r = given.responses
    moved = Responses(*(tensor.to(device) for tensor in (r.curves, r.concentrations, r.mask, r.log_prior)))
    if r.smooth is not None:
        moved = replace(moved, smooth=r.smooth.to(device))
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
    seen = unit(typical(r.curves, r.concentrations) @ _COARSE) * mask[..., None]
    score = promise(given.change, seen, seen @ seen.transpose(1, 2), mask, r.log_prior)
    kept = score.topk(most, dim=1).indices

    def pick(values: Tensor) -> Tensor:
        index = kept.view(b, most, *[1] * (values.ndim - 2)).expand(b, most, *values.shape[2:])
        return values.gather(1, index)

    smaller = Responses(pick(r.curves), pick(r.concentrations), pick(r.mask), pick(r.log_prior))
    return given._replace(responses=smaller, about=pick(given.about)), kept


def typical(curves: Tensor, concentrations: Tensor) -> Tensor:
    """Responses (..., K, 3, N) at an amount of a few per cent, shape (..., K, N)."""
    return response_at(curves, concentrations, torch.full(concentrations.shape[:-1], _TYPICAL_AMOUNT))


def unit(curves: Tensor) -> Tensor:
    """Curves (..., N) of unit norm."""
    return curves / curves.norm(dim=-1, keepdim=True).clamp(min=1e-6)


def promise(change: Tensor, seen: Tensor, products: Tensor, mask: Tensor, log_prior: Tensor) -> Tensor:
    """How well each candidate explains a change, alone or beside the others, shape (B, K); least outside the mask.

    Args:
        change: shape (B, N).
        seen, products: the candidates' `typical` responses, coarsely smoothed and of unit norm, shape (B, K, N), and
            their products, shape (B, K, K).
        mask, log_prior: as in `Responses`.
    """
    change = unit(change @ _COARSE)
    overlap = (seen @ change[..., None])[..., 0]
    gram = products + 0.02 * torch.eye(mask.shape[1])
    parts = least_squares(gram[:, None], overlap[:, None], mask[:, None], 30)[:, 0]
    rest = change - (parts[:, None] @ seen)[:, 0]
    left = rest.square().sum(dim=1, keepdim=True).clamp(min=0.01)
    alone = -6.0 * torch.log1p(-torch.relu(overlap).square().clamp(max=0.99))
    beside = 6.0 * torch.log1p(torch.relu((seen @ rest[..., None])[..., 0] + parts).square() / left)
    score = torch.maximum(alone, beside) + log_prior + 4.0 * parts
    return score.masked_fill(~mask, -1e9)
