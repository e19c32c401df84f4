"""Spherical harmonics and how their products combine: what `datagen.potentials.equivariant` is made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["COUPLINGS", "COUPLING_ROWS", "L_MAX", "Path", "coupling", "paths_between", "spherical_harmonics"]

Array = NDArray[np.float64]

L_MAX = 3


def spherical_harmonics(unit: Tensor) -> list[Tensor]:
    """Real spherical harmonics of unit vectors (3, ...), squares averaging 1 over the sphere, for l = 0 … 3."""
    x, y, z = unit
    xx, yy, zz = x * x, y * y, z * z
    r3, r5, r7, r15 = math.sqrt(3), math.sqrt(5), math.sqrt(7), math.sqrt(15)
    r21, r35, r105 = math.sqrt(21 / 8), math.sqrt(35 / 8), math.sqrt(105)
    return [
        torch.ones_like(x),
        r3 * x,
        r3 * y,
        r3 * z,
        r15 * x * y,
        r15 * y * z,
        r5 / 2 * (3 * zz - 1),
        r15 * x * z,
        r15 / 2 * (xx - yy),
        r35 * y * (3 * xx - yy),
        r105 * x * y * z,
        r21 * y * (5 * zz - 1),
        r7 / 2 * z * (5 * zz - 3),
        r21 * x * (5 * zz - 1),
        r105 / 2 * z * (xx - yy),
        r35 * x * (xx - 3 * yy),
    ]


def _order(l: int) -> slice:  # noqa: E741  (the field's letter)
    return slice(l * l, (l + 1) ** 2)


def coupling(l1: int, l2: int, l3: int) -> Array:
    """Clebsch–Gordan coefficients of even l1 + l2 + l3, shape (2l3+1, 2l1+1, 2l2+1), squares summing to 2l3+1.

    For even sums they are proportional to the integral of the three harmonics over the sphere, taken here by a
    quadrature that is exact for its degree; its sign is the convention that the weights were trained in.
    """
    heights, weights = np.polynomial.legendre.leggauss(8)
    angles = np.arange(16) * (2 * np.pi / 16)
    radius = np.sqrt(1 - heights**2)[:, None]
    points = np.stack(np.broadcast_arrays(radius * np.cos(angles), radius * np.sin(angles), heights[:, None]))
    y = torch.stack(spherical_harmonics(torch.from_numpy(points.reshape(3, -1)))).numpy()
    weight = np.repeat(weights, 16)
    integral = np.einsum("q,kq,aq,bq->kab", weight, y[_order(l3)], y[_order(l1)], y[_order(l2)], optimize=True)
    integral[abs(integral) < 1e-10] = 0.0
    return np.asarray(integral * math.sqrt((2 * l3 + 1) / (integral**2).sum()))


@dataclass(frozen=True)
class Path:
    """One term of a tensor product: order l1 of the sender by l2 of the edge gives l3.

    Attributes:
        l1, l2, l3: the orders.
        channels: of the sender's features of order l1, and so of this output.
        offset: where its channels begin among all outputs of order l3.
        rows: its rows in `Graph.couplings`.
    """

    l1: int
    l2: int
    l3: int
    channels: int
    offset: int
    rows: slice


def _all_couplings() -> tuple[Array, dict[tuple[int, int, int], slice]]:
    """Coefficients of every path, shape (rows, 16), which turn an edge's harmonics into matrices, and their rows."""
    blocks: list[Array] = []
    rows: dict[tuple[int, int, int], slice] = {}
    start = 0
    for l1 in range(L_MAX + 1):
        for l2 in range(L_MAX + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, L_MAX) + 1, 2):
                block = np.zeros(((2 * l3 + 1) * (2 * l1 + 1), (L_MAX + 1) ** 2))
                block[:, _order(l2)] = coupling(l1, l2, l3).reshape(len(block), -1)
                blocks.append(block)
                rows[l1, l2, l3] = slice(start, start + len(block))
                start += len(block)
    return np.vstack(blocks), rows


COUPLINGS, COUPLING_ROWS = _all_couplings()


def paths_between(inputs: Sequence[int], outputs: Sequence[int]) -> list[Path]:
    """The paths of a layer from its channels by order before and after, in the order of the weights within each l3."""
    found = []
    filled = [0] * (L_MAX + 1)
    for l1, l2, l3 in sorted(COUPLING_ROWS):
        if l1 < len(inputs) and l3 < len(outputs):
            found.append(Path(l1, l2, l3, inputs[l1], filled[l3], COUPLING_ROWS[l1, l2, l3]))
            filled[l3] += inputs[l1]
    return found
