import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectnet.elements import VOCABULARY
from defectnet.errors import SpectrumError
from defectnet.host import Host
from defectnet.model.features import FrequencyGrid, element_index, host_vector
from defectnet.spectrum import Spectrum

GRID = FrequencyGrid()


def gaussian(centre_thz: float, sigma_thz: float, step_thz: float) -> Spectrum:
    axis = (np.arange(int(60 / step_thz)) + 0.5) * step_thz
    return Spectrum(axis, np.exp(-0.5 * ((axis - centre_thz) / sigma_thz) ** 2))


def test_grid_reaches_from_zero_to_its_top() -> None:
    assert GRID.edges_thz[0] == 0.0
    assert GRID.edges_thz[-1] == pytest.approx(GRID.top_thz)
    assert np.all(np.diff(GRID.edges_thz) > 0)
    assert np.all((GRID.centres_thz > GRID.edges_thz[:-1]) & (GRID.centres_thz < GRID.edges_thz[1:]))


@given(centre=st.floats(3.0, 45.0), step=st.floats(0.01, 0.2), scale=st.floats(1e-3, 1e3))
def test_shares_sum_to_one_and_keep_the_mean_frequency(centre: float, step: float, scale: float) -> None:
    spectrum = gaussian(centre, 1.0, step)
    shares = GRID.mode_shares(Spectrum(spectrum.frequency_thz, spectrum.dos * scale))
    assert shares.sum() == pytest.approx(1.0, abs=1e-5)
    mean = np.average(spectrum.frequency_thz, weights=spectrum.dos)
    assert float(shares @ GRID.centres_thz) == pytest.approx(mean, rel=2e-3)


def test_shares_do_not_depend_on_the_axis_they_came_on() -> None:
    fine, coarse = (GRID.mode_shares(gaussian(12.0, 1.0, step)) for step in (0.01, 0.1))
    assert np.abs(fine - coarse).sum() < 0.02


def test_density_beyond_the_grid_is_refused() -> None:
    axis = np.linspace(130.0, 150.0, 50)
    with pytest.raises(SpectrumError, match="no density below 120 THz"):
        GRID.mode_shares(Spectrum(axis, np.ones(50)))


def test_host_vector_holds_the_fractions() -> None:
    vector = host_vector(Host("Si0.9Ge0.1"))
    assert vector[element_index("Si")] == pytest.approx(0.9)
    assert vector.sum() == pytest.approx(1.0)
    assert vector.shape == (len(VOCABULARY),)
