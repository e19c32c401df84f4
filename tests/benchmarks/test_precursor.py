import pytest
import torch
from precursor import Precursor, fit_precursor
from support.synthetic import synthetic_table

from defectnet.model.features import FrequencyGrid
from training.baselines import BASELINES
from training.dataset import SpectraArrays, dopant_mask
from training.evaluate import score_baseline

GRID = FrequencyGrid(n_bins=256)


@pytest.fixture(scope="module")
def data() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(180), GRID)


def test_the_precursor_has_the_size_of_its_original() -> None:
    assert sum(parameter.numel() for parameter in Precursor(57).parameters()) == 238_841


def test_the_precursor_learns_and_cannot_do_without_a_reference(data: SpectraArrays) -> None:
    known = dopant_mask(data.of_split("train"))
    torch.manual_seed(0)
    scores = score_baseline(
        lambda train, validation, grid: fit_precursor(train, validation, grid, most_steps=150),
        data,
        data.of_split("test"),
        known,
        GRID,
        suffixes=("",),
    )
    constant = score_baseline(BASELINES["constant"], data, data.of_split("test"), known, GRID)
    assert set(scores) == {"candidate", "guess_free"}
    assert scores["candidate"]["headline"]["recall_at_3"] > constant["candidate"]["headline"]["recall_at_3"]
