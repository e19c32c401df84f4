"""Lay a computed host over a measured reference: a smooth warp of the axis, and a width.

A computed crystal is a few per cent too stiff or too soft, and a spectrometer broadens. Both are found from the
pristine densities alone, and what they are for the host holds for the responses too: the measured spectra are moved
onto the computed axis, the responses are smeared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from defectnet.model.comparison.axis import CENTRES, EDGES, WIDTHS, smearing
from defectnet.model.comparison.warping import SHARP, Pair, bend, borders_of, units, weighing
from defectnet.spectrum import MODES_PER_ATOM, Spectrum

__all__ = ["EQUAL", "LEAST_LIKENESS", "Registration", "moved", "register", "smeared", "unmoved"]

Array = NDArray[np.float64]

# Below this cosine the computed density is not that of the reference's crystal, or not of this kind.
LEAST_LIKENESS = 0.85
# A reference that lies this close to the computed density as it is, sharply smoothed, needs no warp.
EQUAL = 0.9999
_NO_WARP = (0.0, 0.0, 0.0)
# Samples have the axis of their reference, and so have many rows of a table.
_AXES_KEPT = 256
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
        return np.asarray(self.top_thz * u * (1.0 + bend(u, np.array(self.warp))))

    def on_host_axis(self, spectrum: Spectrum) -> Array:
        """A measured density on the host's axis, shape (N_BINS,); it integrates to the visible modes."""
        read = _reading(spectrum.frequency_thz.tobytes(), self.top_thz, self.warp)
        return self._of_visible_modes(read(spectrum.dos) * self._shown)

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
    (found,) = unmoved([reference], computed[None], np.array([top_thz]))
    return found if found.likeness > EQUAL else moved(reference, computed, found)


def unmoved(references: Sequence[Spectrum], computed: Array, tops_thz: Array) -> list[Registration]:
    """References on computed hosts as they are, each with its likeness; above `EQUAL` they need no warp.

    Args:
        references: n of them.
        computed, tops_thz: shapes (n, N_BINS) and (n,), as in `register`.
    """
    here = zip(references, tops_thz.tolist(), strict=True)
    seen = np.stack([_reading(one.frequency_thz.tobytes(), top, _NO_WARP)(one.dos) for one, top in here]) / WIDTHS
    cuts = np.array([_cut_of(one) for one in seen])
    shown = cuts[:, None] < CENTRES
    measured, expected = (units((curves * shown) @ weighing(SHARP)) for curves in (seen, computed))
    visible = (computed * shown) @ WIDTHS / np.maximum(computed @ WIDTHS, 1e-12)
    likeness = np.einsum("ij,ij->i", measured, expected)
    numbers = zip(tops_thz.tolist(), cuts.tolist(), visible.tolist(), likeness.tolist(), strict=True)
    return [Registration(top, _NO_WARP, 0.0, cut, share, alike) for top, cut, share, alike in numbers]


def moved(reference: Spectrum, computed: Array, as_it_is: Registration) -> Registration:
    """The registration of a reference that is not `EQUAL` to the computed host as it is."""
    pair = Pair(reference, computed, as_it_is.top_thz, as_it_is.cut)
    warp, width, constant, likeness = pair.found()
    bends = float(warp[0]), float(warp[1]), float(warp[2])
    return replace(as_it_is, warp=bends, width=width, constant=constant, likeness=likeness)


@lru_cache(maxsize=64)
def _smearing(width: float, constant: float) -> Array:
    return np.asarray(smearing(width, constant).double().numpy())


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


@lru_cache(maxsize=_AXES_KEPT)
def _reading(axis: bytes, top_thz: float, warp: tuple[float, float, float]) -> _Reading:
    """How densities on a measured axis, THz, are read between the edges of a host's bins."""
    axis_thz = np.frombuffer(axis, dtype=np.float64)
    edges_thz = top_thz * EDGES * (1.0 + bend(EDGES, np.array(warp)))
    borders = borders_of(axis_thz)
    widths = np.diff(borders)
    below = np.clip(np.searchsorted(borders, edges_thz, side="right") - 1, 0, axis_thz.size - 1)
    return _Reading(widths, below, np.clip((edges_thz - borders[below]) / widths[below], 0.0, 1.0))


def _cut_of(density: Array) -> float:
    shown = np.flatnonzero(density > _CUT_OFF * density.max())
    start = float(EDGES[shown[0]]) if shown.size else 0.0
    return start if start > _LEAST_CUT else 0.0


def smeared(curves: NDArray[np.float32], registration: Registration) -> NDArray[np.float32]:
    """Responses (..., N_BINS) as the reference's instrument shows them: smeared, and cut off where it is."""
    if registration.width or registration.constant:
        curves = np.asarray(curves @ _smearing(registration.width, registration.constant).astype(np.float32))
    if registration.cut > 0.0:
        curves = np.asarray(curves * (registration.cut < CENTRES))
    return curves
