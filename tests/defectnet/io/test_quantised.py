"""Densities as byte strings come back to within what is promised, whatever their shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter1d

from defectnet.io.quantised import LARGEST_L1, decode, encode

# What 0.2 % of a dopant changes, as an L1 distance of densities that integrate to one.
SMALLEST_SIGNAL = 0.009


def test_the_error_is_far_below_the_smallest_signal() -> None:
    assert LARGEST_L1 < SMALLEST_SIGNAL / 30


@given(arrays(np.float32, st.integers(0, 600), elements=st.floats(0, 1e4, width=32)))
def test_any_density_comes_back(density: np.ndarray) -> None:
    found = decode(encode(density))
    assert found.shape == density.shape
    # Float32 rounds a value once more.
    rounding = 1e-7 * np.abs(density).sum(dtype=np.float64)
    assert np.abs(found.astype(float) - density).sum() <= LARGEST_L1 * density.sum(dtype=np.float64) + rounding


def test_a_single_sharp_line_is_kept() -> None:
    """The most unequal density there is: a mode in one bin of many, whose step is smallest beside it."""
    density = np.zeros(4000)
    density[1234] = 7.0
    found = decode(encode(density))
    assert found[1234] == pytest.approx(7.0, rel=1e-6)
    assert np.count_nonzero(found) == 1


def test_a_smooth_density_takes_about_a_byte_a_bin() -> None:
    import pyarrow as pa

    rng = np.random.default_rng(0)
    many = [gaussian_filter1d(rng.exponential(size=400), 4) for _ in range(40)]
    compressed = pa.Codec("zstd", 9).compress(b"".join(encode(density) for density in many))
    assert len(compressed) < 1.6 * 400 * len(many)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        encode(np.array([1.0, bad]))


@pytest.mark.parametrize("content", [b"", b"123", b"12345"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a density"):
        decode(content)
