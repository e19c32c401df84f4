"""The Nequix network (Koker et al., arXiv:2508.16067) in torch: energies and their gradients, for inference only.

A node holds features of orders l = 0 … 3, each of shape (2l+1 components, channels), and edges are the neighbours of
each node, padded to one count N so that a sum over neighbours is a batched matrix product. What makes it fast on one
core:

- Clebsch–Gordan coefficients meet the spherical harmonics once an edge and call (`couplings`), not once a layer.
- The sum over neighbours and components of a path is one product, so that nothing of the size (edges, outputs), 22 kB
  an edge, is ever written; the backward pass makes the messages again, block by block in the cache.
- All radial functions of all layers are combinations of a few functions of the distance (`RadialBasis`), which are
  read from a table.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from datagen.potentials.couplings import COUPLINGS, Path, spherical_harmonics

__all__ = ["Convolution", "Graph", "Layer", "Network", "RadialBasis"]

Array = NDArray[np.float64]

# Floats of one block of messages: half of a core's second-level cache, beside what the products read. On a GPU blocks
# only bound the memory.
_BLOCK_FLOATS = {"cpu": 250_000, "cuda": 200_000_000}
# Compression of the radial functions: below this distance (Å) accuracy is let go, for only H2 is as short,
_SHORT_ANGSTROM = 0.7
# and below this share of the median size near the cutoff it need not be relative.
_SMALL_SHARE = 0.1


@dataclass(frozen=True)
class Graph:
    """Neighbours of every node.

    Attributes:
        senders: shape (n_nodes, N); padding names any node.
        radial: the radial basis, shape (n_nodes, N, n_basis); zero in padding.
        couplings: shape (n_nodes, 439, N): the matrices by which each edge turns features, rows by path, and within a
            path by (component out, component in).
    """

    senders: Tensor
    radial: Tensor
    couplings: Tensor


class Convolution(torch.autograd.Function):
    """Sum over neighbours of radial(r) × coupling(direction) × features of the sender, for every path and channel."""

    @staticmethod
    def forward(
        ctx: Any,
        paths: list[Path],
        senders: Tensor,
        radial: Tensor,
        couplings: Tensor,
        mixing: list[Tensor],
        *features: Tensor,
    ) -> tuple[Tensor, ...]:
        """Messages summed over neighbours.

        Args:
            paths: the terms.
            senders, radial, couplings: see `Graph`.
            mixing: for each path, shape (n_basis, channels): its radial functions from the basis.
            features: by order, shape (n_nodes, 2l+1, channels).

        Returns:
            by order l3, shape (n_nodes, 2 l3 + 1, channels of all its paths).
        """
        ctx.paths, ctx.mixing = paths, mixing
        ctx.save_for_backward(senders, radial, couplings, *features)
        n = len(senders)
        outputs = [
            features[0].new_empty(n, 2 * l3 + 1, sum(path.channels for path in paths if path.l3 == l3))
            for l3 in range(1 + max(path.l3 for path in paths))
        ]
        for l1, chosen, block in _blocks(paths, senders, features):
            x, _ = _gather(features[l1], senders[block])
            basis = radial[block].flatten(0, 1)
            for index in chosen:
                path = paths[index]
                weights = (basis @ mixing[index]).view(len(x), 1, -1, path.channels)
                messages = (x * weights).flatten(1, 2)
                turns = _turns(couplings[block], path)
                outputs[path.l3][block, :, path.offset : path.offset + path.channels] = turns @ messages
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        senders, radial, couplings, *features = ctx.saved_tensors
        paths, mixing = ctx.paths, ctx.mixing
        to_radial, to_couplings = torch.zeros_like(radial), torch.zeros_like(couplings)
        wanted = ctx.needs_input_grad[5:]
        to_features = [torch.zeros_like(x) if want else None for x, want in zip(features, wanted, strict=True)]
        for l1, chosen, block in _blocks(paths, senders, features):
            x, rows = _gather(features[l1], senders[block])
            basis = radial[block].flatten(0, 1)
            to_x = torch.zeros_like(x)
            to_basis = to_radial[block].flatten(0, 1)
            for index in chosen:
                path = paths[index]
                gradient = gradients[path.l3][block, :, path.offset : path.offset + path.channels]
                turns = _turns(couplings[block], path)
                weights = (basis @ mixing[index]).view(len(x), 1, -1, path.channels)
                to_messages = (turns.transpose(1, 2) @ gradient).view(x.shape)
                to_turns = gradient @ (x * weights).flatten(1, 2).transpose(1, 2)
                to_couplings[block, path.rows] = to_turns.view(len(x), -1, x.shape[2])
                to_weights = (to_messages * x).sum(1).flatten(0, 1)
                to_basis.addmm_(to_weights, mixing[index].T)
                if wanted[l1]:
                    to_x.addcmul_(to_messages, weights)
            target = to_features[l1]
            if target is not None:
                target.view(-1, target.shape[2]).index_add_(0, rows, to_x.flatten(0, 2))
        return None, None, to_radial, to_couplings, None, *to_features


def _blocks(paths: list[Path], senders: Tensor, features: Sequence[Tensor]) -> list[tuple[int, list[int], slice]]:
    """Blocks of nodes, each for all paths from one order: (l1, indices of paths, nodes)."""
    n, neighbours = senders.shape
    found = []
    for l1, x in enumerate(features):
        chosen = [index for index, path in enumerate(paths) if path.l1 == l1]
        step = max(1, _BLOCK_FLOATS[senders.device.type] // max(1, neighbours * x.shape[1] * x.shape[2]))
        found += [(l1, chosen, slice(start, min(start + step, n))) for start in range(0, n, step)]
    return found


def _gather(x: Tensor, senders: Tensor) -> tuple[Tensor, Tensor]:
    """Features of the senders, shape (n, 2l+1, N, channels), and the rows of `x.view(-1, channels)` that they are."""
    _, components, channels = x.shape
    rows = senders[:, None, :] * components + torch.arange(components, device=x.device)[:, None]
    rows = rows.flatten()
    return x.reshape(-1, channels).index_select(0, rows).view(len(senders), components, -1, channels), rows


def _turns(couplings: Tensor, path: Path) -> Tensor:
    """Matrices of one path, shape (n, 2 l3 + 1, (2 l1 + 1) N)."""
    return couplings[:, path.rows].view(len(couplings), 2 * path.l3 + 1, -1)


class RadialBasis:
    """A few functions of the distance of which all radial functions of all layers are combinations.

    The network's radial functions are outputs of small perceptrons. Tabulated over the distance and compressed by a
    singular value decomposition, they cost a third of the perceptrons and share their values between layers.
    """

    def __init__(self, values: Array, cutoff: float, rank: int) -> None:
        """Compress.

        Args:
            values: shape (n_points, n_functions): all functions at even distances from 0 to the cutoff.
            cutoff: Å.
            rank: functions kept.
        """
        distances = np.linspace(0.0, cutoff, len(values))
        # Relative errors count, for the functions grow tenfold towards short distances, which crystals hardly have.
        size = np.linalg.norm(values, axis=1)
        weight = np.minimum(1.0, distances / _SHORT_ANGSTROM) ** 4 / np.maximum(size, _SMALL_SHARE * np.median(size))
        _, _, right = np.linalg.svd(weight[:, None] * values, full_matrices=False)
        self.mixing = right[:rank]
        self.cutoff = cutoff
        self.step = cutoff / (len(values) - 1)
        # Powers of the distance into a step, highest first: shape (4, n_points - 1, rank).
        self.coefficients = CubicSpline(distances, values @ right[:rank].T).c

    def to(self, device: torch.device, dtype: torch.dtype) -> "RadialBasis":
        """The same with its table as a tensor there."""
        moved = copy.copy(self)
        moved.coefficients = torch.as_tensor(self.coefficients, dtype=dtype, device=device)
        return moved

    def __call__(self, distances: Tensor) -> tuple[Tensor, Tensor]:
        """The functions and their derivatives (1/Å) at distances of any shape, which gains a last axis."""
        table = self.coefficients
        place = (distances / self.step).long().clamp_(0, table.shape[1] - 1)
        t = (distances - place * self.step).to(table.dtype).flatten()[:, None]
        a, b, c, d = (table[k].index_select(0, place.flatten()) for k in range(4))
        value = ((a * t + b) * t + c) * t + d
        slope = (3 * a * t + 2 * b) * t + c
        inside = (distances < self.cutoff).flatten()[:, None]
        shape = (*distances.shape, table.shape[2])
        return (value * inside).view(shape), (slope * inside).view(shape)


@dataclass(frozen=True)
class Layer:
    """Weights of one layer, normalisation folded in.

    Attributes:
        paths: its tensor products.
        gates: channels of order 0 that gate the channels of higher orders.
        mixing: for each path, shape (n_basis, channels): its radial functions from the basis.
        before: by order, shape (channels, channels): the linear map of the senders.
        after: by order, shape (channels of all paths, channels out): of the summed messages.
        skip: by order, shape (channels in, channels out): of the node's own features; fewer orders in the first layer.
        norm: by order, shape (channels out,): scales of the normalisation.
    """

    paths: list[Path]
    gates: int
    mixing: list[Tensor]
    before: list[Tensor]
    after: list[Tensor]
    skip: list[Tensor]
    norm: list[Tensor]


# Of the inverse norm; the original's.
_NORM_FLOOR = 1e-12


def _gaussian_rms_of_silu() -> float:
    """Root mean square of silu over a standard normal input: activations are divided by it."""
    x, weight = np.polynomial.hermite_e.hermegauss(120)
    return float(np.sqrt((weight * (x / (1 + np.exp(-x))) ** 2).sum() / weight.sum()))


_SILU_RMS = _gaussian_rms_of_silu()


def _silu(x: Tensor) -> Tensor:
    return torch.nn.functional.silu(x) / _SILU_RMS


class Network:
    """Energies of atoms from their neighbours.

    Attributes:
        basis: the radial functions.
        embedding: shape (n_species, channels): the first layer's senders.
        first_skip: shape (n_species, channels out).
        layers: the layers.
        readout: shape (channels,), eV.
        offsets: shape (n_species,), eV: energy of an atom without neighbours' say.
    """

    def __init__(
        self,
        basis: RadialBasis,
        embedding: Tensor,
        first_skip: Tensor,
        layers: list[Layer],
        readout: Tensor,
        offsets: Tensor,
    ) -> None:
        self.basis = basis
        self.embedding = embedding
        self.first_skip = first_skip
        self.layers = layers
        self.readout = readout
        self.offsets = offsets
        self.couplings = torch.as_tensor(COUPLINGS).to(embedding)

    def atom_energies(self, species: Tensor, graph: Graph) -> Tensor:
        """Energies of the atoms less `offsets`, shape (n_nodes,), eV; differentiable by the graph's floats."""
        features = [self.embedding[species][:, None, :]]
        skips = [self.first_skip[species][:, None, :]]
        for number, layer in enumerate(self.layers):
            if number:
                skips = [x @ w for x, w in zip(features, layer.skip, strict=False)]
                features = [x @ w for x, w in zip(features, layer.before, strict=True)]
            summed = Convolution.apply(
                layer.paths, graph.senders, graph.radial, graph.couplings, layer.mixing, *features
            )
            features = [x @ w for x, w in zip(summed, layer.after, strict=True)]
            features = [x + skips[order] if order < len(skips) else x for order, x in enumerate(features)]
            features = _gated(_normalised(features, layer.norm), layer.gates)
        return features[0][:, 0, :] @ self.readout

    def energies_and_gradients(self, vectors: Tensor, species: Tensor, senders: Tensor) -> tuple[Tensor, Tensor]:
        """Energies of atoms less `offsets`, and the derivatives of their sum by the vectors to their neighbours.

        Args:
            vectors: from each node to its neighbours, shape (n_nodes, N, 3), Å; at least the cutoff long in padding.
            species: shape (n_nodes,).
            senders: the neighbours, shape (n_nodes, N).

        Returns:
            shape (n_nodes,), eV; shape (n_nodes, N, 3), eV/Å.
        """
        distances = torch.linalg.vector_norm(vectors, dim=-1)
        dtype = self.embedding.dtype
        radial, slopes = self.basis(distances)
        unit = (vectors / distances[..., None]).to(dtype).permute(2, 0, 1).contiguous().requires_grad_()
        with torch.enable_grad():
            harmonics = torch.stack(spherical_harmonics(unit), dim=1)  # (n, 16, N)
            couplings = self.couplings @ harmonics
            graph = Graph(senders, radial.requires_grad_(), couplings)
            energies = self.atom_energies(species, graph)
            to_radial, to_unit = torch.autograd.grad(energies.sum(), (radial, unit))
        along = (to_radial * slopes).sum(-1)
        to_unit, unit = to_unit.permute(1, 2, 0), unit.detach().permute(1, 2, 0)
        across = to_unit - (to_unit * unit).sum(-1, keepdim=True) * unit
        return energies.detach(), along[..., None] * unit + across / distances[..., None].to(dtype)


def _normalised(features: list[Tensor], scales: list[Tensor]) -> list[Tensor]:
    """Features over a common norm: of squares summed over channels, over (2l+1)² components, averaged over orders."""
    # The weights were trained with this sum over channels and these powers of 2l+1.
    squares = [(x * x).sum(dim=(1, 2), keepdim=True) / x.shape[1] ** 2 for x in features]
    square = torch.stack(squares).mean(0)
    factor = (square + _NORM_FLOOR) ** -0.5
    return [x * (factor * scale) for x, scale in zip(features, scales, strict=True)]


def _gated(features: list[Tensor], gates: int) -> list[Tensor]:
    """Activated scalars, and higher orders times the last `gates` activated scalars."""
    scalars = _silu(features[0])
    kept = scalars.shape[2] - gates
    gated, start = [scalars[..., :kept]], kept
    for x in features[1:]:
        gated.append(x * scalars[..., start : start + x.shape[2]])
        start += x.shape[2]
    return gated
