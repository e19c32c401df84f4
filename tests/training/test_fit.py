from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import synthetic_table

from defectnet.elements import VOCABULARY
from defectnet.metrics import score_answers
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import LOG_CONCENTRATION_BOUNDS, Answer, NetworkSettings
from training.calibrate import calibrate
from training.candidates import all_candidates
from training.dataset import SpectraArrays
from training.fit import Trainer, fit
from training.inference import judge, run_network
from training.losses import answer_loss
from training.settings import TrainSettings

TINY = NetworkSettings(width=32, encoder_layers=1, decoder_layers=1, stem_channels=8, patch_bins=16)
SETTINGS = TrainSettings(
    network=TINY, epochs=2, batch_size=16, warmup_steps=2, workers=0, reference_dropout=0.0, learning_rate=3e-3
)


@pytest.fixture(scope="module")
def arrays() -> SpectraArrays:
    return SpectraArrays.from_table(synthetic_table(80, n_hosts=40), FrequencyGrid())


def test_the_network_can_learn_thirty_two_spectra_by_heart() -> None:
    data = SpectraArrays.from_table(synthetic_table(32, n_hosts=32), FrequencyGrid())
    data.split[:] = "train"
    data = SpectraArrays(**{**vars(data), "split": np.where(np.arange(32) < 31, "train", "validation")})
    names = ("energy_scale", "resolution", "noise", "background", "low_cut")
    off = {f"{name}_probability": 0.0 for name in names}
    settings = SETTINGS.model_copy(
        update={
            "network": NetworkSettings(width=64, encoder_layers=1, decoder_layers=1, stem_channels=16, patch_bins=16),
            "epochs": 200,
            "patience": 200,
            "batch_size": 31,
            "augment": SETTINGS.augment.model_copy(update=off),
            "guess_free_share": 1.0,
            "mix_share": 0.0,
            "prior_dropout": 0.0,
            "neutron_share": 0.0,
        }
    )
    trainer = Trainer(settings, data)
    fit(trainer, report=lambda trainer, metrics: None)
    trainer.network.load_state_dict(trainer.average)
    known = np.isin(VOCABULARY, trainer.train.dopants)
    calibration = calibrate(trainer.network, trainer.train, trainer.train, known, seed=0).with_reference
    answers = run_network(trainer.network, trainer.train, all_candidates(trainer.train.host, known))
    figures = score_answers(judge(answers, trainer.train.truth, calibration, calibration.guess_free))
    assert figures["f1"] > 0.95
    assert figures["mae_pct"] < 0.6


def answer_of(
    logit: torch.Tensor,
    mean: torch.Tensor,
    spread: torch.Tensor,
    modes: torch.Tensor | None = None,
    owners: torch.Tensor | None = None,
) -> Answer:
    n = len(logit)
    modes = torch.zeros(n, 94, 4) if modes is None else modes
    owners = torch.zeros(n, 94, 4) if owners is None else owners
    return Answer(logit, mean, spread, modes, owners, torch.zeros(n, 8), torch.zeros(n, 2))


def total(answer: Answer, truth: torch.Tensor, *, modes_weight: float = 0.0, owners_weight: float = 0.0) -> float:
    """The loss where element 3 has all of its modes in the second of four tokens of two bins."""
    partial = torch.zeros(len(truth), 1, 8)
    partial[:, 0, 2:4] = 1.0
    element = torch.full((len(truth), 1), 3)
    loss = answer_loss(
        answer,
        truth,
        partial,
        element,
        concentration_weight=1.0,
        modes_weight=modes_weight,
        owners_weight=owners_weight,
    )
    assert torch.isfinite(loss.total)
    return float(loss.total)


def test_the_best_answer_has_the_least_loss() -> None:
    truth = torch.zeros(1, 94)
    truth[0, 3] = 0.05

    def loss(logit: float, concentration: float) -> float:
        logits = torch.full((1, 94), -8.0)
        logits[0, 3] = logit
        means = torch.full((1, 94), LOG_CONCENTRATION_BOUNDS[0])
        means[0, 3] = np.log(concentration)
        return total(answer_of(logits, means, torch.full((1, 94), -1.0)), truth)

    assert loss(8.0, 0.05) < loss(8.0, 0.02) < loss(-8.0, 0.02)
    assert loss(8.0, 0.05) < loss(0.0, 0.05)


def test_modes_belong_where_the_table_has_them() -> None:
    truth = torch.zeros(1, 94)
    truth[0, 3] = 0.05
    losses = []
    for token in range(4):
        modes = torch.zeros(1, 94, 4)
        modes[0, 3, token] = 5.0
        answer = answer_of(*(torch.zeros(1, 94) for _ in range(3)), modes=modes)
        losses.append(total(answer, truth, modes_weight=1.0))
    assert int(np.argmin(losses)) == 1


def test_a_batch_without_dopants_has_a_finite_loss() -> None:
    total(answer_of(*(torch.zeros(2, 94) for _ in range(3))), torch.zeros(2, 94), modes_weight=1.0)


def test_who_moves_is_the_host_element_that_the_table_names() -> None:
    losses = []
    for share in (0.9, 0.1):
        owners = torch.zeros(1, 94, 4)
        owners[0, 3], owners[0, 5] = np.log(share), np.log(1 - share)
        answer = answer_of(*(torch.zeros(1, 94) for _ in range(3)), owners=owners)
        losses.append(total(answer, torch.zeros(1, 94), owners_weight=1.0))  # nothing but the host's element 3 moves
    assert losses[0] < losses[1]


def test_a_resumed_run_ends_where_an_unbroken_one_does(arrays: SpectraArrays, tmp_path: Path) -> None:
    dropping = SETTINGS.model_copy(update={"network": TINY.model_copy(update={"dropout": 0.2})})
    unbroken = Trainer(dropping, arrays)
    fit(unbroken, report=lambda trainer, metrics: None)

    first = Trainer(dropping, arrays)
    first.run_epoch(first.network)
    first.save(tmp_path)
    resumed = Trainer(dropping, arrays)
    resumed.load(tmp_path)
    fit(resumed, report=lambda trainer, metrics: None)

    assert resumed.progress.epoch == unbroken.progress.epoch == 2
    for name, value in unbroken.average.items():
        torch.testing.assert_close(resumed.average[name], value)
    assert resumed.progress.best_loss == pytest.approx(unbroken.progress.best_loss)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_workers_take_different_rows_of_one_order(arrays: SpectraArrays) -> None:
    seen: list[list[str]] = []
    for rank in range(2):
        trainer = Trainer(SETTINGS, arrays, rank=rank, world=2)
        rows: list[str] = []
        ids = trainer.train.sample_id
        trainer._step = lambda model, index, *rest, rows=rows, ids=ids: rows.extend(ids[index]) or np.zeros(4)  # type: ignore[method-assign,misc]
        trainer.run_epoch(trainer.network)
        seen.append(rows)
    assert set(seen[0]) | set(seen[1]) == set(arrays.of_split("train").sample_id)
    assert len(seen[0]) == len(seen[1])


def test_training_stops_when_validation_does_not_improve(arrays: SpectraArrays) -> None:
    trainer = Trainer(SETTINGS.model_copy(update={"patience": 1, "epochs": 50}), arrays)
    trainer.validate = lambda: {"validation_loss": 1.0}  # type: ignore[method-assign]
    fit(trainer, report=lambda trainer, metrics: None)
    assert trainer.progress.epoch == 2


def test_a_pristine_row_has_nothing_to_be_found(arrays: SpectraArrays) -> None:
    settings = SETTINGS.model_copy(update={"pristine_share": 1.0, "mix_share": 0.0, "neutron_share": 0.0})
    trainer = Trainer(settings, arrays)
    trainer.augment = lambda sample, reference, generator: (sample, reference)  # type: ignore[assignment]
    seen: list[np.ndarray] = []

    def loss(answer: Answer, rows: SpectraArrays, truth: np.ndarray) -> object:
        seen.extend((truth, rows.partial_element))
        raise StopIteration

    trainer._loss = loss  # type: ignore[method-assign,assignment]
    with pytest.raises(StopIteration):
        trainer.run_epoch(trainer.network)
    assert (seen[0] == 0).all()
    assert (seen[1] == -1).all()
