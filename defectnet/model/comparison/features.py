"""What is computed of a measured change and of candidates' responses before anything learned sees them.

The change is decomposed into responses three times: finely and coarsely smoothed, and finely with everything projected
out that a wrong axis or width of the reference could make. Each time the candidates' amounts follow from non-negative
least squares of all together, and from a greedy choice of one after the other (`fitting`).

Shapes: B spectra, K candidates, N bins, V = 3 views.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defectnet.model.comparison.axis import (
    CENTRES,
    COARSE,
    EVEN_TO,
    FINE,
    N_BINS,
    WIDTHS,
    derivative,
    smoothing,
    weighted_smoothing,
)
from defectnet.model.comparison.fitting import STEPS, greedy, least_squares

__all__ = [
    "FEW",
    "N_ENTRY_FEATURES",
    "N_GLOBAL_FEATURES",
    "N_VIEWS",
    "TYPICAL_AMOUNT",
    "Features",
    "Prepared",
    "Responses",
    "axis_directions",
    "between",
    "coarse_directions",
    "compute_features",
    "first_responses",
    "quick_features",
    "response_at",
    "smoothed",
    "without",
]

# Arrays of numpy on a CPU, tensors of torch elsewhere: what is done with them here is written alike for both.
Numbers = Any

N_VIEWS = 3
N_ENTRY_FEATURES = 2 * STEPS * N_VIEWS + 4 * N_VIEWS
N_GLOBAL_FEATURES = 4 * N_VIEWS + 3
# At this amount responses are read first.
TYPICAL_AMOUNT = 0.04
_LEAST_AMOUNT, _MOST_AMOUNT = 0.002, 0.3
# Steps of least squares: for the amounts at which responses are read, and for what is said of the change.
_FIRST_FIT, _LAST_FIT = 15, 40
_RIDGE = 0.01
# So few changes numpy smooths sooner than torch.
FEW = 4
_FINE, _COARSE = weighted_smoothing(FINE), weighted_smoothing(COARSE)
# From weighted curves to coarsely smoothed ones.
_AGAIN = (_COARSE / torch.from_numpy(np.sqrt(WIDTHS))[:, None]).float().numpy()
_BOTH = torch.cat([_FINE, _COARSE], dim=1)
_AXIS = torch.tensor(CENTRES, dtype=torch.float32)
_WITHIN = _AXIS.clamp(max=EVEN_TO)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Responses smoothed before, and read at the first amount: what no spectrum changes.

    Attributes:
        first: shape (B, 2, K, N), `first_responses`; 0 outside the mask.
        row, place: shape (n,), where those candidates stand whose response hangs on the amount.
        nodes: shape (n, 3, 2, N), their smoothed responses at three concentrations.
        concentrations: shape (n, 3), ascending; see `Responses`.
    """

    first: Numbers
    row: Numbers
    place: Numbers
    nodes: Numbers
    concentrations: Numbers

    @property
    def varies(self) -> bool:
        """Whether some response hangs on the amount."""
        return len(self.row) > 0

    def at(self, amounts: Numbers) -> Numbers:
        """All responses at `amounts`, shape (B, K), as `first` is."""
        there = 1 * self.first
        there[self.row, :, self.place] = between(self.nodes, self.concentrations, amounts[self.row, self.place])
        return there


@dataclass(frozen=True, eq=False)
class _Raw:
    """Responses smoothed just now, (B, 2, K, 3, N), each of which may hang on the amount; as `Prepared`."""

    smooth: Tensor
    concentrations: Tensor
    varies: bool = True

    @property
    def first(self) -> Numbers:
        return _alike(first_responses(self.smooth, self.concentrations))

    def at(self, amounts: Numbers) -> Numbers:
        # Smoothing and reading between concentrations are both linear: smoothed once, curves are read twice.
        return _alike(response_at(self.smooth, self.concentrations[:, None], torch.as_tensor(amounts)[:, None]))


@dataclass(frozen=True, eq=False)
class Responses:
    """Candidates' responses.

    Attributes:
        curves: shape (B, K, 3, N), change for each unit of concentration at three concentrations; empty where they
            are `prepared`.
        concentrations: shape (B, K, 3), fractions of all atoms, ascending; equal where there is one response only.
        mask: shape (B, K), bool: whether there is a candidate at this place.
        log_prior: shape (B, K), natural log of each one's weight before the spectrum, 0 where unknown.
        prepared: the curves smoothed, where that was done before.
        directions: shape (B, 5, N), the pristine densities' `axis_directions`, where they are known.
    """

    curves: Tensor
    concentrations: Tensor
    mask: Tensor
    log_prior: Tensor
    prepared: Prepared | None = None
    directions: Tensor | None = None


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

    entry: Numbers
    whole: Numbers
    likeness: Numbers
    log_amount: Numbers
    change: Numbers
    left: Numbers
    response: Numbers
    part: Numbers
    alone: Numbers


def smoothed(curves: Tensor) -> Tensor:
    """Responses (..., K, 3, N) finely and coarsely smoothed and weighted, shape (..., 2, K, 3, N)."""
    return torch.stack([curves @ view.to(curves.device) for view in (_FINE, _COARSE)], dim=-4)


def response_at(curves: Tensor, concentrations: Tensor, amounts: Tensor) -> Tensor:
    """Responses (..., K, N) at `amounts` (..., K), interpolated between the three concentrations and held beyond."""
    low, high = concentrations[..., :-1], concentrations[..., 1:]
    part = ((amounts.clamp(min=0)[..., None] - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    weights = torch.stack([1 - part[..., 0], part[..., 0] - part[..., 1], part[..., 1]], dim=-1)
    return (weights[..., None, :] @ curves)[..., 0, :]


def between(nodes: Numbers, concentrations: Numbers, amounts: Numbers) -> Numbers:
    """As `response_at`, of n responses (n, 3, ...) with `concentrations`, (n, 3), at `amounts`, (n,): (n, ...)."""
    low, high = concentrations[:, :-1], concentrations[:, 1:]
    part = ((amounts[:, None] - low) / (high - low).clip(1e-6)).clip(0.0, 1.0)  # (n, 2)
    shape = -1, *[1] * (nodes.ndim - 2)
    first, second = (part[:, i].reshape(shape) for i in (0, 1))
    return nodes[:, 0] * (1 - first) + nodes[:, 1] * (first - second) + nodes[:, 2] * second


def first_responses(smooth: Tensor, concentrations: Tensor) -> Tensor:
    """Responses (..., 2, K, N) at the first amount that is tried, from smoothed ones, shape (..., 2, K, 3, N)."""
    amounts = torch.full(concentrations.shape[:-1], TYPICAL_AMOUNT, device=smooth.device)
    return response_at(smooth, concentrations.unsqueeze(-3), amounts.unsqueeze(-2))


def compute_features(change: Tensor, pristine: Tensor, given: Responses) -> Features:
    """The features of B changes, shape (B, N), of hosts whose pristine densities are `pristine`, shape (B, N)."""
    found = quick_features(change, pristine, given)
    return Features(**{name: torch.as_tensor(values) for name, values in vars(found).items()})


def quick_features(change: Tensor, pristine: Tensor, given: Responses) -> Features:
    """As `compute_features`; on a CPU they are arrays of numpy."""
    directions = axis_directions(pristine) if given.directions is None else given.directions
    if change.device.type == "cpu" and len(change) <= FEW:
        smooth = torch.from_numpy(change.numpy() @ _BOTH.numpy()).view(-1, 2, 1, N_BINS)
    else:
        smooth = (change @ _BOTH.to(change.device)).view(-1, 2, 1, N_BINS)
    if given.prepared is None:
        read: _Raw | Prepared = _Raw(smoothed(given.curves), given.concentrations)
    else:
        read = Prepared(*map(_alike, vars(given.prepared).values()))
    numbers = [_alike(values) for values in (smooth, pristine, directions, given.mask, given.log_prior)]
    return _decomposed(np if change.device.type == "cpu" else torch, numbers, read)


def _decomposed(xp: Any, numbers: Sequence[Numbers], read: Prepared | _Raw) -> Features:
    """The features, by numpy or torch: `xp`.

    Args:
        numbers: the changes finely and coarsely smoothed, shape (B, 2, 1, N), the pristine densities, shape (B, N),
            their directions, shape (B, 5, N), the mask and the log prior, shape (B, K).
        read: the responses.
    """
    change, pristine, directions, mask, log_prior = numbers
    views = _views(xp, change, directions)[:, :, 0]  # (B, V, N)
    sizes = xp.sqrt((views * views).sum(-1)).clip(1e-6)  # (B, V)
    unit = views / sizes[..., None]
    first = read.first
    if read.varies:
        tried = _fitted(xp, first, directions, (unit[:, ::2], sizes[:, ::2]), mask, _FIRST_FIT)
        single = tried.alone[:, 0].clip(_LEAST_AMOUNT, 0.1)
        first = read.at(xp.where(tried.part > 1e-3, tried.amount.clip(_LEAST_AMOUNT, _MOST_AMOUNT), single))
    fit = _fitted(xp, first, directions, (unit, sizes), mask, _LAST_FIT)
    partial, chosen, left = greedy(fit.likeness, fit.overlap, mask, log_prior)
    rest = unit - ((fit.parts * fit.inverse)[:, :, None] @ fit.curves)[:, :, 0]  # (B, V, N)
    unexplained = (rest * rest).sum(-1)
    b, k = mask.shape
    logs = xp.log(xp.stack([fit.joint.clip(3e-4), fit.alone.clip(3e-4), fit.norms], 1))  # (B, 3, V, K)
    logs[:, :2] += 4.0
    entry = [x.reshape(b, -1, k) for x in (partial, chosen.swapaxes(1, 2), fit.parts, logs)]
    log_size = xp.log(sizes)
    count = xp.log((1.0 * mask.sum(1)).clip(1))[:, None]
    whole = [log_size, unexplained, xp.log(unexplained.clip(1e-4)), left.clip(0.0), log_size[:, 2:] - log_size[:, :1]]
    whole += [0.5 * xp.log((pristine * pristine).sum(1))[:, None], xp.asarray(count, dtype=unit.dtype)]
    amount = xp.where(fit.part > 2e-3, fit.amount, fit.alone[:, 0].clip(1e-3)).clip(1.5e-3, 0.35)
    return Features(
        entry=xp.concatenate(entry, 1).swapaxes(1, 2),
        whole=xp.concatenate(whole, 1),
        likeness=fit.likeness,
        log_amount=xp.log(amount),
        change=unit[:, 0],
        left=rest[:, 0],
        response=fit.curves[:, 0] * fit.inverse[:, 0, :, None],
        part=fit.parts[:, 0],
        alone=fit.overlap[:, 0],
    )


@dataclass(frozen=True, eq=False)
class _Fit:
    """Changes decomposed into responses.

    Attributes:
        curves: shape (B, V, K, N).
        norms, inverse: shape (B, V, K), of the curves, and one over them, 0 outside the mask.
        likeness, overlap: cosines between responses, (B, V, K, K), and with the change, (B, V, K).
        parts: shape (B, V, K), the change's parts by least squares of all responses, both of unit norm.
        joint, alone: shape (B, V, K), amounts beside all others, and alone, fractions of all atoms.
    """

    curves: Numbers
    norms: Numbers
    inverse: Numbers
    likeness: Numbers
    overlap: Numbers
    parts: Numbers
    joint: Numbers
    alone: Numbers

    @property
    def part(self) -> Numbers:
        """Shape (B, K), how much of the change the two fine views give to a candidate."""
        return self.parts[:, 0] + self.parts[:, -1]

    @property
    def amount(self) -> Numbers:
        """Shape (B, K), what they give on average, fraction of all atoms."""
        return 0.5 * (self.joint[:, 0] + self.joint[:, -1])


def _fitted(
    xp: Any, curves: Numbers, directions: Numbers, change: tuple[Numbers, Numbers], mask: Numbers, steps: int
) -> _Fit:
    """Decompose changes into responses, (B, 2, K, N), in all views or the two fine ones.

    Args:
        change: the changes of unit norm, (B, V, N), and their norms, (B, V); V is 3, or 2 without the coarse view.
    """
    unit, sizes = change
    seen = _views(xp, curves, directions, coarse=unit.shape[1] == N_VIEWS)  # (B, V, K, N)
    products = seen @ seen.swapaxes(2, 3)
    norms = xp.sqrt(xp.diagonal(products, 0, 2, 3)).clip(1e-6)  # (B, V, K)
    inverse = mask[:, None] / norms
    products *= inverse[..., None]
    products *= inverse[:, :, None]
    overlap = (seen @ unit[..., None])[..., 0] * inverse
    parts = least_squares(products, overlap[:, :, None], mask[:, None, None], steps, _RIDGE)[:, :, 0]
    scale = sizes[..., None] / norms
    return _Fit(seen, norms, inverse, products, overlap, parts, parts * scale, overlap * scale)


def _views(xp: Any, curves: Numbers, directions: Numbers, coarse: bool = True) -> Numbers:
    """Curves finely and coarsely smoothed, (B, 2, n, N), and finely less what a wrong axis makes: (B, V, n, N)."""
    fine = curves[:, 0]
    rest = without(directions, fine)
    return xp.concatenate([curves if coarse else curves[:, :1], rest[:, None]], 1)


def _alike(values: Tensor) -> Numbers:
    """The same numbers for numpy on a CPU, whose many small steps take a fifth of torch's time there."""
    return values.numpy() if values.device.type == "cpu" else values


def axis_directions(pristine: Tensor) -> Tensor:
    """Orthonormal directions in which a wrong axis or width moves densities, shape (B, N), finely seen: (B, 5, N).

    The axis is stretched, bent twice or shifted; the last is another width.
    """
    axis, within, slope, fine = (values.to(pristine.device) for values in (_AXIS, _WITHIN, derivative(), _FINE))
    smooth = pristine @ smoothing(0.006).to(pristine.device)
    bends = [axis, axis * (math.pi * within).sin(), axis * (2 * math.pi * within).sin(), torch.ones_like(axis)]
    errors = [-(bend * smooth) @ slope for bend in bends]
    rows = torch.stack([*errors, (axis.square() * smooth) @ slope @ slope], dim=1) @ fine
    gram = rows @ rows.transpose(1, 2)
    scale = 1e-3 * gram.diagonal(dim1=1, dim2=2).mean(dim=-1)[:, None, None] + 1e-9
    lower = torch.linalg.cholesky(gram + scale * torch.eye(rows.shape[1], device=rows.device))
    return torch.linalg.solve_triangular(lower, rows, upper=False)


def without(directions: Numbers, curves: Numbers) -> Numbers:
    """Curves, shape (B, n, N), less their part along orthonormal `directions`, shape (B, M, N)."""
    return curves - (curves @ directions.swapaxes(1, 2)) @ directions


def coarse_directions(directions: NDArray[np.floating]) -> NDArray[np.floating]:
    """`axis_directions`, shape (B, 5, N), coarsely seen, and orthonormal again: (B, 5, N)."""
    seen = directions @ _AGAIN
    return np.asarray(np.linalg.qr(seen.swapaxes(1, 2))[0].swapaxes(1, 2))
