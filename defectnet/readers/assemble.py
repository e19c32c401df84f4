"""From the plain arrays of any format to a checked `Reading`: what every reader does last.

Bins given by their edges, counts for each bin, points without a value at the ends, a falling axis, an empty tail far
beyond any phonon: each is understood and said. What may make a spectrum mean something else (energy gain, an elastic
line, a range that is cut off) becomes a note.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from defectnet.errors import SpectrumError
from defectnet.readers.reading import AxisUnit, Broadening, Column, Reading, located, usable_error
from defectnet.spectrum import HIGHEST_THZ, LOWEST_TOP_THZ, Spectrum

__all__ = ["Found", "assemble", "remarks"]

Array = NDArray[np.float64]

# No phonon is faster than the H2 stretch (125 THz); what is measured beyond is overtones, combinations and background.
_BEYOND_PHONONS_THZ = 135.0
# A tail beyond it is empty where no density of it exceeds this share of the largest.
_EMPTY = 0.02
# Bins whose widths differ by more than this are unequal: counts in them are no densities.
_EQUAL_WIDTHS = 0.02
# Share of the density at negative energies that is worth a word; broadening at 0 alone makes less.
_NEGATIVE_SHARE = 0.02
# A density of states rises from zero as the square of the frequency: so much of the largest density within so much of
# the top frequency about zero is an elastic line (or a background).
_ELASTIC_DENSITY, _ELASTIC_RANGE = 0.4, 0.02
# A density of so much of the largest at the last point has been cut off there.
_CUT_DENSITY = 0.1


@dataclass(frozen=True, eq=False)
class Found:
    """What a format's reader found, in the file's own unit.

    Attributes:
        x: shape (n,) or, for edges of bins, (n + 1,).
        y: shape (n,), densities, or counts for each bin.
        error: shape (n,), standard errors of `y`, NaN where there is none.
        widths: shape (n,), of the bins, where `x` are centres whose bins are known.
        counts: whether `y` counts what fell into each bin; None where nobody says.
    """

    x: ArrayLike
    y: ArrayLike
    error: ArrayLike | None = None
    partial: Mapping[str, ArrayLike] = field(default_factory=dict)
    widths: ArrayLike | None = None
    counts: bool | None = None
    kind: str | None = None
    weighting: str = ""
    broadening: Broadening | None = None
    origin: str | None = None
    columns: Sequence[Column] = ()
    notes: Sequence[str] = ()


def assemble(found: Found, unit: AxisUnit, what: str, where: str) -> Reading:
    """Make a reading of what was found.

    Args:
        found: the arrays and what the file says of them.
        unit: of the axis.
        what: the format, for people.
        where: the file's name.

    Raises:
        SpectrumError: the arrays are no spectrum; names the place in the file.
    """
    notes = [*unit.notes, *found.notes]
    x, y = _flat(found.x, where), _flat(found.y, where)
    error = None if found.error is None else _flat(found.error, where)
    partial = {name: _flat(values, where) for name, values in found.partial.items()}
    widths = None if found.widths is None else _flat(found.widths, where)
    if x.size == y.size + 1 > 2:
        widths, x = np.abs(np.diff(x)), 0.5 * (x[1:] + x[:-1])
    if any(other.size != y.size for other in (x, *partial.values(), *(() if error is None else (error,)))):
        raise SpectrumError(
            f"{y.size} densities for {x.size} frequencies in {where}", fix="give one density per point", field="dos"
        )
    if found.counts:
        y, error, partial = _to_densities(x, y, error, partial, widths, where, notes)
    order = _kept(x, y, notes)
    x, y = x[order], y[order]
    error = None if error is None else error[order]
    partial = {name: values[order] for name, values in partial.items()}
    end = _without_tail(x * unit.thz, y, notes)
    try:
        spectrum = Spectrum(x[:end] * unit.thz, y[:end] / unit.thz)
    except SpectrumError as problem:
        raise located(problem, where) from None
    if spectrum.top_thz() < LOWEST_TOP_THZ:
        raise SpectrumError(
            f"all of the density in {where} lies below {spectrum.top_thz():.2g} THz",
            fix="check the unit, and take the elastic line out",
            field="frequency",
        )
    return Reading(
        spectrum,
        None if error is None else usable_error(error[:end].tolist(), unit.thz, where),
        partial={name: np.nan_to_num(values[:end]) / unit.thz for name, values in partial.items()},
        kind=found.kind,
        format=what,
        unit=unit,
        columns=tuple(found.columns),
        weighting=found.weighting,
        broadening=found.broadening,
        origin=found.origin,
        notes=(*notes, *remarks(spectrum)),
    )


def _flat(values: ArrayLike, where: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise SpectrumError(f"{where} has densities of shape {array.shape}", fix="reduce it to one", field="file")
    return array


def _to_densities(
    x: Array,
    y: Array,
    error: Array | None,
    partial: dict[str, Array],
    widths: Array | None,
    where: str,
    notes: list[str],
) -> tuple[Array, Array | None, dict[str, Array]]:
    """Counts for each bin over the bin's width, where the widths differ; equal ones change the scale alone."""
    if widths is None:
        steps = np.abs(np.diff(x))
        if steps.size and steps.max() > (1 + _EQUAL_WIDTHS) * steps.min():
            raise SpectrumError(
                f"{where} gives counts at points that are not evenly spaced",
                fix="give a density (counts over the bin's width), and name its column so",
                field="dos",
            )
        return y, error, partial
    if not (widths > 0).all():
        raise SpectrumError(f"{where} has bins without a width", fix="repair the bins' edges", field="frequency")
    if widths.max() <= (1 + _EQUAL_WIDTHS) * widths.min():
        return y, error, partial
    notes.append("its counts were divided by the widths of their bins, which differ")
    return y / widths, None if error is None else error / widths, {n: values / widths for n, values in partial.items()}


def _kept(x: Array, y: Array, notes: list[str]) -> Any:
    """Which points to keep, in rising order of the axis."""
    order: Any = slice(None)
    known = np.isfinite(x) & ~np.isnan(y)
    if known.any() and not known.all():
        first, last = int(np.argmax(known)), int(known.size - np.argmax(known[::-1]))
        dropped = known.size - (last - first)
        if dropped:
            notes.append(f"{dropped} points without a value at the ends were left out")
        order = np.arange(first, last)
        x = x[order]
    if x.size > 1 and np.all(np.diff(x) < 0):
        notes.append("its axis falls and was turned round")
        order = (np.arange(known.size) if isinstance(order, slice) else order)[::-1]
    return order


def _without_tail(x_thz: Array, y: Array, notes: list[str]) -> int:
    """How many points to keep of an axis that goes far beyond any phonon, where there is nothing in that tail."""
    if not x_thz.size or not x_thz[-1] > HIGHEST_THZ:
        return int(x_thz.size)
    end = int(np.searchsorted(x_thz, _BEYOND_PHONONS_THZ))
    top = np.nanmax(y, initial=0.0)
    if not np.nanmax(np.abs(y[end:]), initial=0.0) <= _EMPTY * top:
        return int(x_thz.size)
    notes.append(f"its axis goes on to {x_thz[-1]:.0f} THz; the empty end beyond {x_thz[end - 1]:.0f} THz was left out")
    return end


def remarks(spectrum: Spectrum) -> list[str]:
    """What about a spectrum may make it mean something else than a whole density of states."""
    f, dos = spectrum.frequency_thz, np.maximum(spectrum.dos, 0.0)
    weight = dos * np.gradient(f)
    top_thz, largest = spectrum.top_thz(), float(dos.max())
    notes = []
    negative = float(weight[f < 0].sum() / weight.sum())
    if negative > _NEGATIVE_SHARE:
        notes.append(f"{negative:.0%} of its density is at negative energies, which are not used")
    about_zero = np.abs(f) <= _ELASTIC_RANGE * top_thz
    if about_zero.any() and dos[about_zero].max() > _ELASTIC_DENSITY * largest:
        notes.append("it has a peak at zero energy: take the elastic line out, it is no phonon")
    if dos[-1] > _CUT_DENSITY * largest:
        notes.append(
            f"it is cut off at {f[-1]:.4g} THz, where the density is still {dos[-1] / largest:.0%} of its largest"
        )
    if f[0] > 0.1 * top_thz and dos[0] > _CUT_DENSITY * largest:
        notes.append(f"it begins at {f[0]:.4g} THz, where the density is already {dos[0] / largest:.0%} of its largest")
    return notes
