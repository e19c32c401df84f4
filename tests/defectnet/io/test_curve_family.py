import numpy as np
import pytest

from defectnet.io.curve_family import LARGEST_ERROR, pack_family, unpack_family


@pytest.fixture
def curves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forty dips and peaks that move with the dopant's mass, their weighted counterparts, and the host."""
    axis = np.linspace(0.0, 1.0, 180)
    rng = np.random.default_rng(3)
    places = np.linspace(0.3, 0.8, 40)[rng.permutation(40)]
    change = np.array([np.exp(-(((axis - p) / 0.02) ** 2)) - np.exp(-(((axis - 0.5) / 0.05) ** 2)) for p in places])
    change *= rng.uniform(0.1, 50.0, (40, 1))
    host = np.exp(-(((axis - 0.5) / 0.1) ** 2))
    neutron = 1.7 * change - 0.4 * host + 0.05 * change[::-1]
    neutron[5] = np.nan
    return change, neutron, host


def errors(read: np.ndarray, curves: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(read - curves, axis=1) / np.linalg.norm(curves, axis=1))


def test_curves_come_back_to_within_the_stated_error(curves: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    change, neutron, host = curves
    order, packed = pack_family(change, neutron, host)
    read, weighted = unpack_family(packed, host)
    assert sorted(order) == list(range(40))
    assert errors(read, change[order]).max() < 1.25 * LARGEST_ERROR
    assert weighted is not None
    known = order != 5
    assert np.isnan(weighted[~known]).all()
    assert errors(weighted[known], neutron[order][known]).max() < 1.25 * LARGEST_ERROR


def test_rounding_is_not_handed_down(curves: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """A curve follows its forebear as it is read, so that the youngest is as exact as the first."""
    change = curves[0]
    order, packed = pack_family(change, None, None)
    found = errors(unpack_family(packed, None)[0], change[order])
    assert found[-10:].mean() < 1.5 * found[:10].mean()


def test_there_may_be_no_counterparts_and_empty_curves() -> None:
    change = np.zeros((3, 20))
    change[1, 4] = 1.0
    order, packed = pack_family(change, None, None)
    read, weighted = unpack_family(packed, np.ones(20))
    assert weighted is None
    assert read == pytest.approx(change[order], abs=1e-2)


def test_one_sharp_peak_is_not_cut_off() -> None:
    """A peak of one bin is more steps high than a byte holds."""
    change = np.zeros((1, 400))
    change[0, 7] = -3.0
    _, packed = pack_family(change, None, None)
    assert unpack_family(packed, None)[0] == pytest.approx(change, abs=1e-2)
