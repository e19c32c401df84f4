"""Lay a computed host over a measured reference: a smooth warp of the axis, and a width.

A computed crystal is a few per cent too stiff or too soft, and a spectrometer broadens. Both are found from the
pristine densities alone, and what they are for the host holds for the responses too: the measured spectra are moved
onto the computed axis, the responses are smeared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from defectnet.model.comparison.axis import CENTRES, EDGES, WIDTHS, smearing, smoothing
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["LEAST_LIKENESS", "WIDTHS_TRIED", "Registration", "register", "smeared"]

Array = NDArray[np.float64]

# Below this cosine the computed density is not that of the reference's crystal, or not of this kind.
LEAST_LIKENESS = 0.85
# Resolutions (sigma over energy) that a reference may have; 0 for a computed one.
WIDTHS_TRIED = (0.0, 0.006, 0.0105, 0.018, 0.03, 0.05)
_STRETCHES = np.linspace(0.85, 1.18, 34)
_ROUGH, _CLOSE = 0.04, 0.02
# A reference that lies this close to the computed density as it is needs no warp.
_EQUAL = 0.9999
_BEND_PENALTY = 2.0
_BOUNDS = (np.array([-0.2, -0.04, -0.04]), np.array([0.2, 0.04, 0.04]))
# Where a spectrum has less than this share of its greatest density, from 0 up, it was cut off.
_CUT_OFF = 1e-3
_LEAST_CUT = 0.03


@dataclass(frozen=True, eq=False)
class Registration:
    """How a measured axis lies on the host's.

    Attributes:
        top_thz: the host's highest frequency, computed.
        warp: stretch and two bends: u of the host is seen at u (1 + s + b₁ sin πu + b₂ sin 2πu).
        width: resolution (sigma over energy) of the reference, one of `WIDTHS_TRIED`.
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

    @property
    def stretch(self) -> float:
        """Mean factor by which the measured frequencies exceed the computed ones, less 1."""
        return self.warp[0]

    def measured_thz(self, u: Array) -> Array:
        """Where places of the host's axis lie on the measured one, THz."""
        return np.asarray(self.top_thz * u * (1.0 + _bend(u, np.array(self.warp))))

    def on_host_axis(self, spectrum: Spectrum) -> Array:
        """A measured density on the host's axis, shape (N_BINS,); it integrates to the visible modes."""
        edges = self.measured_thz(EDGES)
        density = _means(spectrum, edges) * (self.cut < CENTRES)
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
    root = np.sqrt(WIDTHS)
    rough, close = (smoothing(s).double().numpy() for s in (_ROUGH, _CLOSE))

    def measured(warp: Array, smooth: Array = close) -> Array:
        """The reference on the host's axis, smoothed, as a direction."""
        moved = _means(reference, top_thz * EDGES * (1.0 + _bend(EDGES, warp)))
        return _unit((moved * shown @ smooth) * root)

    def expected(width: float, smooth: Array = close) -> Array:
        """The computed host as an instrument of this width shows it."""
        seen = computed if width == 0.0 else computed @ smearing(width).double().numpy()
        return _unit(((seen * shown) @ smooth) * root)

    likeness = float(measured(np.zeros(3)) @ expected(0.0))
    if likeness > _EQUAL:
        return Registration(top_thz, (0.0, 0.0, 0.0), 0.0, cut, visible, likeness)
    roughly = expected(0.0, rough)
    looks = [float(measured(np.array([s - 1.0, 0.0, 0.0]), rough) @ roughly) for s in _STRETCHES]
    start = float(_STRETCHES[int(np.argmax(looks))]) - 1.0
    best: tuple[float, Array, float] | None = None
    for width in WIDTHS_TRIED:
        wanted = expected(width)

        def left(warp: Array, wanted: Array = wanted) -> Array:
            return np.concatenate([measured(warp) - wanted, _BEND_PENALTY * warp[1:]])

        found = least_squares(left, np.array([start, 0.0, 0.0]), bounds=_BOUNDS, diff_step=1e-3, max_nfev=12)
        if best is None or found.cost < best[0]:
            best = float(found.cost), found.x, width
    assert best is not None
    _, warp, width = best
    likeness = float(measured(warp) @ expected(width))
    return Registration(top_thz, (float(warp[0]), float(warp[1]), float(warp[2])), width, cut, visible, likeness)


def _bend(u: Array, warp: Array) -> Array:
    within = np.minimum(u, 1.2)
    return np.asarray(warp[0] + warp[1] * np.sin(np.pi * within) + warp[2] * np.sin(2.0 * np.pi * within))


def _means(spectrum: Spectrum, edges_thz: Array) -> Array:
    """Mean density of a spectrum between edges, times the mean width in THz of a unit of the axis."""
    axis = spectrum.frequency_thz
    middle = 0.5 * (axis[1:] + axis[:-1])
    first, last = axis[0] - (middle[0] - axis[0]), axis[-1] + (axis[-1] - middle[-1])
    borders = np.concatenate([[max(first, 0.0)], middle, [last]])
    modes = np.concatenate([[0.0], np.cumsum(spectrum.dos * np.diff(borders))])
    return np.asarray(np.diff(np.interp(edges_thz, borders, modes)) / WIDTHS)


def _cut_of(density: Array) -> float:
    shown = np.flatnonzero(density > _CUT_OFF * density.max())
    start = float(EDGES[shown[0]]) if shown.size else 0.0
    return start if start > _LEAST_CUT else 0.0


def _unit(curve: Array) -> Array:
    return np.asarray(curve / max(float(np.linalg.norm(curve)), 1e-12))


def smeared(curves: NDArray[np.float32], registration: Registration) -> NDArray[np.float32]:
    """Responses (..., N_BINS) as the reference's instrument shows them: smeared, and cut off where it is."""
    if registration.width > 0.0:
        curves = np.asarray(curves @ smearing(registration.width).numpy())
    if registration.cut > 0.0:
        curves = np.asarray(curves * (registration.cut < CENTRES))
    return curves
