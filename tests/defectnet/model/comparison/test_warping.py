import numpy as np
import pytest
from support.responses import STEP_THZ, host_density

from defectnet.model.comparison import warping
from defectnet.model.comparison.axis import CENTRES, WIDTHS, on_axis, smearing, top_of
from defectnet.model.comparison.warping import Pair
from defectnet.spectrum import Spectrum, bin_centres_thz

DENSITY = host_density("MgO")
TOP = top_of(DENSITY, STEP_THZ)
PAIR = Pair(
    Spectrum(bin_centres_thz(DENSITY.size, STEP_THZ) * 1.013, DENSITY), on_axis(DENSITY, STEP_THZ, TOP), TOP, 0.0
)


def test_how_a_reference_follows_a_warp():
    warp, nudge = np.array([[0.011, -0.004, 0.003]]), 1e-7
    seen, slopes = PAIR._following(warp, 0.02)
    assert seen[0] == pytest.approx(PAIR._measured(warp, 0.02)[0], abs=1e-12)
    for place in range(3):
        moved = PAIR._measured(warp + nudge * np.eye(3)[place], 0.02)[0]
        assert slopes[0, place] == pytest.approx((moved - seen[0]) / nudge, abs=1e-3 * np.abs(slopes[0, place]).max())


@pytest.mark.parametrize("line", [(0.01, 0.02), (0.0, 0.006), (0.03, -0.06)])
def test_how_what_is_left_follows_warp_and_resolution(line):
    values = np.array([0.011, -0.004, 0.003, *line])
    slopes = PAIR._left_slopes(values)
    for place in range(5):
        nudge = 1e-7 * np.eye(5)[place]
        numerical = (PAIR._left(values + nudge) - PAIR._left(values - nudge)) / 2e-7
        assert slopes[:, place] == pytest.approx(numerical, abs=1e-3 * np.abs(slopes[:, place]).max())


@pytest.mark.parametrize("line", [(0.01, 0.02), (0.0, 0.006), (0.03, -0.06)])
def test_a_blurred_host_is_as_smearing_makes_it(line):
    constant, slope = line
    expected = PAIR.computed @ smearing(slope, constant).double().numpy()
    assert PAIR._blurred(*line) == pytest.approx(expected, abs=1e-5 * expected.max())


def test_what_is_found_is_better_than_what_lies_beside_it():
    seen = PAIR.computed @ smearing(0.02).double().numpy()
    edges = np.arange(DENSITY.size + 1) * STEP_THZ
    modes = np.concatenate([[0.0], np.cumsum(seen * WIDTHS)])
    dos = np.diff(np.interp(edges, TOP * 1.02 * np.append(CENTRES - WIDTHS / 2, CENTRES[-1] + WIDTHS[-1] / 2), modes))
    pair = Pair(Spectrum(bin_centres_thz(DENSITY.size, STEP_THZ), dos), PAIR.computed, TOP, 0.0)
    warp, slope, constant, likeness = pair.found()
    assert likeness > 0.999
    found = np.array([*warp, constant, slope])
    least = np.square(pair._left(found)).sum()
    for nudge in 0.002 * np.vstack([np.eye(5), -np.eye(5)]):
        if np.all(found + nudge >= [*warping._BOUNDS[0], *warping._WIDTH_BOUNDS[0]]):
            assert np.square(pair._left(found + nudge)).sum() > least
