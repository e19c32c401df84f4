from pathlib import Path

import pytest
import torch
from support.synthetic import synthetic_table

from defectnet.model.artifact import ModelConfig, TrainedOn
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from training.dataset import SpectraArrays
from training.evaluation_pictures import draw_evaluation

GRID = FrequencyGrid(n_bins=256)
SMALL = NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, stem_channels=4, patch_bins=16)


@pytest.fixture(scope="module")
def rows() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(200), GRID).of_split("test")


def test_pictures_are_drawn(rows: SpectraArrays, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained_on = TrainedOn(dopants=rows.dopants, host_elements=rows.host_elements)
    model = DefectNetwork(SMALL, GRID), ModelConfig(grid=GRID, network=SMALL, trained_on=trained_on)
    drawn = draw_evaluation(*model, rows, tmp_path)
    assert {path.stem for path in drawn} == {"attention", "confusion", "elements", "f1", "parity", "reliability"}
    assert all(path.stat().st_size > 5_000 for path in drawn)
    assert draw_evaluation(*model, rows.without_reference(), tmp_path) == []
