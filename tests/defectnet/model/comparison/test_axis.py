import numpy as np
import pytest

from defectnet.model.comparison.axis import CENTRES, COARSE, EDGES, N_BINS, WIDTHS, on_axis, smearing, smoothing, top_of


def test_the_integral_is_kept_and_curves_stack():
    density = np.random.default_rng(0).random(300)
    one = on_axis(density, 0.05, 6.0)
    inside = density[: int(EDGES[-1] * 6.0 / 0.05)].sum() * 0.05
    assert one @ WIDTHS == pytest.approx(inside, rel=1e-9)
    assert np.array_equal(on_axis(np.stack([density, 2 * density]), 0.05, 6.0)[1], 2 * one)


def test_the_top_is_where_the_modes_end():
    density = np.zeros(200)
    density[:100] = 1.0
    assert top_of(density, 0.1) == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize("matrix", [smoothing(COARSE), smearing(0.03)])
def test_smoothing_keeps_a_band_and_its_modes(matrix):
    band = np.exp(-0.5 * ((CENTRES - 0.6) / 0.1) ** 2)
    seen = band @ matrix.double().numpy()
    assert seen @ WIDTHS == pytest.approx(band @ WIDTHS, rel=0.01)
    assert seen.max() < band.max()
    assert seen.shape == (N_BINS,)
