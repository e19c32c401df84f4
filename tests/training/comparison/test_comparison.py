"""Training of the comparison on made-up hosts."""

from collections import Counter

import numpy as np
import pytest
import torch
from support.responses import made_up_library, made_up_rows

import training.comparison.rows as rows_module
from defectnet.errors import SettingsError
from defectnet.io.tables import write_table
from defectnet.model.artifact import load_artifact
from defectnet.model.comparison.calibration import ComparisonCalibration
from defectnet.model.comparison.comparer import SOURCES, ComparerSettings
from defectnet.model.comparison.hosts import source_class
from defectnet.released import released_model
from training.comparison.answers import SIFTED, RawAnswers, Regime, judge, raw_answers
from training.comparison.batches import BatchMaker
from training.comparison.evaluate import _map_of, calibrate_comparison, evaluate_comparison
from training.comparison.fit import comparison_loss, fit_comparer
from training.comparison.lists import candidate_entries
from training.comparison.mismatch import Mismatch, MismatchSettings, bent
from training.comparison.rows import ComparisonRows
from training.comparison.run import train_comparison
from training.comparison.settings import CompareSettings

SETTINGS = CompareSettings(
    steps=60, batch_size=16, learning_rate=5e-3, warmup_steps=5, network=ComparerSettings(width=16, layers=1, heads=2)
)


def test_rows_know_their_host_and_truth(rows):
    assert len(rows) == 36
    assert set(rows.label) == {"endmember"}
    first = rows.truth[0]
    assert all(replaced == "Mg" and 0 < amount < 0.2 for (_, replaced), amount in first.items())
    sample, reference, neutron = rows.spectra(0, neutron=True)
    assert not neutron  # no partial densities: as vibrational
    assert sample.shape == reference.shape


def test_a_hard_list_has_one_source(rows):
    host = rows.hosts["made-up-MgO"].vibrational
    found = candidate_entries(host, {"Ca"}, "hard", np.random.default_rng(0))
    assert {entry.source for entry in found} == {"endmember"}
    assert {entry.element for entry in found} == {"Ca", "Zn", "Ni"}


def test_the_source_says_nothing_of_the_truth(rows):
    """In mixed lists a true dopant has its better source as often as a distractor has one."""
    host, rng = rows.hosts["made-up-MgO"].vibrational, np.random.default_rng(0)
    seen: Counter[tuple[bool, bool]] = Counter()
    for _ in range(2000):
        for entry in candidate_entries(host, {"Ca"}, "mixed", rng, n_distractors=3):
            seen[entry.element == "Ca", source_class(entry.source) != "springs"] += 1
    shares = [seen[true, True] / (seen[true, True] + seen[true, False]) for true in (True, False)]
    assert shares[0] == pytest.approx(shares[1], abs=0.05)
    assert 0.1 < shares[0] < 0.95


def test_a_bent_axis_keeps_the_modes():
    from defectnet.model.comparison.axis import CENTRES, WIDTHS

    band = torch.tensor(np.exp(-0.5 * ((CENTRES - 0.6) / 0.1) ** 2), dtype=torch.float32)[None]
    band = 3 * band / float((band * torch.tensor(WIDTHS)).sum())
    moved = bent(band, torch.tensor([[0.05, 0.0, 0.0]]))
    assert float((moved.double() * torch.tensor(WIDTHS)).sum()) == pytest.approx(3.0, rel=1e-3)
    assert CENTRES[int(moved.argmax())] == pytest.approx(0.6 / 1.05, abs=0.01)


def test_training_learns_and_goes_on_where_it_stopped(in_training, tmp_path):
    torch.set_num_threads(1)
    losses = []
    often = SETTINGS.model_copy(update={"checkpoint_steps": 20})
    fit_comparer(in_training, often, tmp_path / "a", report=lambda metrics: losses.append(metrics["presence_loss"]))
    assert losses[-1] < 0.7 * losses[0]
    again = []
    fit_comparer(in_training, often, tmp_path / "a", report=again.append)
    assert again == []  # all steps are done


def test_the_pristine_control_finds_nothing_of_the_truth(in_training, tmp_path):
    network = fit_comparer(in_training, SETTINGS, tmp_path)
    regime = Regime("hard", "endmember")
    places = list(range(len(in_training)))
    told = [
        judge(
            raw_answers(network, in_training, places, regime, pristine=pristine),
            ComparisonCalibration(),
            candidates=True,
        )
        for pristine in (False, True)
    ]
    truth = told[0].truth > 0
    apart = [float(one.probability[truth].mean() - one.probability[one.asked & ~truth].mean()) for one in told]
    assert apart[0] > apart[1] + 0.2
    assert told[1].truth.sum() == 0


def test_a_report_has_a_control_beside_each_regime(rows, tmp_path):
    hosts = {
        name: rows_module.RowHost(host.vibrational, host.neutron, host.ratio, split, host.rows)
        for (name, host), split in zip(rows.hosts.items(), ("train", "validation", "test"), strict=True)
    }
    split = ComparisonRows(**{**vars(rows), "hosts": hosts})
    network = fit_comparer(split, SETTINGS, tmp_path)
    calibration = calibrate_comparison(network, split)
    # So few dopants say nothing of probabilities: what is not fitted keeps the network's own.
    assert set(calibration.with_candidates) == set(SOURCES)
    assert calibration.factor_of("springs") > 1.0
    report = evaluate_comparison(network, calibration, split)
    assert {"hard_lists", "random_others", "guess_free"} <= set(report)
    assert "hard_lists_of_potential" not in report  # of such rows only pristine ones are there
    for figures in report.values():
        assert {"headline", "control", "best_threshold_f1", "ece"} <= set(figures)


def test_what_was_sifted_out_says_nothing_of_a_map():
    rng = np.random.default_rng(0)
    logit = rng.normal(scale=3.0, size=(400, 5))
    truth = np.where(rng.random(logit.shape) < 1.0 / (1.0 + np.exp(-2.0 * logit)), 0.05, 0.0)

    def answers(logit: np.ndarray, truth: np.ndarray) -> RawAnswers:
        none = np.zeros_like(logit)
        return RawAnswers(logit, none, none, none.astype(int), truth, none[:, 0], none.astype(int), fittable=None)

    plain = _map_of([(answers(logit, truth), 1.0)], 0)
    assert plain is not None
    assert plain.slope == pytest.approx(2.0, rel=0.2)
    sifted = np.concatenate([logit, np.full((400, 5), SIFTED)])
    assert _map_of([(answers(sifted, np.concatenate([truth, truth])), 1.0)], 0) == plain


def test_answers_that_weigh_twice_count_twice():
    rng = np.random.default_rng(1)
    shape = 200, 5
    none = np.zeros(shape)
    one, other = (
        RawAnswers(rng.normal(size=shape), none, none, none.astype(int), truth, none[:, 0], none.astype(int), None)
        for truth in (rng.random(shape) * (rng.random(shape) < share) for share in (0.1, 0.5))
    )
    assert _map_of([(one, 1.0), (other, 2.0)], 0).offset == pytest.approx(
        _map_of([(one, 1.0), (other, 1.0), (other, 1.0)], 0).offset, abs=1e-3
    )


def test_a_loss_without_any_dopant_is_finite(in_training):
    maker = BatchMaker(in_training, Mismatch(MismatchSettings()), mixtures=0.0, pristine=1.0)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    questions = [maker.question(row, "likely", rng, neutron=False, source="", n_distractors=4) for row in range(4)]
    batch = maker.batch(questions, rng, generator, distorted=0.0, without_prior=0.5)
    from defectnet.model.comparison.comparer import Comparer

    presence, concentration = comparison_loss(Comparer(SETTINGS.network)(batch.inputs), batch)
    assert torch.isfinite(presence)
    assert float(concentration.detach()) == 0.0


def test_any_candidate_may_be_in_a_made_up_sample(in_training):
    maker = BatchMaker(in_training, Mismatch(MismatchSettings()), mixtures=0.0, pristine=0.0, made_up=1.0)
    rng = np.random.default_rng(0)
    met = set()
    for row in range(12):
        asked = maker.question(row, "all", rng, neutron=False, source="", n_distractors=4)
        assert asked.truth
        assert all(0 < amount <= 0.2 for amount in asked.truth.values())
        assert np.isfinite(asked.sample).all()
        met |= {element for element, _ in asked.truth}
    assert "Al" in met  # no row holds it: it has no end member


def test_a_folder_of_another_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_table(made_up_rows(2), tmp_path / "rows.parquet")
    write_table(made_up_library()._tables[0], tmp_path / "responses.parquet")
    output = tmp_path / "run"
    output.mkdir()
    (output / "run.json").write_text('{"dataset_sha256": "other", "config_sha256": "other", "mlflow_run_id": "1"}')
    with pytest.raises(SettingsError, match="other data or settings"):
        train_comparison(tmp_path / "rows.parquet", tmp_path / "responses.parquet", released_model(), output, SETTINGS)
    assert sorted(file.name for file in output.iterdir()) == ["run.json"]


def test_between_the_weights_gone_on_from_and_the_new_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_table(made_up_rows(), tmp_path / "rows.parquet")
    write_table(made_up_library()._tables[0], tmp_path / "responses.parquet")
    base, _ = load_artifact(released_model())
    kept = {}
    for share in (0.0, 0.5):
        settings = SETTINGS.model_copy(
            update={"network": base.comparer.settings, "go_on": True, "former_share": share, "steps": 2}
        )
        files = tmp_path / "rows.parquet", tmp_path / "responses.parquet"
        network, _ = load_artifact(train_comparison(*files, released_model(), tmp_path / str(share), settings))
        kept[share] = network.comparer.state_dict()
    for name, former in base.comparer.state_dict().items():
        if former.is_floating_point():
            assert torch.allclose(kept[0.5][name], 0.5 * (former + kept[0.0][name]), atol=1e-6)
    assert not torch.equal(kept[0.0]["entry.weight"], kept[0.5]["entry.weight"])
