import numpy as np
import pytest
from support.synthetic import synthetic_table

from defectnet.elements import VOCABULARY
from defectnet.model.features import FrequencyGrid
from training.baselines import BASELINES, relative_shares
from training.candidates import all_candidates
from training.dataset import SpectraArrays, dopant_mask
from training.evaluate import score_baseline

GRID = FrequencyGrid(n_bins=256)


@pytest.fixture(scope="module")
def data() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(180), GRID)


@pytest.mark.parametrize("name", BASELINES)
def test_each_answers_what_was_asked_and_nothing_else(name: str, data: SpectraArrays) -> None:
    train, validation, test = (data.of_split(split) for split in ("train", "validation", "test"))
    asked = all_candidates(test.host, dopant_mask(train))
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


def test_relative_bins_keep_every_mode_below_the_top(data: SpectraArrays) -> None:
    binned = relative_shares(data.reference, data.reference, GRID, 50)
    np.testing.assert_allclose(binned.sum(axis=1), 1.0, atol=0.01)
    assert len(VOCABULARY) == data.host.shape[1]
    # A crystal whose every frequency is doubled looks the same on its own scale.
    wide = FrequencyGrid(n_bins=GRID.n_bins, scale_thz=2 * GRID.scale_thz, top_thz=2 * GRID.top_thz)
    np.testing.assert_allclose(relative_shares(data.reference, data.reference, wide, 50), binned, atol=1e-9)
