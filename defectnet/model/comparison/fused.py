"""`Comparer` for answers on a CPU: what its weights alone decide is prepared, and little is done one by one.

The answer is the network's to rounding. A spectrum alone costs a third of the time, for there the number of operations
counts and not their size: numpy takes small ones, torch large ones; the layers of all blocks that read likenesses are
one; scales and shifts before a layer are in its weights; and a convolution is one product of all its windows.

Shapes: B spectra, K candidates, M = B · K, N bins, W width, H heads, L blocks.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.model.comparison.axis import N_BINS
from defectnet.model.comparison.comparer import (
    CURVE_SCALE,
    FIRST_KERNEL,
    LEAST_LOGIT,
    MOST_DEVIATION,
    N_FLAGS,
    SECOND_KERNEL,
    SPREAD_BOUNDS,
    STRIDE,
    Compared,
    Comparer,
    ComparerBlock,
    ComparerInputs,
)
from defectnet.model.comparison.features import N_ENTRY_FEATURES, N_VIEWS, Features, quick_features

__all__ = ["FusedComparer"]

Floats = NDArray[np.float32]

_FAR = np.float32(-1e4)  # added to the attention that nobody is paid
_EPS = np.float32(1e-5)  # of torch's norms
_ROOT_HALF = np.float32(0.5**0.5)
# Products of at most so many multiplications are numpy's (whose BLAS takes one thread for them), larger ones torch's;
# and functions of at most so many numbers are put together from erf.
_SMALL_PRODUCT, _SMALL = 1 << 18, 1 << 14
# Candidates that pass through the layers at once: what lies between two of them then stays in a core's cache.
_AT_ONCE = 576
# Places of the first convolution that are computed at once: those that the second one steps over; they begin half a
# kernel of the second before its place. A block holds the bins that they step over, of three curves side by side.
_PLACES = STRIDE
_STEP = STRIDE * _PLACES
_WINDOW = FIRST_KERNEL + STRIDE * (_PLACES - 1)
_BEFORE = SECOND_KERNEL // 2
_N_PLACES = -(-N_BINS // STRIDE)
_N_BLOCKS = -(-(_N_PLACES + _BEFORE) // _PLACES)
_FIRST_BIN = FIRST_KERNEL // 2 + STRIDE * _BEFORE
_BLOCK = 3 * _STEP


class _Layer(NamedTuple):
    """x ↦ x @ weight + bias."""

    weight: Floats
    bias: Floats

    def __call__(self, x: Floats) -> Floats:
        found = _product(x, self.weight)
        found += self.bias
        return found


class _Block(NamedTuple):
    attended: _Layer
    out: _Layer
    widened: _Layer
    narrowed: _Layer


class FusedComparer:
    """A trained network's answers; later changes of its weights are not seen."""

    def __init__(self, comparer: Comparer) -> None:
        with torch.no_grad():
            self._prepare_entry(comparer)
            self._prepare_curves(comparer)
            self._prepare_blocks(comparer)

    def _prepare_entry(self, comparer: Comparer) -> None:
        norm = comparer.standardised
        assert norm.running_mean is not None
        assert norm.running_var is not None
        deviations, n = (norm.running_var + norm.eps).rsqrt(), N_ENTRY_FEATURES
        # Of a candidate, and of a spectrum.
        self._mean, self._mean_whole = norm.running_mean[:n].numpy(), norm.running_mean[n:].numpy()
        self._scale, self._scale_whole = deviations[:n].numpy(), deviations[n:].numpy()
        weight, m = comparer.entry.weight.T, n + self._mean_whole.size
        flags = weight.shape[0] - N_FLAGS
        self._own = torch.cat([weight[:n], weight[m:flags]]).numpy()
        drawn = _as_linear(comparer.curves[5])
        whole = torch.cat([weight[n:m], weight[flags:]])
        self._whole = _Layer(whole.numpy(), (comparer.entry.bias + drawn.bias).numpy())
        self._mixed = _linear(_as_linear(comparer.mixed[1]))

    def _prepare_curves(self, comparer: Comparer) -> None:
        first, second, drawn = comparer.curves[0], comparer.curves[2], _as_linear(comparer.curves[5])
        assert isinstance(first, nn.Conv1d)
        assert isinstance(second, nn.Conv1d)
        assert first.bias is not None
        assert second.bias is not None
        change, response, left, part, rest, density = (CURVE_SCALE * first.weight).unbind(dim=1)  # each (C, 9)
        # The change, what all leave and the density are of a spectrum; a response, its part and itself are a
        # candidate's, of which the last is taken from the change.
        bias, channels = first.bias.detach().repeat(_PLACES), first.out_channels
        self._common = _Blocks.of(_windowed([change + rest, left, density]), bias, _BLOCK)
        self._response = _Blocks.of(_windowed([response, part, -rest]), bias, _BLOCK)
        kernel = second.weight.permute(2, 1, 0).flatten(0, 1)
        self._looked = _Blocks.of(kernel, second.bias.detach(), _PLACES * channels)
        # Where the second convolution sees nothing: before the first place, and behind the last one.
        self._nothing = slice(0, _BEFORE * channels), slice((_BEFORE + _N_PLACES) * channels, None)
        # The last block holds no place of the second convolution.
        places = drawn.in_features // second.out_channels
        weight = torch.zeros(_N_BLOCKS, second.out_channels, drawn.out_features)
        weight[:places] = drawn.weight.unflatten(1, (second.out_channels, places)).permute(2, 1, 0)
        self._drawn = weight.flatten(0, 1).numpy()

    def _prepare_blocks(self, comparer: Comparer) -> None:
        self._heads, self._width = comparer.settings.heads, comparer.settings.width
        blocks = [block for block in comparer.blocks if isinstance(block, ComparerBlock)]
        self._blocks = [_fused_block(block, self._width // self._heads) for block in blocks]
        firsts, seconds = ([_linear(_as_linear(block.bias[at])) for block in blocks] for at in (0, 2))
        self._pair = np.concatenate([np.column_stack([layer.weight.T, layer.bias]) for layer in firsts])
        # What is added to all candidates alike changes no attention: the second layer's own biases are left out.
        self._heard = torch.block_diag(*(torch.from_numpy(layer.weight.T) for layer in seconds)).numpy()
        self._head = _linear(_as_linear(comparer.head[0]), norm=comparer.norm)
        self._final = _linear(_as_linear(comparer.head[2]))
        self._fine = comparer.fine.numpy()

    def __call__(self, given: ComparerInputs) -> Compared:
        """As `Comparer`, without gradients and in single precision."""
        with torch.inference_mode():
            seen = quick_features(given.change, given.pristine, given.responses)
            rows = max(1, _AT_ONCE // seen.part.shape[1])
            if len(seen.part) <= rows:
                return Compared(*map(torch.from_numpy, self._said(seen, given)))
            parts = []
            for start in range(0, len(seen.part), rows):
                part = slice(start, start + rows)
                some = Features(**{name: values[part] for name, values in vars(seen).items()})
                mask = replace(given.responses, mask=given.responses.mask[part])
                asked = ComparerInputs(given.change, given.pristine[part], mask, given.about[part], given.flags[part])
                parts.append(self._said(some, asked))
            return Compared(*(torch.from_numpy(np.concatenate(one)) for one in zip(*parts, strict=True)))

    def _said(self, seen: Features, given: ComparerInputs) -> tuple[Floats, ...]:
        """What the network says by the features, as `Compared`."""
        mask = given.responses.mask.numpy()
        b, k = mask.shape
        x = self._mixed(_gelu(self._tokens(given, seen)))
        for block, bias in zip(self._blocks, self._biases(seen.likeness, mask), strict=True):
            x = self._attended(block, x, bias)
        said = self._final(_gelu(self._head(_normalised(x)))).reshape(b, k, 3)
        return (
            np.where(mask, said[..., 0], np.float32(LEAST_LOGIT)),
            seen.log_amount + said[..., 1],
            np.clip(said[..., 2], *SPREAD_BOUNDS),
            seen.whole[:, N_VIEWS + 1],
        )

    def _tokens(self, given: ComparerInputs, seen: Features) -> Floats:
        """What is known and seen of each candidate, shape (M, W)."""
        b, k = seen.part.shape
        own = (seen.entry - self._mean) * self._scale
        whole = (seen.whole - self._mean_whole) * self._scale_whole
        np.clip(own, -MOST_DEVIATION, MOST_DEVIATION, out=own)
        np.clip(whole, -MOST_DEVIATION, MOST_DEVIATION, out=whole)
        x = _product(np.concatenate([own, given.about.numpy()], axis=2).reshape(b * k, -1), self._own)
        x += _product(self._looked_at(seen, given.pristine.numpy()), self._drawn)
        of_spectrum = self._whole(np.concatenate([whole, given.flags.numpy()], axis=1))  # (B, W)
        by_spectrum = x.reshape(b, k, -1)
        by_spectrum += of_spectrum[:, None]
        return x

    def _looked_at(self, seen: Features, pristine: Floats) -> Floats:
        """What the convolutions make of each candidate's curves, shape (M, places · channels)."""
        b, k = seen.part.shape
        density = _product(pristine, self._fine)
        density /= np.maximum(np.sqrt(np.square(density).sum(axis=1, keepdims=True)), np.float32(1e-6))
        common = self._common(_in_blocks([seen.change, seen.left, density]))
        x = np.empty((b, k, common[0].size * _N_BLOCKS), dtype=np.float32)
        x[:] = common.reshape(b, 1, -1)
        response = seen.response.reshape(b * k, -1)
        part, alone = seen.part.reshape(-1, 1), seen.alone.reshape(-1, 1)
        x = x.reshape(-1, common.shape[1])
        self._response.add(x, _in_blocks([response, response * part, response * alone]))
        x = _gelu(x)
        places = x.reshape(b * k, -1)
        for nothing in self._nothing:
            places[:, nothing] = 0.0
        return _gelu(self._looked(x).reshape(b * k, -1))

    def _biases(self, likeness: Floats, mask: NDArray[np.bool_]) -> list[Floats]:
        """What likenesses add to the attention of every block, for each shape (H, B, K, K).

        Candidates are as like each other as the other way round: each pair is looked at once.
        """
        b, k = mask.shape
        once, places = _pairs(k)
        pairs = np.ones((N_VIEWS + 1, b, once.size), dtype=np.float32)
        np.copyto(pairs[:N_VIEWS], likeness.reshape(b, N_VIEWS, k * k)[:, :, once].swapaxes(0, 1))
        x = _gelu(_product(self._pair, pairs.reshape(N_VIEWS + 1, -1)))
        biases = _product(self._heard, x).reshape(-1, b, once.size).take(places, axis=2)
        biases = biases.reshape(len(self._blocks), self._heads, b, k, k)
        if not mask.all():
            np.copyto(biases, _FAR, where=~mask[:, None])
        return list(biases)

    def _attended(self, block: _Block, x: Floats, bias: Floats) -> Floats:
        """One block; x and the result: shape (M, W)."""
        heads, b, k, _ = bias.shape
        query, key, value = block.attended(_normalised(x)).reshape(b, k, 3, heads, -1).transpose(2, 3, 0, 1, 4)
        weights = query @ key.swapaxes(2, 3)
        weights += bias
        weights = _softmax(weights)
        heard = np.empty((b, k, heads, value.shape[3]), dtype=np.float32)
        np.matmul(weights, value, out=heard.transpose(2, 0, 1, 3))
        x = block.out(heard.reshape(b * k, -1)) + x
        wide = _gelu(block.widened(_normalised(x)))
        x += block.narrowed(wide)
        return x


def _product(a: Floats, b: Floats) -> Floats:
    if a.shape[0] * b.size <= _SMALL_PRODUCT:
        return a @ b
    return np.asarray(torch.mm(torch.from_numpy(a), torch.from_numpy(b)).numpy())


def _add_product(x: Floats, a: Floats, b: Floats) -> None:
    if a.shape[0] * b.size <= _SMALL_PRODUCT:
        x += a @ b
    else:
        torch.from_numpy(x).addmm_(torch.from_numpy(a), torch.from_numpy(b))


@cache
def _pairs(k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places of K candidates' pairs in a matrix, each once, and which of them each place of the matrix is."""
    first, second = np.triu_indices(k)
    places = np.empty((k, k), dtype=np.int64)
    places[first, second] = places[second, first] = np.arange(first.size)
    return first * k + second, places.reshape(-1)


def _gelu(x: Floats) -> Floats:
    if x.size > _SMALL:
        return np.asarray(F.gelu(torch.from_numpy(x)).numpy())
    # torch's own has a start of 15 µs
    found: Floats = torch.erf(torch.from_numpy(x * _ROOT_HALF)).numpy()
    found += np.float32(1.0)
    found *= x
    found *= np.float32(0.5)
    return found


def _softmax(x: Floats) -> Floats:
    """Along the last axis; `x` is used up."""
    if x.size > _SMALL:
        return np.asarray(torch.softmax(torch.from_numpy(x), dim=-1).numpy())
    x -= np.maximum.reduce(x, axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= np.add.reduce(x, axis=-1, keepdims=True)
    return x


def _normalised(x: Floats) -> Floats:
    """Rows less their mean, over their standard deviation, shape (M, W)."""
    if x.size > _SMALL:
        return np.asarray(F.layer_norm(torch.from_numpy(x), x.shape[1:]).numpy())
    share = np.float32(1.0 / x.shape[1])
    centred = np.subtract(x, np.add.reduce(x, axis=1, keepdims=True) * share, dtype=np.float32)
    centred /= np.sqrt(np.add.reduce(centred * centred, axis=1, keepdims=True) * share + _EPS)
    return centred


class _Blocks(NamedTuple):
    """A layer whose windows begin with a block and end in the next one: weights of the one and the other."""

    here: Floats
    there: Floats
    bias: Floats

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, block: int) -> "_Blocks":
        """From the weights of a whole window, whose first `block` rows are a block's."""
        return cls(weight[:block].contiguous().numpy(), weight[block:].contiguous().numpy(), bias.numpy())

    def __call__(self, blocks: Floats) -> Floats:
        """A row for each block; the last one has no next."""
        x = np.empty((len(blocks), self.bias.size), dtype=np.float32)
        x[:] = self.bias
        self.add(x, blocks)
        return x

    def add(self, x: Floats, blocks: Floats) -> None:
        """Add what it is without the bias to `x`."""
        _add_product(x, blocks, self.here)
        _add_product(x[:-1], blocks[1:, : len(self.there)], self.there)


def _in_blocks(curves: Sequence[Floats]) -> Floats:
    """Three curves, each of shape (n, N), as blocks of bins, shape (n · blocks, 3 · bins)."""
    blocks = np.zeros((len(curves[0]), _N_BLOCKS * _STEP, 3), dtype=np.float32)
    for at, curve in enumerate(curves):
        blocks[:, _FIRST_BIN : _FIRST_BIN + N_BINS, at] = curve
    return blocks.reshape(-1, _BLOCK)


def _windowed(kernels: list[Tensor]) -> Tensor:
    """The weights of three curves' windows, shape (window · 3, places · C), from kernels of shape (C, 9)."""
    channels = kernels[0].shape[0]
    weights = torch.zeros(_WINDOW, len(kernels), _PLACES, channels)
    for curve, kernel in enumerate(kernels):
        for place in range(_PLACES):
            weights[STRIDE * place : STRIDE * place + FIRST_KERNEL, curve, place] = kernel.T
    return weights.view(_WINDOW * len(kernels), -1)


def _as_linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)
    return layer


def _linear(layer: nn.Linear, *, norm: nn.LayerNorm | None = None) -> _Layer:
    """A layer with the scale and the shift of the norm before it in its weights."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    if norm is not None:
        bias = bias + weight @ norm.bias
        weight = weight * norm.weight
    return _Layer(weight.T.contiguous().numpy(), bias.numpy())


def _fused_block(block: ComparerBlock, per_head: int) -> _Block:
    attended = _linear(block.attended, norm=block.before)
    scale = np.ones(attended.bias.size, dtype=np.float32)
    scale[: attended.bias.size // 3] = per_head**-0.5
    return _Block(
        _Layer(attended.weight * scale, attended.bias * scale),
        _linear(block.out),
        _linear(_as_linear(block.forwards[0]), norm=block.between),
        _linear(_as_linear(block.forwards[3])),
    )
