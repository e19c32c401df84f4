from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

from datagen.dopants import Replacement
from datagen.embedding import Site
from datagen.methods import Masses
from datagen.parents import Parent, from_folder, packaged_folder
from datagen.prepare import host_row
from datagen.responses import HostDynamics, Response, smoothed
from datagen.sampling import Plan
from datagen.springs import (
    Bond,
    ScaledBonds,
    Springs,
    bond_features,
    bonds_of,
    fold_of,
    length_key,
    packaged_springs,
)
from defectnet.io.response_library import HostResponses


@pytest.fixture(scope="module")
def dynamics(gallium_arsenide: Parent) -> HostDynamics:
    return HostDynamics(gallium_arsenide, n_atoms=100)


def replacement(element: str) -> Replacement:
    return Replacement(element, "Ga", 1.0, False)


def test_a_dopant_like_its_host_changes_nothing_but_by_its_mass(dynamics: HostDynamics) -> None:
    heavier = dynamics.responses(Masses(), replacement("In"), "masses", (0.06,))[0]
    assert heavier.concentration == pytest.approx(0.06, abs=0.02)
    assert heavier.change.sum() * dynamics.bins.step_thz == pytest.approx(0.0, abs=1e-6)
    mean = np.arange(dynamics.bins.n) @ heavier.change
    assert mean < 0  # frequencies fall
    assert heavier.change_neutron is not None
    assert heavier.source == "masses"


def test_concentrations_are_those_that_the_sublattice_has_room_for(dynamics: HostDynamics) -> None:
    found = dynamics.responses(Masses(), replacement("Al"), "masses", (0.01, 0.06, 0.2, 0.4))
    shares = [one.concentration for one in found]
    assert shares == sorted(shares)
    assert shares[-1] <= 0.25 + 1e-9  # half of half the atoms


def test_the_smoothed_change_is_nearly_in_proportion_while_it_is_small(dynamics: HostDynamics) -> None:
    few, more = dynamics.responses(Masses(), replacement("Al"), "masses", (0.02, 0.06))
    one, other = (gaussian_filter1d(r.change, 8) for r in (few, more))
    assert one @ other / np.sqrt((one @ one) * (other @ other)) > 0.9


def test_responses_of_several_configurations_scatter_less(gallium_arsenide: Parent) -> None:
    """Those of two cells, drawn as lines, are more alike than those of one configuration in each."""

    def likeness(smooth: bool) -> float:
        curves = []
        for seed in (0, 10):
            dynamics = HostDynamics(gallium_arsenide, n_atoms=100, seed=seed)
            ask = dynamics.smooth_responses if smooth else dynamics.responses
            found = ask(Masses(), replacement("Al"), "masses")
            assert [one.concentration for one in found] == pytest.approx([0.01, 0.06, 0.2], abs=0.012)
            curves.append(gaussian_filter1d(found[0].change, 8))
        one, other = curves
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))

    assert likeness(smooth=False) < likeness(smooth=True) > 0.9


def test_a_smoothed_response_is_exact_where_the_change_is_a_line() -> None:
    first, slope = np.array([1.0, -2.0, 0.5]), np.array([3.0, 0.0, -8.0])

    def at(concentration: float) -> Response:
        curve = first + concentration * slope
        return Response("Ge", "Si", "masses", concentration, 0.0, curve, 2.0 * curve, 0.0)

    for shares in ((0.01, 0.06, 0.2, 0.011, 0.03), (0.05,), (0.05, 0.05)):
        every = [at(share) for share in shares]
        for one in every:
            found = smoothed(one, every)
            assert found.concentration == one.concentration
            assert found.change == pytest.approx(one.change, rel=1e-3)
            assert found.change_neutron == pytest.approx(one.change_neutron, rel=1e-3)
    unknown = [at(0.01), replace(at(0.06), change_neutron=None)]
    assert smoothed(unknown[0], unknown).change_neutron is None


def test_scales_of_one_leave_the_force_constants_as_they_are(dynamics: HostDynamics) -> None:
    cell = dynamics.cell.supercell
    full = cell.expand(dynamics.cell.host_compact)
    site, plan = Site(0, dynamics.parent.primitive.get_chemical_symbols().index("Ga"), "In"), Plan(())
    keys = [(bond.neighbour, length_key(bond.length)) for bond in bonds_of(dynamics.parent, "Ga")]

    def scaled(scale: float) -> np.ndarray:
        method = ScaledBonds({("Ga", "In"): dict.fromkeys(keys, scale)})
        return method.force_constants(dynamics.cell, [site], plan)[0]

    assert np.abs(scaled(1.0) - full).max() < 1e-8
    stiff = scaled(1.5)
    assert np.abs(stiff.reshape(cell.n_atoms, 3, cell.n_atoms, 3).sum(axis=2)).max() < 1e-8
    own = slice(3 * site.basis, 3 * site.basis + 3)
    # The dopant's own constants grow by half of what its four bonds hold, and they hold nearly all.
    ratio = np.trace(stiff[own, own]) / np.trace(full[own, own])
    assert 1.3 < ratio < 1.7


def test_bonds_of_gallium_arsenide(gallium_arsenide: Parent) -> None:
    (bond,) = bonds_of(gallium_arsenide, "Ga")
    assert (bond.neighbour, bond.count) == ("As", 4)
    assert bond.length == pytest.approx(2.45, abs=0.05)
    assert bond.along < 0 < bond.on_site


def test_the_springs_know_what_chemists_know(gallium_arsenide: Parent) -> None:
    springs = packaged_springs()
    (aluminium,) = springs.scales(gallium_arsenide, "Al", "Ga").values()
    (boron,) = springs.scales(gallium_arsenide, "B", "Ga").values()
    (indium,) = springs.scales(gallium_arsenide, "In", "Ga").values()
    assert 0.85 < aluminium < 1.25
    assert indium < aluminium < 1.4 * boron


def test_trees_are_followed_to_their_leaves() -> None:
    # One tree: the first feature up to 1 gives 0.5, beyond it 2.
    arrays = {
        "feature_0": np.array([[0, -1, -1]]),
        "threshold_0": np.array([[1.0, 0.0, 0.0]]),
        "left_0": np.array([[1, 0, 0]]),
        "right_0": np.array([[2, 0, 0]]),
        "value_0": np.array([[0.0, 0.5, 2.0]]),
        "base": np.array([0.25]),
    }
    assert Springs(arrays).log_scales(np.array([[1.0], [1.5]]), 0).tolist() == [0.75, 2.25]


def test_features_and_folds_are_stable() -> None:
    features = bond_features(Bond("As", 2.4, 4, -6.0, 30.0), "Ga", "Al")
    assert len(features) == 44
    assert fold_of("GaAs") == fold_of("AsGa") == fold_of("Ga2As2")


def test_a_row_of_the_library(silicon: Parent) -> None:
    row = host_row(silicon)
    host = HostResponses.from_row(row)
    assert (host.formula, host.space_group) == ("Si", 227)
    assert host.dos.sum() * host.frequency_step_thz == pytest.approx(3.0, rel=1e-3)
    assert [(site.element, site.count) for site in host.sites] == [("Si", 2)]
    assert {"Ge", "Sn"} <= {one.element for one in host.responses}
    assert {(one.source, one.concentration) for one in host.responses} == {("springs", 0.0)}


def test_a_row_holds_the_dopants_that_are_asked_for(silicon: Parent) -> None:
    host = HostResponses.from_row(host_row(silicon, dopants=("Ge", "Zn")))
    assert sorted(one.element for one in host.responses) == ["Ge", "Zn"]


def test_a_host_of_fast_modes_has_responses() -> None:
    """Bins with room for local modes above 100 THz go on beyond what a spectrum may have."""
    parent = from_folder(packaged_folder() / "Si")
    parent.phonons.force_constants = parent.phonons.force_constants * 80.0
    (found,) = HostDynamics(parent, n_atoms=54).responses(
        Masses(), Replacement("Ge", "Si", 1.0, False), "masses", (0.1,)
    )
    assert 100 < parent.top_thz() < 200
    assert found.change.sum() == pytest.approx(0.0, abs=1e-6 * np.abs(found.change).sum())
