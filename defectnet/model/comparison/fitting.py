"""Amounts of candidates in a change: non-negative least squares of all together, and a greedy choice of one at a time.

Both work on products of curves alone. On a CPU their many small steps are taken in numpy, which needs a fifth of
torch's time for them.

Shapes: B spectra, K candidates, V views.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["STEPS", "descended", "descent", "greedy", "least_squares"]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Arrays of numpy or tensors of torch.
Numbers = Any

STEPS = 5  # of the greedy choice
# Independent points of a smoothed curve, for the greedy choice.
_INDEPENDENT = 30.0
# Added to the squares of responses, so that one may follow its equal.
_JITTER = 1e-4
# An explained share of the square counts as no more than this, and a chosen one has at least this cosine.
_MOST_EXPLAINED, _LEAST_COSINE = 0.995, 0.02
_LEAST_SQUARE = 1e-3
_TAKEN = -1e9
# For numpy, which takes longer to read a number of Python's.
_NONE, _MOST = np.float32(0.0), np.float32(_MOST_EXPLAINED)
# So many numbers are few; and so few are one vector, whose steps take one matrix of all.
_FEW, _FEWEST = 4096, 64


def least_squares(gram: Numbers, overlap: Numbers, mask: Numbers, steps: int, ridge: float) -> Numbers:
    """min ½ xᵀ (G + ridge) x − qᵀ x with x ≥ 0 by accelerated projected gradients.

    Args:
        gram: shape (..., K, K), symmetric, with a diagonal near 1.
        overlap: shape (..., n, K), n right sides q of each matrix.
        mask: shape (..., 1, K), bool; what is outside stays 0.
        steps: that are taken.

    Returns:
        shape (..., n, K).
    """
    if isinstance(gram, np.ndarray):
        step, rate = descent(gram, mask, ridge)
        return descended(step, overlap * rate, steps)
    gram = gram + ridge * torch.eye(gram.shape[-1], device=gram.device)
    both = gram * mask * mask.transpose(-1, -2)
    bound = torch.minimum(both.abs().sum(dim=-1).amax(dim=-1), both.square().sum(dim=(-1, -2)).sqrt())
    rate = mask / (bound[..., None, None] + 1e-3)  # 0 keeps what is masked at 0
    x = y = torch.zeros_like(overlap)
    for ahead in _momenta(steps):
        new = torch.relu(y - (y @ gram - overlap) * rate)
        x, y = new, new + float(ahead) * (new - x)
    return x


def descent(gram: Floats, mask: Mask, ridge: float) -> tuple[Floats, Floats]:
    """What the steps of `least_squares` do that no right side changes: each is y ↦ max(y (1 − G r) + q r, 0).

    Returns:
        1 − G r, shape (..., K, K), and the rates r, shape (..., 1, K), which are 0 outside the mask.
    """
    k = gram.shape[-1]
    gram = gram + np.float32(ridge) * _eye(k)
    inside = gram if mask.all() else gram * mask * mask.swapaxes(-1, -2)
    flat = inside.reshape(*inside.shape[:-2], 1, k * k)
    squares = np.sqrt((flat @ flat.swapaxes(-1, -2))[..., 0, 0])
    bound = np.minimum(np.abs(inside).sum(axis=-1).max(axis=-1), squares)
    rate = mask / (bound[..., None, None] + np.float32(1e-3))
    gram *= rate
    return np.subtract(_eye(k), gram, out=gram), rate


def descended(step: Floats, start: Floats, steps: int) -> Floats:
    """What `least_squares` finds by so many steps, from `descent` and the right sides times the rates, (..., n, K)."""
    if start.size <= _FEW:
        return _descended_few(step, start, steps)
    former, ahead, new = (np.zeros(start.shape, dtype=np.float32) for _ in range(3))
    for momentum in _momenta(steps):
        np.matmul(ahead, step, out=new)
        new += start
        np.maximum(new, 0.0, out=new)
        np.subtract(new, former, out=former)
        former *= momentum
        former += new
        former, ahead, new = new, former, ahead
    return former


def _descended_few(step: Floats, start: Floats, steps: int) -> Floats:
    """The same for few numbers, where the number of operations counts: looking ahead is one product."""
    if start.size <= _FEWEST:
        return _descended_fewest(step, start, steps)
    both = np.zeros((2, start.size), dtype=np.float32)
    ahead, slope = np.zeros(start.size, dtype=np.float32), np.empty_like(start)
    last, shaped = (x.reshape(*x.shape[:-1], *start.shape) for x in (both, ahead))
    for number, weights in enumerate(_weights(steps)):
        np.matmul(shaped, step, out=slope)
        slope += start
        np.maximum(slope, 0.0, out=last[number % 2])
        np.dot(weights, both, out=ahead)
    return last[(steps - 1) % 2]


def _descended_fewest(step: Floats, start: Floats, steps: int) -> Floats:
    """The same in three operations a step: it is linear in the last two points, whose products are kept."""
    *_, n, k = start.shape
    size = start.size
    whole = np.zeros((size, size), dtype=np.float32)
    for at, block in enumerate(step.reshape(-1, k, k).repeat(n, axis=0)):
        whole[at * k : at * k + k, at * k : at * k + k] = block
    # The products of the last two points, and where all begin.
    known, (new, nothing) = np.zeros((3, size), dtype=np.float32), np.zeros((2, size), dtype=np.float32)
    known[2] = start.reshape(size)
    products = known[0], known[1]
    for number, weights in enumerate(_weights_beside(steps)):
        np.dot(weights, known, out=new)
        np.maximum(new, nothing, out=new)
        np.dot(new, whole, out=products[number % 2])
    return new.reshape(start.shape)


@cache
def _weights(steps: int) -> list[Floats]:
    """By how much the last two points count in each step, the later one standing first and second by turns."""
    pairs = [np.array([1.0 + momentum, -momentum], dtype=np.float32) for momentum in _momenta(steps)]
    return [np.ascontiguousarray(pair[:: 1 - 2 * (number % 2)]) for number, pair in enumerate(pairs)]


@cache
def _weights_beside(steps: int) -> list[Floats]:
    """By how much the last two products count before each step, and at last, wholly, where all begin."""
    before = [np.zeros(2, dtype=np.float32), *_weights(steps)[:-1]]
    return [np.append(pair, np.float32(1.0)) for pair in before]


@cache
def _eye(k: int) -> Floats:
    return np.eye(k, dtype=np.float32)


@cache
def _momenta(steps: int) -> tuple[np.float32, ...]:
    """How far each accelerated step looks ahead (Nesterov's sequence)."""
    found, momentum = [], 1.0
    for _ in range(steps):
        grown = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * momentum * momentum))
        found.append(np.float32((momentum - 1.0) / grown))
        momentum = grown
    return tuple(found)


def greedy(likeness: Numbers, overlap: Numbers, mask: Numbers, log_prior: Numbers) -> tuple[Numbers, ...]:
    """Candidates one after the other, each time whoever explains most of what is left, with its prior.

    What is left of the responses' products after some were chosen is never formed: of it the diagonal and the chosen
    ones' columns are enough (Cholesky's, with pivots).

    Args:
        likeness, overlap: cosines between responses, shape (B, V, K, K), and with the change, shape (B, V, K).
        mask, log_prior: shape (B, K).

    Returns:
        for each step the partial cosines, and who was chosen, both (B, STEPS, V, K); the share left, (B, V).
    """
    if isinstance(likeness, np.ndarray):
        return _greedy_small(likeness, overlap, mask, log_prior)
    b, v, k = overlap.shape
    diagonal = likeness.diagonal(dim1=2, dim2=3) + _JITTER  # (B, V, K)
    left, free = likeness.new_ones(b, v, 1), mask[:, None].expand(b, v, k)
    partial: list[Tensor] = []
    taken_by: list[Tensor] = []
    columns: list[Tensor] = []
    for _ in range(STEPS):
        cosine = overlap / (diagonal.clamp(min=_LEAST_SQUARE) * left.clamp(min=_LEAST_SQUARE)).sqrt() * free
        partial.append(cosine.clamp(-1, 1))
        gain = -0.5 * _INDEPENDENT * torch.log1p(-torch.relu(cosine).square().clamp(max=_MOST_EXPLAINED))
        best = (gain + log_prior[:, None]).masked_fill(~free, _TAKEN).argmax(dim=-1, keepdim=True)
        taken = (cosine.gather(2, best) > _LEAST_COSINE).float()  # (B, V, 1)
        counts = torch.zeros_like(cosine).scatter_(2, best, taken)
        taken_by.append(counts)
        column = likeness.gather(2, best[..., None].expand(b, v, 1, k))[:, :, 0] + _JITTER * counts
        for former in columns:
            column = column - former * former.gather(2, best)
        root = column.gather(2, best).clamp(min=_LEAST_SQUARE).sqrt()
        share = taken * overlap.gather(2, best) / root
        column = taken * column / root
        columns.append(column)
        diagonal, left, overlap = diagonal - column.square(), left - share.square(), overlap - column * share
        free = free & (counts == 0)
    return torch.stack(partial, dim=1), torch.stack(taken_by, dim=1), left[..., 0]


def _greedy_small(likeness: Floats, overlap: Floats, mask: Mask, log_prior: Floats) -> tuple[Floats, ...]:
    """The steps of `greedy` in numpy, as `descended` does."""
    b, v, k = overlap.shape
    n = b * v  # rows, one for each spectrum and view
    likeness, overlap = likeness.reshape(n, k, k), overlap.reshape(n, k).copy()
    begins = np.arange(n) * k
    # What may not be chosen has a cosine of 0 and a prior against it.
    free = np.repeat(mask, v, axis=0).astype(np.float32)
    prior = np.repeat(np.where(mask, log_prior, np.float32(_TAKEN)), v, axis=0)
    diagonal = likeness.diagonal(axis1=1, axis2=2) + np.float32(_JITTER)
    left = np.ones((n, 1), dtype=np.float32)
    partial, chosen = np.zeros((2, STEPS, n, k), dtype=np.float32)
    columns = np.zeros((n, k, STEPS), dtype=np.float32)
    least, weight = np.float32(_LEAST_SQUARE), np.float32(-0.5 * _INDEPENDENT)
    rows, gain, square = likeness.reshape(n * k, k), np.empty_like(overlap), np.empty_like(overlap)
    for step, cosine in enumerate(partial):
        np.maximum(diagonal, least, out=square)
        square *= np.maximum(left, least)
        np.divide(overlap, np.sqrt(square, out=square), out=cosine)
        cosine *= free
        np.maximum(cosine, _NONE, out=gain)
        gain *= gain
        np.minimum(gain, _MOST, out=gain)
        np.log1p(np.negative(gain, out=gain), out=gain)
        gain *= weight
        gain += prior
        at = begins + gain.argmax(axis=1)  # places in flat arrays
        taken = (cosine.take(at) > _LEAST_COSINE).astype(np.float32)
        chosen[step].reshape(-1)[at] = taken
        column = rows.take(at, axis=0)
        flat = column.reshape(-1)
        flat[at] += np.float32(_JITTER)
        if step:
            former = columns.reshape(n * k, STEPS).take(at, axis=0)
            column -= (columns @ former[:, :, None])[:, :, 0]
        scale = taken / np.sqrt(np.maximum(flat.take(at), least))
        share = scale * overlap.take(at)
        left[:, 0] -= share * share
        if step == STEPS - 1:
            break
        column *= scale[:, None]
        columns[:, :, step] = column
        diagonal -= np.multiply(column, column, out=square)
        overlap -= np.multiply(column, share[:, None], out=column)
        free.reshape(-1)[at] *= 1.0 - taken
        prior.reshape(-1)[at] += taken * np.float32(_TAKEN)
    np.clip(partial, -1.0, 1.0, out=partial)
    cosines, counts = (x.reshape(STEPS, b, v, k).swapaxes(0, 1) for x in (partial, chosen))
    return cosines, counts, left.reshape(b, v)
