import numpy as np
import pytest
import torch
from support.synthetic import synthetic_table

from defectnet.model.features import FrequencyGrid
from defectnet.spectrum import Spectrum
from training.augment import OFF, Augmenter, AugmentSettings, smearing_matrix
from training.dataset import SpectraArrays

GRID = FrequencyGrid()


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    data = SpectraArrays.from_table(synthetic_table(16), GRID)
    reference = data.reference.copy()
    reference[3] = 0.0  # a row without one
    return torch.from_numpy(data.sample), torch.from_numpy(reference)


def augment(batch: tuple[torch.Tensor, torch.Tensor], **changes: object) -> tuple[torch.Tensor, torch.Tensor]:
    augmenter = Augmenter(AugmentSettings(**(OFF | changes)), GRID)
    return augmenter(*batch, torch.Generator().manual_seed(0))


def mean_thz(shares: torch.Tensor) -> np.ndarray:
    return shares.numpy() @ GRID.centres_thz


def test_off_changes_nothing(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    sample, reference = augment(batch)
    torch.testing.assert_close(sample, batch[0], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(reference, batch[1], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_scale_probability": 1.0},
        {"resolution_probability": 1.0},
        {"noise_probability": 1.0},
        {"background_probability": 1.0},
        {"low_cut_probability": 1.0, "low_cut_range": (0.4, 0.41)},
    ],
)
def test_each_keeps_shares_and_the_input(batch: tuple[torch.Tensor, torch.Tensor], changes: dict[str, float]) -> None:
    before = batch[0].clone()
    sample, reference = augment(batch, **changes)
    torch.testing.assert_close(batch[0], before)
    assert (sample - before).abs().sum() > 1e-3
    torch.testing.assert_close(sample.sum(dim=1), torch.ones(16), atol=1e-4, rtol=0)
    assert reference[3].abs().sum() == 0
    assert (sample >= -1e-6).all()


def test_energy_scale_stretches_sample_and_reference_alike(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    sample, reference = augment(batch, energy_scale_probability=1.0, energy_scale_sigma=0.02)
    ratio = mean_thz(sample) / mean_thz(batch[0])
    assert ratio.std() == pytest.approx(0.02, rel=0.6)
    rows = [row for row in range(16) if row != 3]
    np.testing.assert_allclose(ratio[rows], (mean_thz(reference)[rows] / mean_thz(batch[1])[rows]), atol=1e-4)


def test_smearing_has_the_width_it_says() -> None:
    axis = np.arange(0.005, 40.0, 0.01)
    line = GRID.mode_shares(Spectrum(axis, (np.abs(axis - 20.0) < 0.05).astype(float)))
    smeared = line @ smearing_matrix(GRID, 0.05).numpy()
    mean = smeared @ GRID.centres_thz
    sigma = np.sqrt(smeared @ (GRID.centres_thz - mean) ** 2)
    assert mean == pytest.approx(20.0, rel=0.01)
    assert sigma == pytest.approx(1.0, rel=0.05)


def test_the_same_generator_gives_the_same_noise(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    one, other = (augment(batch, noise_probability=1.0)[0] for _ in range(2))
    torch.testing.assert_close(one, other)


def test_a_mismatch_changes_the_reference_alone(batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    sample, reference = batch
    changes = {"mismatch_probability": 1.0, "mismatch_scale_sigma": 0.02}
    augmenter = Augmenter(AugmentSettings(**(OFF | changes)), GRID)
    seen, pristine = augmenter(sample, reference, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen, sample / sample.sum(dim=1, keepdim=True))
    known = reference.sum(dim=1) > 0
    assert bool(((pristine - reference)[known].abs().sum(dim=1) > 1e-3).all())
    assert float(pristine[~known].abs().sum()) == 0.0
    torch.testing.assert_close(pristine[known].sum(dim=1), torch.ones(int(known.sum())))
