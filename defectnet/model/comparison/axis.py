"""The axis on which a measured change and computed responses are compared: frequency over the host's highest.

On it all hosts look alike: bands end near 1, local modes lie above. Bins are even up to 1.2 and widen from there to 4.
Curves are densities for each unit of this axis; sums over bins are weighted by the bins' widths.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import Tensor

from defectnet.spectrum import MODES_PER_ATOM

__all__ = [
    "CENTRES",
    "COARSE",
    "EDGES",
    "EVEN_TO",
    "FINE",
    "LEAST_SMEARING",
    "N_BINS",
    "WIDTHS",
    "derivative",
    "moved_share",
    "on_axis",
    "smearing",
    "smoothing",
    "top_of",
    "weighted_smoothing",
]

Array = NDArray[np.float64]

# Local modes lie beyond the end of the even bins; what bends an axis is held there.
EVEN_TO = 1.2
_N_EVEN, _N_WIDENING, _LAST = 144, 32, 4.0
EDGES: Array = np.concatenate(
    [np.linspace(0.0, EVEN_TO, _N_EVEN + 1), np.geomspace(EVEN_TO, _LAST, _N_WIDENING + 1)[1:]]
)
N_BINS = EDGES.size - 1
WIDTHS: Array = np.diff(EDGES)
CENTRES: Array = 0.5 * (EDGES[1:] + EDGES[:-1])
# Gaussian widths (sigma) under which changes are compared: about 3 and 8 of the simulator's bins. Under the second, two
# random configurations of one alloy agree to some 3 % of the change's square.
FINE, COARSE = 0.012, 0.03
# No resolution (sigma) is narrower: a third of a bin.
LEAST_SMEARING = 0.003
# Share of the modes that may lie above the host's "highest" frequency.
_ABOVE_TOP = 0.002


def top_of(dos: Array, step_thz: float) -> float:
    """The host's highest frequency, THz: all but 0.2 % of the modes of `dos`, shape (m,), lie below."""
    modes = np.cumsum(np.maximum(dos, 0.0))
    return float((np.searchsorted(modes, (1.0 - _ABOVE_TOP) * modes[-1]) + 1) * step_thz)


def on_axis(density: Array, step_thz: float, top_thz: float) -> Array:
    """Densities on bins of `step_thz` from 0 THz, shape (..., m), as means over the axis' bins, shape (..., N_BINS).

    The integral is kept.
    """
    n = density.shape[-1]
    modes = np.zeros((*density.shape[:-1], n + 1))
    np.cumsum(density, axis=-1, out=modes[..., 1:])
    places = np.minimum(EDGES * (top_thz / step_thz), n)
    below = np.minimum(places.astype(int), n - 1)
    part = places - below
    at_edges = modes[..., below] * (1.0 - part) + modes[..., below + 1] * part
    return np.asarray(np.diff(at_edges, axis=-1) * (step_thz / WIDTHS))


@cache
def smoothing(sigma: float) -> Tensor:
    """Shape (N, N): `curve @ smoothing(sigma)` is smoothed by a Gaussian, reflected at 0."""
    at = CENTRES[:, None]
    matrix = np.diff(ndtr((EDGES[None, :] - at) / sigma), axis=1)
    matrix += np.diff(ndtr((-EDGES[None, ::-1] - at) / sigma), axis=1)[:, ::-1]
    return torch.tensor(matrix.T.copy(), dtype=torch.float32)


@cache
def weighted_smoothing(sigma: float) -> Tensor:
    """`smoothing` whose results are also weighted, so that their plain products are integrals over the axis."""
    return smoothing(sigma) * torch.tensor(WIDTHS, dtype=torch.float32).sqrt()


def moved_share(seen: Array) -> Array:
    """The share of the modes that lie elsewhere, 0 … 1, of changes (..., N) under `weighted_smoothing`: shape (...)."""
    return np.asarray(np.clip(0.5 * np.abs(seen) @ np.sqrt(WIDTHS) / MODES_PER_ATOM, 0.0, 1.0))


def smearing(width: float, constant: float = 0.0) -> Tensor:
    """Shape (N, N): `density @ smearing(...)` is seen with a resolution (sigma) of `constant` + `width` · u."""
    sigma = np.maximum(constant + width * CENTRES, LEAST_SMEARING)[:, None]
    shares = np.diff(ndtr((EDGES[None, :] - CENTRES[:, None]) / sigma), axis=1)
    return torch.tensor(shares * WIDTHS[:, None] / WIDTHS[None, :], dtype=torch.float32)


@cache
def derivative() -> Tensor:
    """Shape (N, N): `curve @ derivative()` is its slope by central differences."""
    matrix = np.zeros((N_BINS, N_BINS))
    for i in range(N_BINS):
        a, b = max(i - 1, 0), min(i + 1, N_BINS - 1)
        matrix[i, a] -= 1.0 / (CENTRES[b] - CENTRES[a])
        matrix[i, b] += 1.0 / (CENTRES[b] - CENTRES[a])
    return torch.tensor(matrix.T.copy(), dtype=torch.float32)
