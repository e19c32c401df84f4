"""What is computed of a measured change and of candidates' responses before anything learned sees them.

The change is decomposed into responses three times: finely and coarsely smoothed, and finely with everything projected
out that a wrong axis or width of the reference could make. Each time the candidates' amounts follow from non-negative
least squares of all together, and from a greedy choice of one after the other.

Shapes: B spectra, K candidates, N bins, V = 3 views.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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
]

_STEPS = 5  # of the greedy choice
N_VIEWS = 3
N_ENTRY_FEATURES = 2 * _STEPS * N_VIEWS + 4 * N_VIEWS
N_GLOBAL_FEATURES = 4 * N_VIEWS + 3
_FIRST_AMOUNT = 0.04
_LEAST_AMOUNT, _MOST_AMOUNT = 0.002, 0.3
_RIDGE = 0.01
# Independent points of a smoothed curve, for the greedy choice.
_INDEPENDENT = 30.0
_FINE, _COARSE = weighted_smoothing(FINE), weighted_smoothing(COARSE)
_AXIS = torch.tensor(CENTRES, dtype=torch.float32)
_WITHIN = _AXIS.clamp(max=EVEN_TO)


@dataclass(frozen=True, eq=False)
class Responses:
    """Candidates' responses.

    Attributes:
        curves: shape (B, K, 3, N), change for each unit of concentration at three concentrations.
        concentrations: shape (B, K, 3), fractions of all atoms, ascending; equal where there is one response only.
        mask: shape (B, K), bool: whether there is a candidate at this place.
        log_prior: shape (B, K), natural log of each one's weight before the spectrum, 0 where unknown.
    """

    curves: Tensor
    concentrations: Tensor
    mask: Tensor
    log_prior: Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """What the network reads.

    Attributes:
        entry: shape (B, K, N_ENTRY_FEATURES).
        whole: shape (B, N_GLOBAL_FEATURES), of the spectrum as a whole.
        likeness: shape (B, V, K, K), cosines between responses.
        log_amount: shape (B, K), natural log of the amount by least squares, fraction of all atoms.
        curves: shape (B, K, 5, N): the change, the response, what all leave, what this one explains, what it alone
            leaves; over the change's norm.
    """

    entry: Tensor
    whole: Tensor
    likeness: Tensor
    log_amount: Tensor
    curves: Tensor


def response_at(curves: Tensor, concentrations: Tensor, amounts: Tensor) -> Tensor:
    """Responses (B, K, N) at `amounts` (B, K), interpolated between the three concentrations and held beyond."""
    low, high = concentrations[..., :-1], concentrations[..., 1:]
    part = ((amounts.clamp(min=0)[..., None] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    weights = torch.stack([1 - part[..., 0], part[..., 0] - part[..., 1], part[..., 1]], dim=-1)
    return (weights[..., None] * curves).sum(dim=2)


def compute_features(change: Tensor, pristine: Tensor, given: Responses) -> Features:
    """The features of B changes, shape (B, N), of hosts whose pristine densities are `pristine`, shape (B, N)."""
    mask = given.mask
    to_fine, to_coarse = _FINE.to(change.device), _COARSE.to(change.device)
    nuisance = _orthonormal(_axis_errors(pristine) @ to_fine)
    fine, coarse = change @ to_fine, change @ to_coarse
    views = torch.stack([fine, coarse, _without(fine[:, None], nuisance)[:, 0]], dim=1)  # (B, V, N)
    sizes = views.norm(dim=-1).clamp(min=1e-6)  # (B, V)
    unit = views / sizes[..., None]
    amounts = change.new_full(mask.shape, _FIRST_AMOUNT)
    for last in (False, True):
        curves = response_at(given.curves, given.concentrations, amounts)
        finely = curves @ to_fine
        seen = torch.stack([finely, curves @ to_coarse, _without(finely, nuisance)], dim=1)  # (B, V, K, N)
        norms = seen.norm(dim=-1).clamp(min=1e-6)  # (B, V, K)
        seen = seen / norms[..., None] * mask[:, None, :, None]
        likeness = seen @ seen.transpose(2, 3)
        overlap = (seen @ unit[..., None])[..., 0]  # (B, V, K)
        ridge = _RIDGE * torch.eye(mask.shape[1], device=mask.device)
        parts = least_squares(likeness + ridge, overlap, mask[:, None], 40 if last else 15)
        joint, alone = (x * sizes[..., None] / norms for x in (parts, overlap))
        if not last:
            fitted = (0.5 * (joint[:, 0] + joint[:, 2])).clamp(_LEAST_AMOUNT, _MOST_AMOUNT)
            single = alone[:, 0].clamp(_LEAST_AMOUNT, 0.1)
            amounts = torch.where(parts[:, 0] + parts[:, 2] > 1e-3, fitted, single)
    partial, chosen, left = _greedy(likeness, overlap, mask, given.log_prior)
    rest = unit - (parts[..., None] * seen).sum(dim=2)  # (B, V, N)
    unexplained = rest.square().sum(dim=-1)
    entry = [*partial, chosen, *(_rows(x) for x in (parts, _log(joint), _log(alone), norms.log()))]
    count = mask.sum(dim=1, keepdim=True).float().clamp(min=1).log()
    whole = [sizes.log(), unexplained, unexplained.clamp(min=1e-4).log(), left.clamp(min=0)]
    whole += [(sizes[:, 2:] / sizes[:, :1]).log(), pristine.norm(dim=1, keepdim=True).log(), count]
    fitted = 0.5 * (joint[:, 0] + joint[:, 2])
    amount = torch.where(parts[:, 0] + parts[:, 2] > 2e-3, fitted, alone[:, 0].clamp(min=1e-3)).clamp(1.5e-3, 0.35)
    first, response, all_left = (x[:, 0] for x in (unit, seen, rest))
    drawn = [
        first[:, None].expand_as(response),
        response,
        all_left[:, None].expand_as(response),
        parts[:, 0, :, None] * response,
        first[:, None] - overlap[:, 0, :, None] * response,
    ]
    return Features(
        torch.cat(entry, dim=-1), torch.cat(whole, dim=-1), likeness, amount.log(), torch.stack(drawn, dim=2)
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
    rate = 1.0 / (bound[..., None] + 1e-3)
    x = y = torch.zeros_like(overlap)
    momentum = 1.0
    for _ in range(steps):
        new = torch.relu(y - ((gram @ y[..., None])[..., 0] - overlap) * rate) * mask
        grown = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum))
        y = new + ((momentum - 1.0) / grown) * (new - x)
        x, momentum = new, grown
    return x


def _greedy(likeness: Tensor, overlap: Tensor, mask: Tensor, log_prior: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
    """Candidates one after the other, each time whoever explains most of what is left, with its prior.

    Returns:
        for each step the partial cosines (B, K, V); who was chosen when, (B, K, V * steps); the share left, (B, V).
    """
    b, k = mask.shape
    gram = likeness + 1e-4 * torch.eye(k, device=mask.device)
    left, free = likeness.new_ones(b, N_VIEWS), mask[:, None].expand(b, N_VIEWS, k).clone()
    chosen = likeness.new_zeros(b, N_VIEWS, k, _STEPS)
    partial = []
    for step in range(_STEPS):
        norms = gram.diagonal(dim1=2, dim2=3).clamp(min=1e-3)
        cosine = overlap / (norms * left[..., None].clamp(min=1e-3)).sqrt() * free
        partial.append(_rows(cosine.clamp(-1, 1)))
        gain = -0.5 * _INDEPENDENT * torch.log1p(-torch.relu(cosine).square().clamp(max=0.995))
        best = torch.where(free, gain + log_prior[:, None], torch.full_like(gain, -1e9)).argmax(dim=-1, keepdim=True)
        counts = (cosine.gather(2, best) > 0.02).float()  # (B, V, 1)
        chosen[..., step].scatter_(2, best, counts)
        column = gram.gather(3, best[..., None].expand(b, N_VIEWS, k, 1))[..., 0]
        pivot = column.gather(2, best).clamp(min=1e-3)
        share = overlap.gather(2, best)
        gram = gram - counts[..., None] * column[..., None] * column[..., None, :] / pivot[..., None]
        left = left - (counts * share.square() / pivot)[..., 0]
        overlap = overlap - counts * column * share / pivot
        free = free & ~(F.one_hot(best[..., 0], k).bool() & (counts > 0))
    return partial, chosen.permute(0, 2, 1, 3).reshape(b, k, N_VIEWS * _STEPS), left
