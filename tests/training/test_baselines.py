import numpy as np
import pytest
import torch
from synthetic import synthetic_table

from defectnet.elements import VOCABULARY
from defectnet.model.features import FrequencyGrid
from training.baselines import BASELINES, relative_shares
from training.candidates import everything
from training.dataset import SpectraArrays, dopant_mask
from training.evaluate import score_baseline
from training.precursor import Precursor, fit_precursor

GRID = FrequencyGrid(n_bins=256)


@pytest.fixture(scope="module")
def data() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(180), GRID)


@pytest.mark.parametrize("name", BASELINES)
def test_each_answers_what_was_asked_and_nothing_else(name: str, data: SpectraArrays) -> None:
    train, validation, test = (data.of_split(split) for split in ("train", "validation", "test"))
    asked = everything(test.host, dopant_mask(train))
    answers = BASELINES[name](train, validation, GRID)(test, asked)
    assert (np.isfinite(answers.presence_logit) == asked).all()
    assert np.isfinite(answers.log_concentration).all()
    assert np.isfinite(answers.log_spread).all()


def test_what_reads_the_spectrum_beats_what_does_not(data: SpectraArrays) -> None:
    known = dopant_mask(data.of_split("train"))
    f1 = {
        name: score_baseline(BASELINES[name], data, data.of_split("test"), known, GRID)["guess_free"]["headline"]["f1"]
        for name in ("constant", "ridge", "boosting")
    }
    # In the toy, bands follow masses: a regression of the change must see them.
    assert f1["ridge"] > f1["constant"] + 0.1
    assert f1["boosting"] > f1["constant"]


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


def test_relative_bins_keep_every_mode_below_the_top(data: SpectraArrays) -> None:
    binned = relative_shares(data.reference, data.reference, GRID, 50)
    np.testing.assert_allclose(binned.sum(axis=1), 1.0, atol=0.01)
    assert len(VOCABULARY) == data.host.shape[1]
    # A crystal whose every frequency is doubled looks the same on its own scale.
    wide = FrequencyGrid(n_bins=GRID.n_bins, scale_thz=2 * GRID.scale_thz, top_thz=2 * GRID.top_thz)
    np.testing.assert_allclose(relative_shares(data.reference, data.reference, wide, 50), binned, atol=1e-9)
