"""Curves over one frequency axis as SVG: the drawing of the service's page (`serving/page/static/plot.js`) on paper.

The classes of its parts are the page's; their colours are in the style of whoever holds the picture (`report.html`).
All text is escaped, so that a name from a file cannot become markup.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from defectnet.units import FrequencyUnit, thz_per

__all__ = ["Curve", "Panel", "draw_panels"]

Array = NDArray[np.float64]

# In pixels, as the page has them; the width of a printed page, and room for the second axis and the legend above.
_WIDTH = 920
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 8, 6
_AXIS_HEIGHT, _GAP, _HEAD = 38, 14, 52
_KEY_HEIGHT, _KEY_LINE, _KEY_GAP, _CHARACTER = 20, 22, 18, 7.2
# Beyond the last point that has this share of the highest one nothing is drawn, but for some room.
_NEGLIGIBLE, _ROOM = 0.004, 1.06


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve.

    Attributes:
        style: its class, such as "sample" or "each-0".
        x: shape (n,), THz, ascending.
        y: shape (n,), in whatever the panel shows.
        error: shape (n,), drawn as a band of this half height; NaN leaves a gap.
        filled: whether the area down to zero is shaded.
    """

    label: str
    style: str
    x: Array
    y: Array
    error: Array | None = None
    filled: bool = False


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves with one scale.

    Attributes:
        label: what stands beside the scale.
        height: pixels.
        shades: parts of the axis that are marked: from, to (THz), and how strongly (0 … 1).
    """

    label: str
    curves: Sequence[Curve]
    height: int = 190
    shades: Sequence[tuple[float, float, float]] = ()


def draw_panels(panels: Sequence[Panel], *, summary: str, top_thz: float | None = None) -> str:
    """The panels below each other, over THz below and meV above, as an SVG element.

    Args:
        summary: what is seen, for who cannot see it.
        top_thz: where the axis ends; by default where the curves do.
    """
    end = top_thz or max((_end(curve) for panel in panels for curve in panel.curves), default=1.0)
    keys, legend_height = _legend([curve for panel in panels for curve in panel.curves])
    parts, top = [*keys], float(legend_height + _HEAD)
    first = top
    for panel in panels:
        parts += _panel(panel, top, end)
        top += panel.height + _GAP
    parts += _axis(first, end, per=thz_per(FrequencyUnit.MEV), label="Energy (meV)", above=True)
    parts += _axis(top - _GAP, end, per=1.0, label="Frequency (THz)")
    height = top - _GAP + _AXIS_HEIGHT
    head = f'<svg class="plot-picture" role="img" aria-label="{escape(summary)}" viewBox="0 0 {_WIDTH} {height:.0f}">'
    return "\n".join((head, *parts, "</svg>"))


def _end(curve: Curve) -> float:
    size = np.abs(curve.y)
    seen = np.flatnonzero(size > _NEGLIGIBLE * size.max(initial=0.0))
    return float(curve.x[seen[-1] if seen.size else -1]) * _ROOM


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two, about so many."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= rough), rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _limits(panel: Panel, end: float) -> tuple[float, float]:
    low = high = 0.0
    for curve in panel.curves:
        within = curve.x <= end
        error = np.zeros_like(curve.y) if curve.error is None else np.nan_to_num(curve.error)
        low = min(low, float((curve.y - error)[within].min(initial=0.0)))
        high = max(high, float((curve.y + error)[within].max(initial=0.0)))
    if high <= low:
        return -1e-6, 1e-6
    room = 0.06 * (high - low)
    return (low - room if low < 0 else low), high + room


def _x(thz: Array, end: float) -> Array:
    """Where frequencies lie, in pixels from the left."""
    return _LEFT + thz / end * (_WIDTH - _LEFT - _RIGHT)


def _panel(panel: Panel, top: float, end: float) -> Iterator[str]:
    low, high = _limits(panel, end)
    inner = panel.height - _TOP - _BOTTOM

    def y_of(values: Array) -> Array:
        return top + _TOP + (high - values) / (high - low) * inner

    base = float(y_of(np.zeros(1))[0])
    right = _WIDTH - _RIGHT
    for low_thz, high_thz, strength in panel.shades:
        x, x_end = _x(np.array([low_thz, high_thz]), end).tolist()
        yield (
            f'<rect class="shade" x="{x:.1f}" y="{top:.1f}" width="{x_end - x:.1f}" height="{panel.height}" '
            f'fill-opacity="{0.3 * min(strength, 1.0):.2f}"/>'
        )
    for tick in _ticks(low, high, max(2, round(panel.height / 45))):
        y = float(y_of(np.array([tick]))[0])
        kind = "zero" if abs(tick) < 1e-12 else "grid"
        yield f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
    middle = top + panel.height / 2
    yield f'<text class="label" transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">'
    yield f"{escape(panel.label)}</text>"
    for curve in panel.curves:
        within = curve.x <= end
        xs, ys = _x(curve.x[within], end), y_of(curve.y[within])
        if curve.error is not None:
            half = np.abs(base - y_of(curve.error[within]))
            yield from (f'<path class="band {curve.style}" d="{path}"/>' for path in _bands(xs, ys, half))
        if curve.filled and xs.size:
            closed = f"{_path(xs, ys)}L{xs[-1]:.1f} {base:.1f}L{xs[0]:.1f} {base:.1f}Z"
            yield f'<path class="area {curve.style}" d="{closed}"/>'
        yield f'<path class="curve {curve.style}" d="{_path(xs, ys)}"/>'


def _bands(x: Array, y: Array, half: Array) -> Iterator[str]:
    """Closed paths around the points that have an error, one for each run of them."""
    known = np.flatnonzero(np.isfinite(half))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        if run.size:
            there, back = _path(x[run], (y - half)[run]), _path(x[run][::-1], (y + half)[run][::-1])
            yield f"{there}L{back[1:]}Z"


def _path(x: Array, y: Array) -> str:
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    return "".join(f"{'L' if k else 'M'}{px:.1f} {py:.1f}" for k, (px, py) in enumerate(pairs))


def _axis(y: float, end: float, *, per: float, label: str, above: bool = False) -> Iterator[str]:
    """An axis in a unit that is `per` THz, with its numbers below it or above."""
    side = -1 if above else 1
    right, middle = _WIDTH - _RIGHT, (_LEFT + _WIDTH - _RIGHT) / 2
    yield f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
    for tick in _ticks(0.0, end / per, round((right - _LEFT) / 80)):
        x = float(_x(np.array([tick * per]), end)[0])
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y + 4 * side:.1f}"/>'
        below = y + (-8 if above else 17)
        yield f'<text class="tick" x="{x:.1f}" y="{below:.1f}" text-anchor="middle">{_number(tick)}</text>'
    place = y + (-26 if above else 34)
    yield f'<text class="label" x="{middle:.1f}" y="{place:.1f}" text-anchor="middle">{escape(label)}</text>'


def _legend(curves: Sequence[Curve]) -> tuple[list[str], int]:
    """A key for each curve, in as many lines as it takes, and their height."""
    made, x, line = [], float(_LEFT), 0
    for label, style in dict.fromkeys((curve.label, curve.style) for curve in curves):
        width = _KEY_LINE + 6 + _CHARACTER * len(label)
        if x + width > _WIDTH - _RIGHT and x > _LEFT:
            x, line = float(_LEFT), line + 1
        y = _KEY_HEIGHT * line + 12
        made.append(f'<line class="curve {style}" x1="{x:.1f}" x2="{x + _KEY_LINE:.1f}" y1="{y}" y2="{y}"/>')
        made.append(f'<text class="key" x="{x + _KEY_LINE + 6:.1f}" y="{y + 4}">{escape(label)}</text>')
        x += width + _KEY_GAP
    return made, _KEY_HEIGHT * (line + 1)


def _number(value: float) -> str:
    """Six digits, without an exponent where there need be none, and with a minus that is one."""
    return f"{0.0 if abs(value) < 1e-12 else value:.6g}".replace("-", "−")
