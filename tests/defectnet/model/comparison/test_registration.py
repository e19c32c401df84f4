import numpy as np
import pytest
from support.responses import STEP_THZ, host_density

from defectnet.model.comparison.axis import CENTRES, WIDTHS, on_axis, smearing, top_of
from defectnet.model.comparison.registration import LEAST_LIKENESS, register
from defectnet.spectrum import Spectrum, bin_centres_thz

DENSITY = host_density("MgO")
TOP = top_of(DENSITY, STEP_THZ)
ON_AXIS = on_axis(DENSITY, STEP_THZ, TOP)


def measured(stretch=0.0, shape=DENSITY):
    return Spectrum(bin_centres_thz(shape.size, STEP_THZ) * (1.0 + stretch), shape)


def test_the_same_density_needs_no_warp():
    found = register(measured(), ON_AXIS, TOP)
    assert found.warp == (0.0, 0.0, 0.0)
    assert found.likeness > 0.999
    assert found.on_host_axis(measured()) == pytest.approx(ON_AXIS * 3.0 / (ON_AXIS @ WIDTHS), abs=0.02)


@pytest.mark.parametrize("stretch", [-0.09, -0.02, 0.03, 0.11])
def test_a_stretched_axis_is_found_and_undone(stretch):
    found = register(measured(stretch), ON_AXIS, TOP)
    assert found.stretch == pytest.approx(stretch, abs=0.004)
    assert found.likeness > 0.995
    back = found.on_host_axis(measured(stretch))
    assert np.abs(back - ON_AXIS) @ WIDTHS < 0.06


def test_a_resolution_is_found():
    width = 0.03
    axis = np.concatenate([[0.0], np.cumsum(ON_AXIS @ smearing(width).double().numpy() * WIDTHS)])
    from defectnet.model.comparison.axis import EDGES

    edges = np.arange(DENSITY.size + 1) * STEP_THZ
    seen = np.diff(np.interp(edges, EDGES * TOP, axis)) / STEP_THZ
    found = register(measured(0.02, seen), ON_AXIS, TOP)
    assert found.width == pytest.approx(width, rel=0.45)
    assert found.stretch == pytest.approx(0.02, abs=0.005)


def test_a_cut_off_reference_says_where():
    shape = DENSITY.copy()
    shape[: int(0.3 * TOP / STEP_THZ)] = 0.0
    found = register(measured(0.0, shape), ON_AXIS, TOP)
    assert found.cut == pytest.approx(0.3, abs=0.02)
    assert 0.5 < found.visible < 1.0
    assert found.on_host_axis(measured(0.0, shape)) @ WIDTHS == pytest.approx(3.0 * found.visible, rel=1e-6)


def test_how_an_axis_is_read_is_remembered_for_that_axis():
    found = register(measured(), ON_AXIS, TOP)
    axes = [np.linspace(0.02 * n, 30.0 + n, 300 + n) for n in range(7)]
    for axis in (*axes, *axes):
        centre, width = 0.55 * TOP, 0.12 * TOP
        seen = found.on_host_axis(Spectrum(axis, np.exp(-0.5 * ((axis - centre) / width) ** 2)))
        expected = np.exp(-0.5 * ((CENTRES - 0.55) / 0.12) ** 2)
        assert seen == pytest.approx(expected * 3.0 / (expected @ WIDTHS), abs=0.1)


def test_another_crystal_is_not_alike():
    other = np.zeros_like(DENSITY)
    other[5:40] = 1.0
    assert register(measured(0.0, other), ON_AXIS, TOP).likeness < LEAST_LIKENESS
