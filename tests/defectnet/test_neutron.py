from pathlib import Path

import numpy as np
import pytest

from defectnet.errors import CompositionError, InputError, SpectrumError, UnitError
from defectnet.neutron import ARCS, counted, neutron_weight, neutron_weighted, resolved
from defectnet.readers.resolution import read_resolution
from defectnet.spectrum import FWHM_PER_SIGMA, Spectrum, bin_centres_thz
from defectnet.units import thz_per

AXIS = bin_centres_thz(200, 0.1)


def line(at_thz: float) -> Spectrum:
    return Spectrum(AXIS, np.exp(-(((AXIS - at_thz) / 0.05) ** 2)))


def test_cross_sections() -> None:
    # Bound scattering cross-sections of Sears (Neutron News 3, 26, 1992), barn.
    for element, sigma, mass in (("H", 82.02, 1.008), ("V", 5.10, 50.94), ("Si", 2.167, 28.086), ("Ge", 8.60, 72.63)):
        assert neutron_weight(element) == pytest.approx(sigma / mass, rel=2e-3)
    with pytest.raises(CompositionError, match="no scattering cross-section of At is tabulated; treat"):
        neutron_weight("At")


def test_the_generalised_density() -> None:
    low, high = line(4.0).dos, line(12.0).dos
    spectrum = neutron_weighted({"Ge": low, "Si": high}, AXIS)
    assert spectrum.modes == pytest.approx(3.0)
    shares = np.diff(spectrum.cumulative([0.0, 8.0, 20.0]))
    assert shares[0] / shares[1] == pytest.approx(neutron_weight("Ge") / neutron_weight("Si"), rel=1e-6)
    # One element alone is only rescaled.
    np.testing.assert_allclose(neutron_weighted({"Si": high}, AXIS).dos, line(12.0).normalised().dos)
    with pytest.raises(CompositionError, match="parts of the density are not known"):
        neutron_weighted({}, AXIS)


def test_resolution_spreads_each_energy_by_its_own_width() -> None:
    two = Spectrum(AXIS, line(6.0).dos + line(14.0).dos)
    seen = resolved(two, lambda f: np.where(f < 10, 1.2, 0.6))
    assert seen.modes == pytest.approx(two.modes, rel=1e-6)
    for at, fwhm in ((6.0, 1.2), (14.0, 0.6)):
        near = np.abs(AXIS - at) < 2.5
        mean = np.average(AXIS[near], weights=seen.dos[near])
        variance = np.average((AXIS[near] - mean) ** 2, weights=seen.dos[near])
        assert mean == pytest.approx(at, abs=0.01)
        assert np.sqrt(variance) * FWHM_PER_SIGMA == pytest.approx(fwhm, rel=0.03)
    # At the end of the axis modes are kept too.
    assert resolved(line(0.2), lambda f: np.full_like(f, 2.0)).modes == pytest.approx(line(0.2).modes, rel=1e-6)


def test_a_chopper_spectrometer_sharpens_with_energy_transfer() -> None:
    widths = ARCS.fwhm_mev(np.array([0.0, 30.0, 60.0, 90.0]))
    assert (np.diff(widths) < 0).all()
    # ARCS was designed for 2 to 5 % of the incident energy at the elastic line.
    assert 0.02 < widths[0] / ARCS.incident_mev < 0.05
    factor = thz_per("meV")
    np.testing.assert_allclose(ARCS(np.array([30.0]) * factor), widths[1:2] * factor)


def test_counting_noise_has_the_error_that_it_states() -> None:
    flat = Spectrum(AXIS, np.ones_like(AXIS))
    noisy, error = counted(flat, 0.05, np.random.default_rng(0))
    assert noisy.dos.std() == pytest.approx(0.05, rel=0.15)
    np.testing.assert_allclose(error, 0.05, rtol=0.15)
    _, error = counted(line(6.0), 0.05, np.random.default_rng(0))
    assert np.isnan(error[0])  # nothing was counted there: no error is not zero


def test_a_resolution_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "resolution.csv"
    path.write_text("energy_mev,fwhm\n0,4\n40,2\n80,1\n")
    factor = thz_per("meV")
    found = read_resolution(path)(np.array([-1.0, 0.0, 20.0, 80.0, 200.0]) * factor)
    np.testing.assert_allclose(found, np.array([4.0, 4.0, 3.0, 1.0, 1.0]) * factor)
    path.write_text("0 4\n40 2\n")
    with pytest.raises(UnitError, match="does not say its unit"):
        read_resolution(path)
    path.write_text("energy_mev,fwhm\n0,4\n40,-2\n")
    with pytest.raises(SpectrumError, match="is no resolution curve; give FWHMs"):
        read_resolution(path)
    path.write_text("energy_mev,fwhm,x\n0,4,1\n")
    with pytest.raises(SpectrumError, match="has 3 columns; give energy and FWHM"):
        read_resolution(path)
    with pytest.raises(InputError, match="check the path"):
        read_resolution(tmp_path / "missing.csv")
