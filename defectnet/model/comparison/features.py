"""What is computed of a measured change and of candidates' responses before anything learned sees them.

The change is decomposed into responses three times: finely and coarsely smoothed, and finely with everything projected
out that a wrong axis or width of the reference could make. Each time the candidates' amounts follow from non-negative
least squares of all together, and from a greedy choice of one after the other.

Shapes: B spectra, K candidates, N bins, V = 3 views.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defectnet.model.comparison.axis import CENTRES, COARSE, EVEN_TO, FINE, derivative, smoothing, weighted_smoothing

__all__ = [
    "N_ENTRY_FEATURES",
    "N_GLOBAL_FEATURES",
    "N_VIEWS",
    "Features",
    "Responses",
    "compute_features",
    "least_squares",
    "response_at",
    "smoothed",
]

Floats = NDArray[np.float32]

_STEPS = 5  # of the greedy choice
N_VIEWS = 3
N_ENTRY_FEATURES = 2 * _STEPS * N_VIEWS + 4 * N_VIEWS
N_GLOBAL_FEATURES = 4 * N_VIEWS + 3
_FIRST_AMOUNT = 0.04
_LEAST_AMOUNT, _MOST_AMOUNT = 0.002, 0.3
_RIDGE = 0.01
# Independent points of a smoothed curve, for the greedy choice.
_INDEPENDENT = 30.0
# Added to the squares of responses, so that one may follow its equal.
_JITTER = 1e-4
_FINE, _COARSE = weighted_smoothing(FINE), weighted_smoothing(COARSE)
_AXIS = torch.tensor(CENTRES, dtype=torch.float32)
_WITHIN = _AXIS.clamp(max=EVEN_TO)


@dataclass(frozen=True, eq=False)
class Responses:
    """Candidates' responses.

    Attributes:
        curves: shape (B, K, 3, N), change for each unit of concentration at three concentrations; empty where `smooth`
            is given.
        concentrations: shape (B, K, 3), fractions of all atoms, ascending; equal where there is one response only.
        mask: shape (B, K), bool: whether there is a candidate at this place.
        log_prior: shape (B, K), natural log of each one's weight before the spectrum, 0 where unknown.
        smooth: shape (B, 2, K, 3, N), the curves `smoothed`, where that was done before.
    """

    curves: Tensor
    concentrations: Tensor
    mask: Tensor
    log_prior: Tensor
    smooth: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Features:
    """What the network reads.

    Attributes:
        entry: shape (B, K, N_ENTRY_FEATURES).
        whole: shape (B, N_GLOBAL_FEATURES), of the spectrum as a whole.
        likeness: shape (B, V, K, K), cosines between responses.
        log_amount: shape (B, K), natural log of the amount by least squares, fraction of all atoms.
        change, left: shape (B, N), the change and what all leave of it, over the change's norm, finely smoothed.
        response: shape (B, K, N), of unit norm, finely smoothed.
        part, alone: shape (B, K), how much of its response is in the change beside the others, and alone.
    """

    entry: Tensor
    whole: Tensor
    likeness: Tensor
    log_amount: Tensor
    change: Tensor
    left: Tensor
    response: Tensor
    part: Tensor
    alone: Tensor


def smoothed(curves: Tensor) -> Tensor:
    """Responses (..., K, 3, N) finely and coarsely smoothed and weighted, shape (..., 2, K, 3, N)."""
    return torch.stack([curves @ view.to(curves.device) for view in (_FINE, _COARSE)], dim=-4)


def response_at(curves: Tensor, concentrations: Tensor, amounts: Tensor) -> Tensor:
    """Responses (..., K, N) at `amounts` (..., K), interpolated between the three concentrations and held beyond."""
    low, high = concentrations[..., :-1], concentrations[..., 1:]
    part = ((amounts.clamp(min=0)[..., None] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    weights = torch.stack([1 - part[..., 0], part[..., 0] - part[..., 1], part[..., 1]], dim=-1)
    return (weights[..., None, :] @ curves)[..., 0, :]


def compute_features(change: Tensor, pristine: Tensor, given: Responses) -> Features:
    """The features of B changes, shape (B, N), of hosts whose pristine densities are `pristine`, shape (B, N)."""
    mask = given.mask
    to_fine, to_coarse = _FINE.to(change.device), _COARSE.to(change.device)
    nuisance = _orthonormal(_axis_errors(pristine) @ to_fine)
    fine, coarse = change @ to_fine, change @ to_coarse
    views = torch.stack([fine, coarse, _without(fine[:, None], nuisance)[:, 0]], dim=1)  # (B, V, N)
    sizes = views.norm(dim=-1).clamp(min=1e-6)  # (B, V)
    unit = views / sizes[..., None]
    # Smoothing and reading between concentrations are both linear: smoothed first, curves may be used again.
    smooth = smoothed(given.curves) if given.smooth is None else given.smooth
    ridge = _RIDGE * torch.eye(mask.shape[1], device=mask.device)
    amounts = change.new_full(mask.shape, _FIRST_AMOUNT)
    for last in (False, True):
        both = response_at(smooth, given.concentrations[:, None], amounts[:, None])  # (B, 2, K, N)
        seen = torch.cat([both, _without(both[:, 0], nuisance)[:, None]], dim=1)  # (B, V, K, N)
        norms = seen.norm(dim=-1).clamp(min=1e-6)  # (B, V, K)
        seen *= (mask[:, None] / norms)[..., None]
        likeness = seen @ seen.transpose(2, 3)
        overlap = (seen @ unit[..., None])[..., 0]  # (B, V, K)
        parts = least_squares(likeness + ridge, overlap, mask[:, None], 40 if last else 15)
        joint, alone = (x * sizes[..., None] / norms for x in (parts, overlap))
        if not last:
            fitted = (0.5 * (joint[:, 0] + joint[:, 2])).clamp(_LEAST_AMOUNT, _MOST_AMOUNT)
            single = alone[:, 0].clamp(_LEAST_AMOUNT, 0.1)
            amounts = torch.where(parts[:, 0] + parts[:, 2] > 1e-3, fitted, single)
    partial, chosen, left = _greedy(likeness, overlap, mask, given.log_prior)
    rest = unit - (parts[..., None, :] @ seen)[..., 0, :]  # (B, V, N)
    unexplained = rest.square().sum(dim=-1)
    entry = [*partial, chosen, *(_rows(x) for x in (parts, _log(joint), _log(alone), norms.log()))]
    count = mask.sum(dim=1, keepdim=True).float().clamp(min=1).log()
    whole = [sizes.log(), unexplained, unexplained.clamp(min=1e-4).log(), left.clamp(min=0)]
    whole += [(sizes[:, 2:] / sizes[:, :1]).log(), pristine.norm(dim=1, keepdim=True).log(), count]
    fitted = 0.5 * (joint[:, 0] + joint[:, 2])
    amount = torch.where(parts[:, 0] + parts[:, 2] > 2e-3, fitted, alone[:, 0].clamp(min=1e-3)).clamp(1.5e-3, 0.35)
    return Features(
        entry=torch.cat(entry, dim=-1),
        whole=torch.cat(whole, dim=-1),
        likeness=likeness,
        log_amount=amount.log(),
        change=unit[:, 0],
        left=rest[:, 0],
        response=seen[:, 0],
        part=parts[:, 0],
        alone=overlap[:, 0],
    )


def _rows(values: Tensor) -> Tensor:
    return values.transpose(1, 2)


def _log(amounts: Tensor) -> Tensor:
    return amounts.clamp(min=3e-4).log() + 4.0


def _axis_errors(pristine: Tensor) -> Tensor:
    """Changes (B, 5, N) that a stretched, bent or shifted axis and another width would make."""
    axis, within, slope = (values.to(pristine.device) for values in (_AXIS, _WITHIN, derivative()))
    smooth = pristine @ smoothing(0.006).to(pristine.device)
    bends = [axis, axis * (math.pi * within).sin(), axis * (2 * math.pi * within).sin(), torch.ones_like(axis)]
    errors = [-(bend * smooth) @ slope for bend in bends]
    return torch.stack([*errors, (axis.square() * smooth) @ slope @ slope], dim=1)


def _orthonormal(rows: Tensor) -> Tensor:
    gram = rows @ rows.transpose(1, 2)
    scale = 1e-3 * gram.diagonal(dim1=1, dim2=2).mean(dim=-1)[:, None, None] + 1e-9
    lower = torch.linalg.cholesky(gram + scale * torch.eye(rows.shape[1], device=rows.device))
    return torch.linalg.solve_triangular(lower, rows, upper=False)


def _without(curves: Tensor, directions: Tensor) -> Tensor:
    return curves - (curves @ directions.transpose(1, 2)) @ directions


def least_squares(gram: Tensor, overlap: Tensor, mask: Tensor, steps: int) -> Tensor:
    """min ½ xᵀ G x − qᵀ x with x ≥ 0 by accelerated projected gradients; G (B, V, K, K) has a diagonal near 1."""
    both = gram * mask[..., None, :] * mask[..., :, None]
    bound = torch.minimum(both.abs().sum(dim=-1).amax(dim=-1), both.square().sum(dim=(-1, -2)).sqrt())
    rate = mask / (bound[..., None] + 1e-3)  # 0 keeps what is masked at 0
    if gram.device.type == "cpu":
        return torch.from_numpy(_descended(gram.numpy(), overlap.numpy(), rate.numpy(), steps))
    x = y = torch.zeros_like(overlap)
    for ahead in _momenta(steps):
        new = torch.relu(y - ((gram @ y[..., None])[..., 0] - overlap) * rate)
        x, y = new, new + ahead * (new - x)
    return x


def _descended(gram: Floats, overlap: Floats, rate: Floats, steps: int) -> Floats:
    """The steps of `least_squares` in numpy, whose many small products take a fifth of torch's time on a CPU."""
    x = y = np.zeros_like(overlap)
    for ahead in _momenta(steps):
        slope = (y[..., None, :] @ gram)[..., 0, :]  # the matrix is symmetric
        slope -= overlap
        slope *= rate
        new = np.maximum(y - slope, 0.0)
        x, y = new, new + np.float32(ahead) * (new - x)
    return x


@cache
def _momenta(steps: int) -> tuple[float, ...]:
    """How far each accelerated step looks ahead (Nesterov's sequence)."""
    found, momentum = [], 1.0
    for _ in range(steps):
        grown = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum))
        found.append((momentum - 1.0) / grown)
        momentum = grown
    return tuple(found)


def _greedy(likeness: Tensor, overlap: Tensor, mask: Tensor, log_prior: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Candidates one after the other, each time whoever explains most of what is left, with its prior.

    What is left of the responses' products after some were chosen is never formed: of it the diagonal and the chosen
    ones' columns are enough (Cholesky's, with pivots).

    Returns:
        for each step the partial cosines (B, K, V); who was chosen when, (B, K, V * steps); the share left, (B, V).
    """
    b, k = mask.shape
    diagonal = likeness.diagonal(dim1=2, dim2=3) + _JITTER  # (B, V, K)
    left, free = likeness.new_ones(b, N_VIEWS, 1), mask[:, None].expand(b, N_VIEWS, k)
    chosen = likeness.new_zeros(b, N_VIEWS, k, _STEPS)
    partial: list[Tensor] = []
    columns: list[Tensor] = []
    for step in range(_STEPS):
        cosine = overlap / (diagonal.clamp(min=1e-3) * left.clamp(min=1e-3)).sqrt() * free
        partial.append(_rows(cosine.clamp(-1, 1)))
        gain = -0.5 * _INDEPENDENT * torch.log1p(-torch.relu(cosine).square().clamp(max=0.995))
        best = (gain + log_prior[:, None]).masked_fill(~free, -1e9).argmax(dim=-1, keepdim=True)
        taken = (cosine.gather(2, best) > 0.02).float()  # (B, V, 1)
        counts = torch.zeros_like(cosine).scatter_(2, best, taken)
        chosen[..., step] = counts
        column = likeness.gather(2, best[..., None].expand(b, N_VIEWS, 1, k))[:, :, 0] + _JITTER * counts
        for former in columns:
            column = column - former * former.gather(2, best)
        root = column.gather(2, best).clamp(min=1e-3).sqrt()
        share = taken * overlap.gather(2, best) / root
        column = taken * column / root
        columns.append(column)
        diagonal, left, overlap = diagonal - column.square(), left - share.square(), overlap - column * share
        free = free & (counts == 0)
    return partial, chosen.permute(0, 2, 1, 3).reshape(b, k, N_VIEWS * _STEPS), left[..., 0]
