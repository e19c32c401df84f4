"""Lay a computed host over a measured reference: a smooth warp of the axis, and a width.

A computed crystal is a few per cent too stiff or too soft, and a spectrometer broadens. Both are found from the
pristine densities alone, and what they are for the host holds for the responses too: the measured spectra are moved
onto the computed axis, the responses are smeared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from defectnet.model.comparison.axis import CENTRES, EDGES, EVEN_TO, WIDTHS, smearing, smoothing
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["LEAST_LIKENESS", "WIDTHS_TRIED", "Registration", "register", "smeared"]

Array = NDArray[np.float64]

_ROOT = np.sqrt(WIDTHS)
# Below this cosine the computed density is not that of the reference's crystal, or not of this kind.
LEAST_LIKENESS = 0.85
# Resolutions (sigma over energy) from which the search begins; 0 for a computed reference.
WIDTHS_TRIED = (0.0, 0.006, 0.0105, 0.018, 0.03, 0.05)
_STRETCHES = np.linspace(0.85, 1.18, 34)
_ROUGH, _CLOSE, _SHARP = 0.04, 0.02, 0.008
# A reference that lies this close to the computed density as it is needs no warp.
_EQUAL = 0.9999
_BEND_PENALTY = 2.0
# How far warps are moved to see how the reference follows, when the search ends, and how it begins.
_NUDGE, _LEAST_STEP, _MOST_STEPS, _FIRST_DAMPING = 1e-6, 1e-7, 30, 1e-3
_BOUNDS = (np.array([-0.2, -0.04, -0.04]), np.array([0.2, 0.04, 0.04]))
# A resolution is a line over the energy: bounds of its value at 0 (units of the axis) and of its slope, and lines from
# which it is sought. Narrower than the least (sigma) is none.
_WIDTH_BOUNDS = (np.array([0.0, -0.06]), np.array([0.1, 0.08]))
_LINES = ((0.006, 0.0), (0.008, -0.004), (0.015, -0.008), (0.03, -0.015), (0.05, -0.03))
_NARROW = 0.003
# Scales of the three parameters of a warp and the two of a resolution.
_SCALES = np.array([0.01, 0.005, 0.005, 0.005, 0.01])
# Measured axes that a registration remembers how to read.
_AXES_KEPT = 4
# Where a spectrum has less than this share of its greatest density, from 0 up, it was cut off.
_CUT_OFF = 1e-3
_LEAST_CUT = 0.03


@dataclass(frozen=True, eq=False)
class Registration:
    """How a measured axis lies on the host's.

    Attributes:
        top_thz: the host's highest frequency, computed.
        warp: stretch and two bends: u of the host is seen at u (1 + s + b₁ sin πu + b₂ sin 2πu).
        width, constant: resolution of the reference: sigma at u is `constant` + `width` · u; both 0 for none.
        cut: where the reference's visible part begins, in units of the axis; 0 where nothing was cut off.
        visible: share of the host's modes above `cut`.
        likeness: cosine of the two densities after all of this.
    """

    top_thz: float
    warp: tuple[float, float, float]
    width: float
    cut: float
    visible: float
    likeness: float
    constant: float = 0.0

    @property
    def stretch(self) -> float:
        """Mean factor by which the measured frequencies exceed the computed ones, less 1."""
        return self.warp[0]

    def measured_thz(self, u: Array) -> Array:
        """Where places of the host's axis lie on the measured one, THz."""
        return np.asarray(self.top_thz * u * (1.0 + _bend(u, np.array(self.warp))))

    def on_host_axis(self, spectrum: Spectrum) -> Array:
        """A measured density on the host's axis, shape (N_BINS,); it integrates to the visible modes."""
        axis = spectrum.frequency_thz.tobytes()
        read = self._read.get(axis)
        if read is None:
            if len(self._read) >= _AXES_KEPT:
                self._read.clear()
            read = self._read[axis] = _reading(spectrum.frequency_thz, self.measured_thz(EDGES))
        return self._of_visible_modes(read(spectrum.dos) * self._shown)

    @cached_property
    def _read(self) -> "dict[bytes, _Reading]":
        """By measured axes: most samples of a reference have its own."""
        return {}

    @cached_property
    def _shown(self) -> Array:
        return np.asarray((self.cut < CENTRES) / WIDTHS)

    def as_seen(self, density: Array) -> Array:
        """A computed density on the host's axis, shape (N_BINS,), as the registered spectrum's instrument shows it."""
        return self._of_visible_modes(smeared(density.astype(np.float32), self).astype(np.float64))

    def _of_visible_modes(self, density: Array) -> Array:
        return np.asarray(density * (MODES_PER_ATOM * self.visible / max(float(density @ WIDTHS), 1e-12)))


def register(reference: Spectrum, computed: Array, top_thz: float) -> Registration:
    """Find the registration of a measured reference on a computed host.

    Args:
        reference: the pristine crystal's density as measured.
        computed: shape (N_BINS,), the host's on its axis.
        top_thz: the host's highest frequency.
    """
    cut = _cut_of(_means(reference, top_thz * EDGES))
    shown = np.asarray(cut < CENTRES, dtype=np.float64)
    visible = float((computed * shown) @ WIDTHS / max(float(computed @ WIDTHS), 1e-12))

    def measured(warps: Array, smooth: Array) -> Array:
        """The reference on the host's axis, warped by each of `warps`, shape (n, 3), smoothed: directions (n, N)."""
        moved = _means(reference, top_thz * EDGES * (1.0 + _bend(EDGES, warps[:, :, None])))
        return _units((moved * shown @ smooth) * _ROOT)

    def expected(width: float, smooth: Array, constant: float = 0.0) -> Array:
        """The computed host as an instrument of this width shows it."""
        seen = computed if width == constant == 0.0 else computed @ _smearing(width, constant)
        return _units(((seen * shown) @ smooth) * _ROOT)

    rough, close, sharp = (_smoothing(sigma) for sigma in (_ROUGH, _CLOSE, _SHARP))
    likeness = float(measured(np.zeros((1, 3)), sharp)[0] @ expected(0.0, sharp))
    if likeness > _EQUAL:
        return Registration(top_thz, (0.0, 0.0, 0.0), 0.0, cut, visible, likeness)
    tried = np.zeros((_STRETCHES.size, 3))
    tried[:, 0] = _STRETCHES - 1.0
    looks = measured(tried, rough) @ expected(0.0, rough)
    wanted = np.stack([expected(width, close) for width in WIDTHS_TRIED])
    warps, costs = _fitted(lambda warps: measured(warps, close), wanted, tried[int(np.argmax(looks))])
    best = int(np.argmin(costs))

    def left(values: Array) -> Array:
        there = measured(values[None, :3], sharp)[0] - expected(values[4], sharp, values[3])
        return np.concatenate([there, _BEND_PENALTY * values[1:3]])

    warp, width, constant = _sharpened(left, warps[best], WIDTHS_TRIED[best])
    likeness = float(measured(warp[None], close)[0] @ expected(width, close, constant))
    bends = float(warp[0]), float(warp[1]), float(warp[2])
    return Registration(top_thz, bends, width, cut, visible, likeness, constant)


def _sharpened(left: Callable[[Array], Array], warp: Array, width: float) -> tuple[Array, float, float]:
    """A warp, shape (3,), and the slope and constant of a resolution, from what is `left` by all five of them.

    Args:
        left: of the warp, the constant and the slope, shape (5,).
        warp, width: what the coarser search found.
    """
    bounds = tuple(np.concatenate(pair) for pair in zip(_BOUNDS, _WIDTH_BOUNDS, strict=True))
    starts = [np.clip(np.array([*warp, *line]), *bounds) for line in ((0.0, width), *_LINES)]
    costs = [float(np.square(left(values)).sum()) for values in starts]
    begin = starts[int(np.argmin(costs))]
    if width == 0.0 and begin is starts[0]:
        return warp, 0.0, 0.0  # sharper than any resolution that was tried
    found = least_squares(left, begin, bounds=bounds, diff_step=1e-3, x_scale=_SCALES, max_nfev=20).x
    constant, slope = float(found[3]), float(found[4])
    none = max(constant, constant + slope) <= _NARROW
    return found[:3], 0.0 if none else slope, 0.0 if none else constant


def _fitted(measured: Callable[[Array], Array], wanted: Array, start: Array) -> tuple[Array, Array]:
    """The warps that bring the reference closest to each of `wanted`, shape (W, N), and what is left of each.

    All widths take their steps (Levenberg and Marquardt's, held within `_BOUNDS`) together, which costs a tenth of one
    after the other.

    Args:
        measured: the directions, shape (n, N), under n warps, shape (n, 3).
        wanted: the directions that are sought.
        start: shape (3,).

    Returns:
        warps, shape (W, 3), and costs, shape (W,).
    """
    n = len(wanted)
    nudges = _NUDGE * np.vstack([np.zeros(3), np.eye(3)])
    bend = np.diag([0.0, _BEND_PENALTY, _BEND_PENALTY])

    def looked_at(warps: Array) -> tuple[Array, Array, Array]:
        """Costs (W,), gradients (W, 3) and approximate curvatures (W, 3, 3)."""
        seen = measured((warps[:, None] + nudges).reshape(-1, 3)).reshape(n, 4, -1)
        left, bends = seen[:, 0] - wanted, warps @ bend
        slopes = (seen[:, 1:] - seen[:, :1]) / _NUDGE
        costs = 0.5 * (np.square(left).sum(axis=1) + np.square(bends).sum(axis=1))
        gradients = (slopes @ left[:, :, None])[..., 0] + bends @ bend
        return costs, gradients, slopes @ slopes.transpose(0, 2, 1) + bend @ bend

    warps = np.clip(np.tile(start, (n, 1)), *_BOUNDS)
    costs, gradients, curvatures = looked_at(warps)
    damping = np.full(n, _FIRST_DAMPING)
    for _ in range(_MOST_STEPS):
        damped = curvatures + damping[:, None, None] * curvatures * np.eye(3)
        # A warp at its bound stays there while the slope presses it outwards.
        held = ((warps <= _BOUNDS[0]) & (gradients > 0)) | ((warps >= _BOUNDS[1]) & (gradients < 0))
        damped = np.where(held[:, :, None] | held[:, None], np.eye(3), damped)
        steps = np.linalg.solve(damped, np.where(held, 0.0, -gradients)[..., None])[..., 0]
        tried = np.clip(warps + steps, *_BOUNDS)
        found = looked_at(tried)
        better = found[0] < costs
        moved = float(np.abs(tried - warps).max())
        warps = np.where(better[:, None], tried, warps)
        costs, gradients, curvatures = (
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(found, (costs, gradients, curvatures), strict=True)
        )
        damping = np.where(better, damping / 5.0, damping * 5.0)
        if moved < _LEAST_STEP:
            break
    return warps, costs


@cache
def _smoothing(sigma: float) -> Array:
    return np.asarray(smoothing(sigma).double().numpy())


@lru_cache(maxsize=64)
def _smearing(width: float, constant: float) -> Array:
    return np.asarray(smearing(width, constant).double().numpy())


def _bend(u: Array, warp: Array) -> Array:
    """The relative shift of places `u`; warps of shape (n, 3, 1) give a row each."""
    within = np.minimum(u, EVEN_TO)
    warp = np.moveaxis(warp, -2, 0) if warp.ndim > 1 else warp
    return np.asarray(warp[0] + warp[1] * np.sin(np.pi * within) + warp[2] * np.sin(2.0 * np.pi * within))


@dataclass(frozen=True, eq=False)
class _Reading:
    """How a density on one axis is read between edges.

    Attributes:
        widths: shape (n,), of the axis' bins, THz.
        below, part: for each edge the bin's border below it, and how far it lies towards the next.
    """

    widths: Array
    below: NDArray[np.int64]
    part: Array

    def __call__(self, dos: Array) -> Array:
        """The modes between edges."""
        modes = np.zeros(dos.size + 1)
        np.cumsum(dos * self.widths, out=modes[1:])
        at = modes[self.below]
        at += (modes[self.below + 1] - at) * self.part
        return np.asarray(at[1:] - at[:-1])


def _reading(axis: Array, edges_thz: Array) -> _Reading:
    borders = _borders(axis)
    widths = np.diff(borders)
    below = np.clip(np.searchsorted(borders, edges_thz, side="right") - 1, 0, axis.size - 1)
    return _Reading(widths, below, np.clip((edges_thz - borders[below]) / widths[below], 0.0, 1.0))


def _borders(axis: Array) -> Array:
    """Where the bins of an axis, shape (n,), begin and end, shape (n + 1,); none begins below 0."""
    middle = 0.5 * (axis[1:] + axis[:-1])
    first, last = axis[0] - (middle[0] - axis[0]), axis[-1] + (axis[-1] - middle[-1])
    return np.concatenate([[max(first, 0.0)], middle, [last]])


def _means(spectrum: Spectrum, edges_thz: Array) -> Array:
    """Mean density of a spectrum between edges, times the mean width in THz of a unit of the axis."""
    borders = _borders(spectrum.frequency_thz)
    modes = np.concatenate([[0.0], np.cumsum(spectrum.dos * np.diff(borders))])
    return np.asarray(np.diff(np.interp(edges_thz, borders, modes)) / WIDTHS)


def _cut_of(density: Array) -> float:
    shown = np.flatnonzero(density > _CUT_OFF * density.max())
    start = float(EDGES[shown[0]]) if shown.size else 0.0
    return start if start > _LEAST_CUT else 0.0


def _units(curves: Array) -> Array:
    return np.asarray(curves / np.maximum(np.linalg.norm(curves, axis=-1, keepdims=True), 1e-12))


def smeared(curves: NDArray[np.float32], registration: Registration) -> NDArray[np.float32]:
    """Responses (..., N_BINS) as the reference's instrument shows them: smeared, and cut off where it is."""
    if registration.width or registration.constant:
        curves = np.asarray(curves @ _smearing(registration.width, registration.constant).astype(np.float32))
    if registration.cut > 0.0:
        curves = np.asarray(curves * (registration.cut < CENTRES))
    return curves
