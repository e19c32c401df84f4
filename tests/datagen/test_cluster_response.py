import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from datagen.cluster_response import DiluteResponse, clusters_of, dilute_response
from datagen.dopants import Replacement
from datagen.dos import Bins, ElementDos
from datagen.methods import Masses
from datagen.parents import Parent
from datagen.responses import HostDynamics
from datagen.springs import ScaledBonds, bonds_of, length_key

pytestmark = pytest.mark.physics


@pytest.fixture(scope="module")
def dynamics(gallium_arsenide: Parent) -> HostDynamics:
    return HostDynamics(gallium_arsenide, n_atoms=250)


def respond(dynamics: HostDynamics, dopant: str, scale: float = 1.0) -> tuple[DiluteResponse, Bins]:
    bins = Bins(2 * dynamics.bins.step_thz, dynamics.bins.n // 2)
    partial = {s: d[: 2 * bins.n].reshape(-1, 2).mean(axis=1) for s, d in dynamics.density.partial.items()}
    parent = dynamics.parent
    (cluster,) = (one for one in clusters_of(parent, bins) if one.element == "Ga")
    scales = {(bond.neighbour, length_key(bond.length)): scale for bond in bonds_of(parent, "Ga")}
    return dilute_response(cluster, parent, ElementDos(partial, bins, 0.0), dopant, scales), bins


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    a, b = gaussian_filter1d(one, 3), gaussian_filter1d(other, 3)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize(("dopant", "mass"), [("In", 114.818), ("Al", 26.982)])
def test_modes_are_kept_and_their_mean_log_falls_by_half_the_log_of_the_mass(
    dynamics: HostDynamics, dopant: str, mass: float
) -> None:
    response, bins = respond(dynamics, dopant)
    middle = (np.arange(bins.n) + 0.5) * bins.step_thz
    assert response.change.sum() * bins.step_thz == pytest.approx(0.0, abs=0.1)
    # ln det of the dynamical matrix changes by the log of the mass ratio, for each of three directions.
    moved = (response.change * np.log(middle)).sum() * bins.step_thz
    assert moved == pytest.approx(-1.5 * np.log(mass / 69.723), abs=0.08)


def test_a_single_dopant_and_a_dilute_cell_agree(dynamics: HostDynamics) -> None:
    response, bins = respond(dynamics, "In")
    (cell,) = dynamics.responses(Masses(), Replacement("In", "Ga", 1.0, False), "masses", (0.02,))
    joined = cell.change[: 2 * bins.n].reshape(-1, 2).mean(axis=1)
    assert likeness(response.change, joined) > 0.96
    assert np.linalg.norm(response.change) == pytest.approx(np.linalg.norm(joined), rel=0.35)
    assert cell.change_neutron is not None
    assert response.change_neutron is not None
    seen = cell.change_neutron[: 2 * bins.n].reshape(-1, 2).mean(axis=1)
    assert likeness(response.change_neutron, seen) > 0.9


def test_scaled_bonds_agree_with_a_dilute_cell_too(dynamics: HostDynamics) -> None:
    response, bins = respond(dynamics, "Al", 0.7)
    scales = {(bond.neighbour, length_key(bond.length)): 0.7 for bond in bonds_of(dynamics.parent, "Ga")}
    method = ScaledBonds({("Ga", "Al"): scales})
    (cell,) = dynamics.responses(method, Replacement("Al", "Ga", 1.0, False), "springs", (0.02,))
    joined = cell.change[: 2 * bins.n].reshape(-1, 2).mean(axis=1)
    assert likeness(response.change, joined) > 0.96
    unscaled, _ = respond(dynamics, "Al")
    assert likeness(unscaled.change, joined) < 0.9


def test_stiffer_bonds_raise_frequencies(dynamics: HostDynamics) -> None:
    plain, bins = respond(dynamics, "Ga")
    stiff, _ = respond(dynamics, "Ga", 1.3)
    middle = (np.arange(bins.n) + 0.5) * bins.step_thz
    assert np.abs(plain.change).max() < 1e-9
    assert (stiff.change * middle).sum() > 0
