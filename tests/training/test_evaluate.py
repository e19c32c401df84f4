import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import synthetic_table

from defectnet.elements import VOCABULARY
from defectnet.errors import TableError
from defectnet.model.artifact import ModelConfig, TrainedOn, save_artifact
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.model.predictor import Predictor
from defectnet.query import Query, iterate_rows
from training.calibrate import calibrate
from training.candidates import all_candidates
from training.dataset import SpectraArrays
from training.evaluate import evaluate, markdown, write_report
from training.inference import judge, run_network

TABLE = synthetic_table(120)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    settings = NetworkSettings(width=32, encoder_layers=1, decoder_layers=1, stem_channels=8)
    data = SpectraArrays.from_table(TABLE, FrequencyGrid())
    torch.manual_seed(0)
    network = DefectNetwork(settings, FrequencyGrid())
    train = data.of_split("train")
    known = np.isin(VOCABULARY, train.dopants)
    calibration = calibrate(network, train, data.of_split("validation"), known, seed=0)
    trained_on = TrainedOn(dopants=train.dopants, host_elements=train.host_elements)
    config = ModelConfig(network=settings, calibration=calibration, trained_on=trained_on)
    save_artifact(folder, network=network, config=config, card="# Random weights")
    return folder


def test_report_has_every_mode_and_a_baseline(artifact: Path, tmp_path: Path) -> None:
    report = evaluate(artifact, TABLE)
    modes = {"candidate", "guess_free", "candidate_without_reference", "guess_free_without_reference"}
    assert set(report["model"]) == set(report["constant"]) == modes
    as_json, as_text = write_report(report, tmp_path)
    assert json.loads(as_json.read_text()) == report
    assert as_text.read_text() == markdown(report)
    assert "| guess free | constant |" in markdown(report)


def test_evaluation_is_repeatable(artifact: Path) -> None:
    assert evaluate(artifact, TABLE) == evaluate(artifact, TABLE)


def test_a_table_without_test_hosts_is_refused(artifact: Path) -> None:
    only_train = TABLE.filter(SpectraArrays.from_table(TABLE, FrequencyGrid()).split == "train")
    with pytest.raises(TableError, match="test split"):
        evaluate(artifact, only_train)


def test_the_figures_are_those_of_the_predictor(artifact: Path) -> None:
    # Two paths lead to a verdict: batches in training, queries in the service. They must not drift apart.
    predictor = Predictor.load(artifact)
    data = SpectraArrays.from_table(TABLE.slice(0, 12), FrequencyGrid())
    known = np.isin(VOCABULARY, predictor.config.trained_on.dopants)
    mode = predictor.config.calibration.with_reference
    network = predictor.network
    judged = judge(run_network(network, data, all_candidates(data.host, known)), data.truth, mode, mode.guess_free)
    predictions = predictor.predict([Query.from_row(row) for row in iterate_rows(TABLE.slice(0, 12))])
    for row, prediction in enumerate(predictions):
        for verdict in prediction.elements:
            column = VOCABULARY.index(verdict.element)
            assert verdict.probability == pytest.approx(judged.probability[row, column], abs=1e-5)
            assert verdict.present == judged.present[row, column]
            for name in ("concentration", "low", "high"):
                assert getattr(verdict, name) == pytest.approx(getattr(judged, name)[row, column], rel=1e-5)


def test_training_spectra_are_nearer_than_noise(artifact: Path) -> None:
    predictor = Predictor.load(artifact)
    rows = [Query.from_row(row) for row in iterate_rows(TABLE)]
    usual = [p.ood_score for p in predictor.predict(rows)]
    assert np.mean(np.array(usual) > 0.5) < 0.05
