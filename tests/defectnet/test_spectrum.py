import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from defectnet.errors import SpectrumError, UnitError
from defectnet.spectrum import FWHM_PER_SIGMA, MODES_PER_ATOM, Spectrum, bin_centres_thz

STEP_THZ = 0.1
AXIS = bin_centres_thz(120, STEP_THZ)
BAND = np.exp(-((AXIS - 6.0) ** 2))

densities = hnp.arrays(np.float64, st.integers(8, 150), elements=st.floats(0.0, 50.0, allow_subnormal=False)).filter(
    lambda values: values.max() > 0.01
)
steps_thz = st.floats(0.01, 1.0)


@pytest.mark.parametrize(
    ("frequency", "dos", "field", "words"),
    [
        ([], [], "dos", "too few"),
        (AXIS[:5], BAND[:5], "dos", "too few"),
        (AXIS, BAND[:-1], "dos", "119 densities for 120 frequencies"),
        (AXIS, np.where(AXIS > 6, np.nan, BAND), "dos", "value nan at point 60"),
        (np.where(AXIS > 6, np.inf, AXIS), BAND, "frequency", "value inf"),
        (AXIS[::-1], BAND, "frequency", "not increasing at point 1"),
        (np.repeat(AXIS, 2)[:120], BAND, "frequency", "not increasing at point 1"),
        (AXIS, BAND - 0.3, "dos", "negative density"),
        (AXIS, np.zeros_like(AXIS), "dos", "no density above zero"),
        (AXIS - 20.0, BAND, "frequency", "the axis ends at"),
        (AXIS * 100.0, BAND, "frequency", "check the unit"),
        (AXIS, ["many"] * 120, "dos", "not a list of numbers"),
        (AXIS, np.ones((120, 2)), "dos", "has 2 dimensions"),
        (AXIS, None, "dos", "0 dimensions|not a list"),
    ],
)
def test_what_is_no_spectrum(frequency: object, dos: object, field: str, words: str) -> None:
    with pytest.raises(SpectrumError, match=words) as caught:
        Spectrum(frequency, dos)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.fix


def test_noise_below_zero_is_kept_but_does_not_count() -> None:
    noisy = np.where(AXIS < 1.0, -0.01, BAND)
    spectrum = Spectrum(AXIS, noisy)
    assert spectrum.dos.min() == -0.01
    assert spectrum.normalised().dos.min() == 0.0
    assert spectrum.normalised().modes == pytest.approx(MODES_PER_ATOM)


def test_a_spectrum_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Spectrum(AXIS, BAND).dos[0] = 1.0


def test_the_callers_arrays_stay_the_callers() -> None:
    mine = BAND.copy()
    spectrum = Spectrum(AXIS, mine)
    mine[:] = 0.0
    assert spectrum.dos.max() > 0.9


@given(dos=densities, unit=st.sampled_from(["THz", "meV", "cm-1"]))
def test_units_there_and_back_keep_the_modes(dos: np.ndarray, unit: str) -> None:
    spectrum = Spectrum.from_bins(dos, STEP_THZ)
    frequency, density = spectrum.in_unit(unit)
    back = Spectrum.from_unit(frequency, density, unit)
    np.testing.assert_allclose(back.frequency_thz, spectrum.frequency_thz, rtol=1e-12)
    np.testing.assert_allclose(back.dos, spectrum.dos, rtol=1e-12)


def test_an_unknown_unit() -> None:
    with pytest.raises(UnitError):
        Spectrum.from_unit(AXIS, BAND, "eV")


@given(dos=densities, step_thz=steps_thz)
def test_modes_are_the_sum_over_bins(dos: np.ndarray, step_thz: float) -> None:
    spectrum = Spectrum.from_bins(dos, step_thz) if dos.size * step_thz < 200 else Spectrum.from_bins(dos, 0.1)
    step = spectrum.frequency_thz[1] - spectrum.frequency_thz[0]
    assert spectrum.modes == pytest.approx(dos.sum() * step)
    assert spectrum.normalised().modes == pytest.approx(MODES_PER_ATOM)


@given(dos=densities, step_thz=steps_thz)
def test_resampling_keeps_the_modes(dos: np.ndarray, step_thz: float) -> None:
    spectrum = Spectrum.from_bins(dos, STEP_THZ)
    again = spectrum.resampled(step_thz)
    assert again.modes == pytest.approx(spectrum.modes, rel=1e-9)
    # Not only the total: below every new edge lie the same modes.
    edges = np.arange(again.dos.size + 1) * step_thz
    np.testing.assert_allclose(again.cumulative(edges), spectrum.cumulative(edges), rtol=1e-9, atol=1e-9)


def test_resampling_to_the_own_bins_changes_nothing() -> None:
    spectrum = Spectrum(AXIS, BAND)
    np.testing.assert_allclose(spectrum.resampled(STEP_THZ).dos, BAND, atol=1e-12)


@given(dos=densities, fwhm_thz=st.floats(0.0, 3.0))
def test_broadening_keeps_the_modes(dos: np.ndarray, fwhm_thz: float) -> None:
    spectrum = Spectrum.from_bins(dos, STEP_THZ)
    assert spectrum.broadened(fwhm_thz=fwhm_thz).modes == pytest.approx(spectrum.modes, rel=1e-6)


def test_the_width_of_a_broadened_line() -> None:
    line = np.zeros(2001)
    line[1000] = 1.0
    fwhm_thz = 2.0
    smooth = Spectrum.from_bins(line, 0.02).broadened(fwhm_thz=fwhm_thz)
    above_half = smooth.frequency_thz[smooth.dos >= smooth.dos.max() / 2]
    assert above_half[-1] - above_half[0] == pytest.approx(fwhm_thz, abs=0.04)
    same = Spectrum.from_bins(line, 0.02).broadened(sigma_thz=fwhm_thz / FWHM_PER_SIGMA)
    np.testing.assert_allclose(same.dos, smooth.dos)


def test_a_width_must_be_named_once() -> None:
    spectrum = Spectrum(AXIS, BAND)
    with pytest.raises(TypeError, match="exactly one"):
        spectrum.broadened()
    with pytest.raises(TypeError, match="exactly one"):
        spectrum.broadened(fwhm_thz=1.0, sigma_thz=1.0)
    with pytest.raises(SpectrumError, match="no width"):
        spectrum.broadened(sigma_thz=-1.0)
    with pytest.raises(SpectrumError, match="resample it first"):
        Spectrum(AXIS**1.5, BAND).broadened(sigma_thz=0.1)


@pytest.mark.parametrize("step_thz", [0.0, -0.1, float("nan"), float("inf")])
def test_impossible_bins(step_thz: float) -> None:
    with pytest.raises(SpectrumError, match="frequency_step_thz"):
        Spectrum.from_bins(BAND, step_thz)


def test_imaginary_modes_are_left_out_of_the_count() -> None:
    axis = AXIS - 3.0
    spectrum = Spectrum(axis, np.ones_like(axis))
    assert spectrum.modes == pytest.approx(12.0 - 3.0)
    assert spectrum.cumulative([-1.0, 0.0, 2.0]).tolist() == pytest.approx([0.0, 0.0, 2.0])


def test_the_top_of_the_spectrum() -> None:
    assert Spectrum(AXIS, np.where(AXIS < 7.0, 1.0, 0.0)).top_thz() == pytest.approx(7.0, abs=STEP_THZ)
