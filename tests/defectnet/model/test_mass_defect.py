"""The closed form of a mass defect against what is known without it."""

import math

import pytest
import torch

from defectnet.model.features import FrequencyGrid
from defectnet.model.mass_defect import MassDefect

GRID = FrequencyGrid(n_bins=512)
CENTRES = torch.from_numpy(GRID.centres_thz).float()


def change(shares: torch.Tensor, mass_ratio: float, spring: float = 0.0) -> torch.Tensor:
    place, ratio, kappa = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[mass_ratio]]), torch.tensor([[spring]])
    return MassDefect(GRID)(shares[None, None], place, ratio, kappa)[0, 0]


def debye(top_thz: float) -> torch.Tensor:
    edges = torch.from_numpy(GRID.edges_thz).float().clamp(max=top_thz)
    return (edges**3).diff() / top_thz**3


@pytest.mark.parametrize(("mass_ratio", "spring"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.44), (0.6, -0.2)])
def test_an_atom_that_swings_alone_changes_its_pitch(mass_ratio: float, spring: float) -> None:
    shares = torch.zeros(GRID.n_bins)
    before = int((CENTRES < 10.0).sum())
    shares[before] = 1.0
    found = change(shares, mass_ratio, spring)
    after = CENTRES[before] * math.sqrt((1.0 + spring) / mass_ratio)
    near = {name: (CENTRES / centre - 1).abs() < 0.08 for name, centre in (("old", CENTRES[before]), ("new", after))}
    assert float(found[near["old"]].sum()) == pytest.approx(-1.0, abs=0.15)
    assert float(found[near["new"]].sum()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("mass_ratio", [0.7, 1.6, 3.0])
def test_the_mean_log_frequency_falls_by_half_the_log_of_the_mass(mass_ratio: float) -> None:
    # ln det of the dynamical matrix: each of the atom's three modes' worth of mass, whatever the crystal.
    found = change(debye(12.0), mass_ratio)
    assert float(found @ CENTRES.log()) == pytest.approx(-0.5 * math.log(mass_ratio), rel=0.05)


def test_modes_are_moved_and_none_is_made() -> None:
    found = change(debye(12.0), 2.5)
    assert float(found.sum()) == pytest.approx(0.0, abs=0.02)
    assert float(found.abs().sum()) > 0.3


def test_the_same_atom_changes_nothing() -> None:
    assert float(change(debye(12.0), 1.0).abs().max()) < 1e-6
