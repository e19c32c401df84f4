"""The search behind a registration: the warp of an axis and the resolution under which two densities are most alike.

Both are found by least squares between directions (curves of unit norm, smoothed). How a curve follows a warp or a
resolution is known in closed form: a mode moves with its place, and a Gaussian's share with its width.

Shapes: n warps, W widths, N bins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import ndtr

from defectnet.model.comparison.axis import CENTRES, EDGES, EVEN_TO, LEAST_SMEARING, WIDTHS, smoothing
from defectnet.spectrum import Spectrum

__all__ = ["SHARP", "WIDTHS_TRIED", "Pair", "bend", "borders_of", "units", "weighing"]

Array = NDArray[np.float64]

_ROOT = np.sqrt(WIDTHS)
_WITHIN = np.minimum(EDGES, EVEN_TO)
# Relative shifts of the bins' edges for a unit of each parameter of a warp.
_BENDS: Array = np.stack([np.ones_like(EDGES), np.sin(np.pi * _WITHIN), np.sin(2.0 * np.pi * _WITHIN)])
_STRETCHES = np.linspace(0.85, 1.18, 34)
# Densities are compared smoothed by these (sigma): where they may lie, how they lie, and in the end.
_ROUGH, _CLOSE, SHARP = 0.04, 0.02, 0.008
_BEND_PENALTY = 2.0
# When the search of a warp ends, and how it begins.
_LEAST_STEP, _MOST_STEPS, _FIRST_DAMPING = 1e-7, 30, 1e-3
_BOUNDS = (np.array([-0.2, -0.04, -0.04]), np.array([0.2, 0.04, 0.04]))
# Resolutions (sigma over energy) from which the search begins; 0 for a computed reference.
WIDTHS_TRIED = (0.0, 0.006, 0.0105, 0.018, 0.03, 0.05)
# A resolution is a line over the energy: bounds of its value at 0 (units of the axis) and of its slope, and lines from
# which it is sought. Narrower than the least (sigma) is none.
_WIDTH_BOUNDS = (np.array([0.0, -0.06]), np.array([0.1, 0.08]))
_LINES = ((0.0, 0.0), (0.006, 0.0), (0.008, -0.004), (0.015, -0.008), (0.03, -0.015), (0.05, -0.03))
_NARROW = 0.003
_USUAL = frozenset([*_LINES, *((0.0, width) for width in WIDTHS_TRIED)])
# Scales of the three parameters of a warp and the two of a resolution.
_SCALES = np.array([0.01, 0.005, 0.005, 0.005, 0.01])
# Beyond so many sigma a Gaussian has nothing left in double precision.
_FAR = 9.0
_LEAST_NORM = 1e-12


@dataclass(frozen=True, eq=False)
class Pair:
    """A measured reference and the computed host that is to be laid over it.

    Attributes:
        reference: as measured.
        computed: shape (N,), the host's density on its axis.
        top_thz: the host's highest frequency.
        cut: where the reference's visible part begins, in units of the axis.
    """

    reference: Spectrum
    computed: Array
    top_thz: float
    cut: float

    def found(self) -> tuple[Array, float, float, float]:
        """The best warp, shape (3,), slope and constant of the best resolution, and the likeness under both."""
        tried = np.zeros((_STRETCHES.size, 3))
        tried[:, 0] = _STRETCHES - 1.0
        looks = self._measured(tried, _ROUGH) @ self._expected(_ROUGH, _LINES[:1])[0]
        lines = [(0.0, width) for width in WIDTHS_TRIED]
        warps, costs = self._warps(self._expected(_CLOSE, lines), tried[int(np.argmax(looks))])
        best = int(np.argmin(costs))
        warp, width, constant = self._sharpened(warps[best], WIDTHS_TRIED[best])
        likeness = float(self._measured(warp[None], _CLOSE)[0] @ self._expected(_CLOSE, [(constant, width)])[0])
        return warp, width, constant, likeness

    @cached_property
    def _edges(self) -> Array:
        return self.top_thz * EDGES

    @cached_property
    def _bends(self) -> Array:
        """How the edges, THz, follow each parameter of a warp, shape (3, N + 1)."""
        return self._edges * _BENDS

    @cached_property
    def _known(self) -> tuple[Array, Array, Array]:
        """Borders, (m + 1,), the modes below each, and the densities before, between and behind them, (m + 2,)."""
        borders = borders_of(self.reference.frequency_thz)
        return borders, _modes(self.reference, borders), np.concatenate([[0.0], self.reference.dos, [0.0]])

    def _moved(self, warps: Array, slopes: bool) -> Array:
        """The reference on the host's axis by `warps`, (n, 3), and its `slopes` by their parameters: (n, 4, N)."""
        borders, modes, densities = self._known
        edges = self._edges + warps @ self._bends
        if not slopes:
            return (np.diff(np.interp(edges, borders, modes)) / WIDTHS)[:, None]
        # What lies between two borders is even: at an edge that moves, modes change by the density there.
        at = np.searchsorted(borders, edges, side="right")
        density = densities[at]
        at = np.minimum(np.maximum(at - 1, 0), modes.size - 1)
        found = np.empty((len(warps), 4, EDGES.size))
        found[:, 0] = modes[at] + density * (edges - borders[at])
        np.multiply(density[:, None], self._bends, out=found[:, 1:])
        return (found[..., 1:] - found[..., :-1]) / WIDTHS

    def _smoothed(self, curves: Array, sigma: float) -> Array:
        """What is visible of curves (..., N), smoothed and weighted."""
        return (curves * (self.cut < CENTRES) if self.cut else curves) @ weighing(sigma)

    def _measured(self, warps: Array, sigma: float) -> Array:
        """The reference on the host's axis under each of `warps`, (n, 3), smoothed: directions (n, N)."""
        return units(self._smoothed(self._moved(warps, slopes=False)[:, 0], sigma))

    def _expected(self, sigma: float, lines: Sequence[tuple[float, float]]) -> Array:
        """The computed host as instruments show it, by the constants and slopes of their resolutions: (n, N)."""
        return units(self._smoothed(np.stack([self._blurred(*line) for line in lines]), sigma))

    def _blurred(self, constant: float, slope: float) -> Array:
        if constant == slope == 0.0:
            return self.computed
        shares = _usual_shares(constant, slope) if (constant, slope) in _USUAL else _shares(constant, slope)
        return _of_shares(self.computed, shares)

    def _following(self, warps: Array, sigma: float) -> tuple[Array, Array]:
        """`_measured`, (n, N), and how it follows each parameter of the warp, (n, 3, N)."""
        return _unit_and_slopes(self._smoothed(self._moved(warps, slopes=True), sigma))

    def _warps(self, wanted: Array, start: Array) -> tuple[Array, Array]:
        """The warps that bring the reference closest to each of `wanted`, shape (W, N), and what is left of each.

        All widths take their steps (Levenberg and Marquardt's, held within `_BOUNDS`) together, each until it stays.

        Args:
            wanted: the directions that are sought.
            start: shape (3,).

        Returns:
            warps, shape (W, 3), and costs, shape (W,).
        """
        n = len(wanted)
        warps = np.clip(np.tile(start, (n, 1)), *_BOUNDS)
        costs, gradients, curvatures = self._looked_at(warps, wanted)
        damping = np.full(n, _FIRST_DAMPING)
        going = np.arange(n)
        for _ in range(_MOST_STEPS):
            slope, curvature = gradients[going], curvatures[going]
            damped = curvature + damping[going, None, None] * curvature * np.eye(3)
            # A warp at its bound stays there while the slope presses it outwards.
            at = warps[going]
            held = ((at <= _BOUNDS[0]) & (slope > 0)) | ((at >= _BOUNDS[1]) & (slope < 0))
            damped = np.where(held[:, :, None] | held[:, None], np.eye(3), damped)
            tried = np.clip(at + np.linalg.solve(damped, np.where(held, 0.0, -slope)[..., None])[..., 0], *_BOUNDS)
            found = self._looked_at(tried, wanted[going])
            better = found[0] < costs[going]
            moved = np.abs(tried - at).max(axis=1)
            taken = going[better]
            warps[taken] = tried[better]
            costs[taken], gradients[taken], curvatures[taken] = (new[better] for new in found)
            damping[going] *= np.where(better, 0.2, 5.0)
            going = going[moved >= _LEAST_STEP]
            if not going.size:
                break
        return warps, costs

    def _looked_at(self, warps: Array, wanted: Array) -> tuple[Array, Array, Array]:
        """Costs (n,), gradients (n, 3) and approximate curvatures (n, 3, 3)."""
        seen, slopes = self._following(warps, _CLOSE)
        bend = np.diag([0.0, _BEND_PENALTY, _BEND_PENALTY])
        left, bends = seen - wanted, warps @ bend
        costs = 0.5 * (np.square(left).sum(axis=1) + np.square(bends).sum(axis=1))
        gradients = (slopes @ left[:, :, None])[..., 0] + bends @ bend
        return costs, gradients, slopes @ slopes.transpose(0, 2, 1) + bend @ bend

    def _sharpened(self, warp: Array, width: float) -> tuple[Array, float, float]:
        """A warp, shape (3,), and the slope and constant of a resolution, by all five of them at once.

        Args:
            warp, width: what the coarser search found.
        """
        bounds = tuple(np.concatenate(pair) for pair in zip(_BOUNDS, _WIDTH_BOUNDS, strict=True))
        lines = [(0.0, width), *_LINES[1:]]
        left = self._measured(warp[None], SHARP) - self._expected(SHARP, lines)
        best = int(np.argmin(np.square(left).sum(axis=1)))
        if width == 0.0 and best == 0:
            return warp, 0.0, 0.0  # sharper than any resolution that was tried
        begin = np.clip(np.array([*warp, *lines[best]]), *bounds)
        found = least_squares(self._left, begin, self._left_slopes, bounds, x_scale=_SCALES, max_nfev=20).x
        constant, slope = float(found[3]), float(found[4])
        none = max(constant, constant + slope) <= _NARROW
        return found[:3], 0.0 if none else slope, 0.0 if none else constant

    def _left(self, values: Array) -> Array:
        """What is left, shape (N + 2,), under a warp, a constant and a slope: `values`, shape (5,)."""
        line = float(values[3]), float(values[4])
        there = self._measured(values[None, :3], SHARP)[0] - self._expected(SHARP, [line])[0]
        return np.concatenate([there, _BEND_PENALTY * values[1:3]])

    def _left_slopes(self, values: Array) -> Array:
        """How `_left` follows `values`, shape (N + 2, 5)."""
        found = np.zeros((CENTRES.size + 2, 5))
        found[:-2, :3] = self._following(values[None, :3], SHARP)[1][0].T
        line = float(values[3]), float(values[4])
        curves = np.stack([self._blurred(*line), *_blurring_slopes(self.computed, *line)])
        found[:-2, 3:] = -_unit_and_slopes(self._smoothed(curves[None], SHARP))[1][0].T
        found[-2, 1] = found[-1, 2] = _BEND_PENALTY
        return found


def bend(u: Array, warp: Array) -> Array:
    """The relative shift of places `u`, same shape, by a warp, shape (3,)."""
    within = np.minimum(u, EVEN_TO)
    return np.asarray(warp[0] + warp[1] * np.sin(np.pi * within) + warp[2] * np.sin(2.0 * np.pi * within))


def borders_of(axis: Array) -> Array:
    """Where the bins of an axis, shape (n,), begin and end, shape (n + 1,); none begins below 0."""
    middle = 0.5 * (axis[1:] + axis[:-1])
    first, last = axis[0] - (middle[0] - axis[0]), axis[-1] + (axis[-1] - middle[-1])
    return np.concatenate([[max(first, 0.0)], middle, [last]])


def units(curves: Array) -> Array:
    """Curves (..., N) of unit norm."""
    return np.asarray(curves / np.maximum(np.linalg.norm(curves, axis=-1, keepdims=True), _LEAST_NORM))


def _modes(spectrum: Spectrum, borders: Array) -> Array:
    """Modes below each border."""
    return np.concatenate([[0.0], np.cumsum(spectrum.dos * np.diff(borders))])


def _unit_and_slopes(curves: Array) -> tuple[Array, Array]:
    """Curves of unit norm, (n, N), and their slopes, (n, m, N), from curves and theirs, (n, 1 + m, N)."""
    norms = np.maximum(np.linalg.norm(curves[:, :1], axis=-1, keepdims=True), _LEAST_NORM)
    curves = curves / norms
    unit, slopes = curves[:, :1], curves[:, 1:]
    return unit[:, 0], slopes - (slopes @ unit.transpose(0, 2, 1)) * unit


@cache
def weighing(sigma: float) -> Array:
    """Shape (N, N): smooths, and weighs so that products are integrals."""
    return np.asarray(smoothing(sigma).double().numpy() * _ROOT)


def _places(constant: float, slope: float) -> tuple[Array, Array, NDArray[np.bool_]]:
    """For a mode of each bin its Gaussian's sigma, (N, 1), where the edges lie in it, (N, N + 1), and which matter."""
    sigma = np.maximum(constant + slope * CENTRES, LEAST_SMEARING)[:, None]
    places = (EDGES - CENTRES[:, None]) / sigma
    return sigma, places, np.abs(places) < _FAR


def _shares(constant: float, slope: float) -> Array:
    """The share of a mode of each bin that is seen below each edge, shape (N, N + 1)."""
    _, places, near = _places(constant, slope)
    shares = np.asarray(places > 0.0, dtype=np.float64)
    shares[near] = ndtr(places[near])
    return shares


@cache
def _usual_shares(constant: float, slope: float) -> Array:
    return _shares(constant, slope)


def _of_shares(density: Array, shares: Array) -> Array:
    return np.diff((density * WIDTHS) @ shares) / WIDTHS


def _blurring_slopes(density: Array, constant: float, slope: float) -> tuple[Array, Array]:
    """How a blurred density follows the constant and the slope of the resolution, each of shape (N,)."""
    sigma, places, near = _places(constant, slope)
    falls = np.zeros_like(places)
    falls[near] = -places[near] * np.exp(-0.5 * np.square(places[near])) / np.sqrt(2.0 * np.pi)
    falls *= (sigma > LEAST_SMEARING) / sigma
    return _of_shares(density, falls), _of_shares(density * CENTRES, falls)
