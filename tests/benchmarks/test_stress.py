import numpy as np
import pytest
import torch
from stress import STRESSES, coverage_under_stress, raman_like, strangeness, stressed
from support.synthetic import synthetic_table

from defectnet.model.artifact import ModelConfig, TrainedOn
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from training.calibrate import calibrate
from training.dataset import SpectraArrays, dopant_mask

GRID = FrequencyGrid(n_bins=256)
SMALL = NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, stem_channels=4, patch_bins=16)


@pytest.fixture(scope="module")
def data() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(200), GRID)


@pytest.fixture(scope="module")
def model(data: SpectraArrays) -> tuple[DefectNetwork, ModelConfig]:
    torch.manual_seed(0)
    network = DefectNetwork(SMALL, GRID)
    train = data.of_split("train")
    calibration = calibrate(network, train, data.of_split("validation"), dopant_mask(train), seed=0)
    trained_on = TrainedOn(dopants=train.dopants, host_elements=train.host_elements)
    return network, ModelConfig(grid=GRID, network=SMALL, calibration=calibration, trained_on=trained_on)


def test_absurd_spectra_raise_the_score(model: tuple[DefectNetwork, ModelConfig], data: SpectraArrays) -> None:
    # The signature needs no training: even an untrained network must tell these from what it was calibrated on.
    found = strangeness(*model, data.of_split("test"))
    assert found["unseen hosts"]["warned"] < 0.1
    for name in ("3000 counts", "another host's sample", "Raman-like", "axis of the sample 10 % off"):
        assert found[name]["warned"] > 0.5, name
        assert found[name]["median"] > found["unseen hosts"]["median"]


def test_coverage_is_measured_under_every_stress(model: tuple[DefectNetwork, ModelConfig], data: SpectraArrays) -> None:
    coverage = coverage_under_stress(*model, data.of_split("test"), dopant_mask(data))
    assert set(coverage) == set(STRESSES)
    assert all(0.5 < value <= 1.0 for value in coverage.values())


def test_no_stress_changes_nothing_and_each_stress_something(data: SpectraArrays) -> None:
    np.testing.assert_allclose(stressed(data, GRID, {}).sample, data.sample, atol=1e-6)
    for name, changes in STRESSES.items():
        if "low_cut" in "".join(changes):
            continue  # the toy has no modes there
        worse = stressed(data, GRID, changes)
        moved = np.abs(worse.sample - data.sample) + np.abs(worse.reference - data.reference)
        assert (moved.sum(axis=1).mean() > 1e-3) == bool(changes), name


def test_raman_like_has_lines_and_no_acoustic_modes(data: SpectraArrays) -> None:
    lines = raman_like(data.sample, GRID)
    np.testing.assert_allclose(lines.sum(axis=1), 1.0, atol=1e-5)
    assert np.square(lines).sum(axis=1).mean() > 2 * np.square(data.sample).sum(axis=1).mean()
    low = GRID.centres_thz < 4.0
    assert lines[:, low].sum() < 0.2 * data.sample[:, low].sum()
