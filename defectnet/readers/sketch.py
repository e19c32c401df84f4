"""A spectrum as a few lines of text, for a terminal."""

import numpy as np

from defectnet.spectrum import Spectrum

__all__ = ["sketch_spectrum"]

_BARS = " ▁▂▃▄▅▆▇█"


def sketch_spectrum(spectrum: Spectrum, width: int = 64, height: int = 6) -> str:
    """Draw the density in block characters, with the axis in THz below.

    Args:
        spectrum: what to draw, from 0 (or below, where it has density there) to its last density.
        width, height: characters.
    """
    f, dos = spectrum.frequency_thz, np.maximum(spectrum.dos, 0.0)
    low = float(min(0.0, f[np.argmax(dos > 1e-3 * dos.max())]))
    high = 1.03 * spectrum.top_thz()
    edges = np.linspace(low, high, width + 1)
    inner = np.linspace(edges[:-1], edges[1:], 8, axis=1)  # (width, 8): a narrow peak must not fall between
    values = np.interp(inner, f, dos, left=0.0, right=0.0).max(axis=1)
    eighths = np.rint(values / values.max() * 8 * height).astype(int)
    rows = ["".join(_BARS[int(np.clip(n - 8 * level, 0, 8))] for n in eighths) for level in reversed(range(height))]
    left, right = f"{low:.3g}", f"{high:.3g} THz"
    axis = left + " " * max(width - len(left) - len(right), 1) + right
    return "\n".join([*(row.rstrip() for row in rows), "─" * width, axis])
