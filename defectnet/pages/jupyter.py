"""How answers and spectra show themselves in a notebook: HTML and SVG without scripts, in the page's own colours."""

from html import escape

import numpy as np

from defectnet.pages.verdict_sentence import Trust, at_percent, say
from defectnet.prediction import Prediction, worth_showing
from defectnet.spectrum import Spectrum

__all__ = ["prediction_html", "spectrum_html"]

# Okabe and Ito's palette.
_TRUST: dict[Trust, tuple[str, str]] = {
    "none": ("No answer", "#D55E00"),
    "doubt": ("Doubtful", "#D55E00"),
    "care": ("Read with care", "#E69F00"),
    "plain": ("Answer", "#009E73"),
}
_FOUND, _NOT_FOUND, _CURVE = "#D55E00", "#999999", "#0072B2"
_WIDTH, _HEIGHT, _BELOW = 560, 170, 34
_TICKS = 6
_POINTS = 600
_BAR = 140


def prediction_html(prediction: Prediction) -> str:
    """The verdict, what speaks against it, and the elements with their intervals."""
    said = say(prediction)
    name, colour = _TRUST[said.trust]
    minded = (*(said.doubts if said.trust == "care" else ()), *prediction.warnings)
    notes = "".join(f"<li>{escape(note)}</li>" for note in minded)
    shown = [one for one in prediction.elements if worth_showing(one.present, one.probability)]
    most = max((one.high for one in shown), default=0.01)
    rows = "".join(
        f"<tr><th>{escape(one.element)}</th><td>{'found' if one.present else 'not found'}</td>"
        f"<td>{at_percent(one.concentration)}</td><td>{at_percent(one.low)} to {at_percent(one.high)}</td>"
        f"<td>{_bar(one.low / most, one.concentration / most, one.high / most, present=one.present)}</td>"
        f"<td>{one.probability:.2f}</td></tr>"
        for one in shown
    )
    table = (
        "<table><tr><th>element</th><th>verdict</th><th>at.%</th><th>90 % interval</th><th></th><th>probability</th>"
        f"</tr>{rows}</table>"
        if shown
        else ""
    )
    title = escape(" · ".join(part for part in (prediction.host, prediction.sample_id) if part))
    model = escape(f"{prediction.model_name} {prediction.model_version}")
    return (
        f'<div style="border-left:5px solid {colour};padding:2px 12px"><strong>{name}</strong> {title}<br>'
        f"{escape(said.sentence)}{f'<ul>{notes}</ul>' if notes else ''}</div>{table}<small>{model}</small>"
    )


def spectrum_html(spectrum: Spectrum) -> str:
    """The density of states as a picture, over THz."""
    frequency, dos = spectrum.frequency_thz, spectrum.dos
    if frequency.size > _POINTS:
        kept = np.linspace(0, frequency.size - 1, _POINTS).astype(int)
        frequency, dos = frequency[kept], dos[kept]
    low, high = min(0.0, float(frequency[0])), 1.05 * spectrum.top_thz()
    x = _WIDTH * (frequency - low) / (high - low)
    y = _HEIGHT * (1.0 - np.clip(dos, 0.0, None) / float(dos.max()))
    seen = x <= _WIDTH
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[seen], y[seen], strict=True))
    # In the middle of even parts, so that no text is cut off at an end.
    values = np.linspace(low, high, _TICKS + 1)[:-1] + (high - low) / _TICKS / 2
    ticks = "".join(
        f'<text x="{_WIDTH * (k + 0.5) / _TICKS:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{value:.3g}</text>'
        for k, value in enumerate(values)
    )
    ends = spectrum.frequency_thz[[0, -1]]
    words = f"{spectrum.frequency_thz.size} points, {ends[0]:.4g} to {ends[1]:.4g} THz"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _BELOW}" width="{_WIDTH}" role="img" aria-label="Density of states, '
        f'{words}" style="font:11px sans-serif" fill="currentColor">'
        f'<polyline points="{points}" fill="none" stroke="{_CURVE}" stroke-width="1.5"/>'
        f'<path d="M0 {_HEIGHT}H{_WIDTH}" stroke="currentColor"/>{ticks}'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT + 31}" text-anchor="middle">Frequency (THz)</text></svg>'
        f"<br><small>{words}, {spectrum.modes:.4g} modes</small>"
    )


def _bar(low: float, middle: float, high: float, *, present: bool) -> str:
    colour = _FOUND if present else _NOT_FOUND
    at = [round(_BAR * value, 1) for value in (low, middle, high)]
    return (
        f'<svg width="{_BAR + 4}" height="12" aria-hidden="true"><rect x="{at[0]}" y="3" height="6" '
        f'width="{max(at[2] - at[0], 1)}" fill="{colour}" fill-opacity="0.4"/>'
        f'<rect x="{at[1]}" y="0" height="12" width="2" fill="{colour}"/></svg>'
    )
