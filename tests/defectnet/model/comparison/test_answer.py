from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.given_hosts import comparing_artifact, give_made_up
from support.responses import DOPANTS, made_up_library
from support.responses import made_up_question as question

from defectnet.host import Host
from defectnet.io.tables import PREDICTIONS_SCHEMA
from defectnet.model.artifact import ModelConfig, load_artifact, save_artifact
from defectnet.model.comparison.answer import Answered, Comparison
from defectnet.model.comparison.calibration import any_of
from defectnet.model.comparison.comparer import ComparerSettings
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.model.predictor import Predictor
from defectnet.prediction import ElementVerdict, Fit, Prediction
from defectnet.query import Query
from defectnet.spectrum import Spectrum

SMALL = NetworkSettings(width=16, encoder_layers=1, decoder_layers=1, heads=2, members=1)


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    config = ModelConfig(
        network=SMALL, grid=FrequencyGrid(n_bins=64), comparer=ComparerSettings(width=16, layers=1, heads=2)
    )
    network = DefectNetwork(config.network, config.grid, config.comparer)
    return Predictor(network, config, responses=made_up_library())


def test_a_known_host_with_a_reference_is_compared(predictor):
    (answer,) = predictor.predict([question({"Ca": 0.05}, candidates=("Ca", "Zn", "Al"))])
    assert answer.fit is not None
    assert answer.fit.host_id == "made-up-MgO"
    assert answer.fit.sources == {"Ca": "endmember", "Zn": "endmember", "Al": "springs"}
    assert 0.0 <= answer.fit.explained <= 1.0
    assert {verdict.element for verdict in answer.elements} == {"Ca", "Zn", "Al"}


def test_layers_that_multiply_in_16_bits_answer_nearly_the_same(predictor):
    queries = [question({"Ca": 0.05}, candidates=("Ca", "Zn", "Al")), question({"Ca": 0.05}, reference=False)]
    coarse = Predictor(predictor.network, predictor.config, responses=made_up_library(), precision="bfloat16")
    for exact, rounded in zip(predictor.predict(queries), coarse.predict(queries), strict=True):
        expected = {verdict.element: verdict for verdict in exact.elements}
        found = {verdict.element: verdict for verdict in rounded.elements}
        assert found != expected  # it does multiply otherwise
        assert {e: v.probability for e, v in found.items()} == pytest.approx(
            {e: expected[e].probability for e in found}, abs=0.05
        )


def test_without_reference_or_host_the_spectrum_alone_answers(predictor):
    without, unknown = predictor.predict(
        [question({"Ca": 0.05}, reference=False), question({"K": 0.05}, host="NaCl", host_id=None)]
    )
    assert without.fit is None
    assert any("pristine" in warning for warning in without.warnings)
    assert unknown.fit is not None
    other = Query("q", Host("KCl"), unknown_spectrum := question({}).spectrum, unknown_spectrum)
    assert predictor.predict([other])[0].fit is None


def test_an_element_without_a_response_is_judged_by_the_spectrum_and_said(predictor):
    (answer,) = predictor.predict([question({"Ca": 0.05}, candidates=("Ca", "Pb"))])
    assert {verdict.element for verdict in answer.elements} == {"Ca", "Pb"}
    assert any("Pb" in warning and "response" in warning for warning in answer.warnings)


@pytest.mark.parametrize(("explained", "doubted"), [(0.3, True), (0.9, False)])
def test_what_explains_little_is_doubted_first(predictor, monkeypatch, explained, doubted):
    found = ElementVerdict("Ca", True, 0.9, 0.05, 0.03, 0.08)
    answered = Answered((found,), Fit("made-up-MgO", explained, {"Ca": "endmember"}), 0.0, {"Ca": 0}, 0.0)
    monkeypatch.setattr(Comparison, "answer", lambda self, queries, placed, least: [answered])
    (answer,) = predictor.predict([question({"Ca": 0.05}, candidates=("Ca",))])
    assert any("Ca explains only 30% of the measured change" in one for one in answer.warnings[:1]) == doubted


def test_a_host_that_is_not_there_costs_its_own_query_only(predictor):
    wrong, right = predictor.predict([question({"Ca": 0.05}, host_id="mp-0"), question({"Ca": 0.05})])
    assert "mp-0" in wrong.error
    assert right.error is None
    assert right.fit is not None


def test_the_best_set_is_the_true_one(predictor):
    asked = question({"Ca": 0.06}, candidates=("Ca", "Zn", "Ni"))
    (answer,) = predictor.predict([asked])
    best = predictor.with_alternatives(asked, answer).fit.alternatives[0]
    assert best.elements == ("Ca",)
    assert best.explained > 0.97
    assert best.concentrations[0] == pytest.approx(0.06, rel=0.1)


def test_curves_add_up(predictor):
    asked = question({"Ca": 0.06}, candidates=("Ca", "Zn"))
    (answer,) = predictor.predict([asked])
    curves = predictor.curves(asked, answer)
    whole = curves.residual + sum(curves.each.values(), np.zeros_like(curves.residual))
    assert whole == pytest.approx(curves.measured)


def test_a_batch_answers_as_each_alone(predictor):
    asked = [question({"Ca": 0.05}), question({"K": 0.1}, host="NaCl"), question({}, candidates=("Ca", "Zn"))]
    together, alone = predictor.predict(asked), [predictor.predict([one])[0] for one in asked]
    for one, other in zip(together, alone, strict=True):
        assert [v.element for v in one.elements] == [v.element for v in other.elements]
        assert [v.probability for v in one.elements] == pytest.approx([v.probability for v in other.elements], abs=1e-4)
        for name in ("concentration", "low", "high"):
            amounts = [getattr(verdict, name) for verdict in other.elements]
            assert [getattr(verdict, name) for verdict in one.elements] == pytest.approx(amounts, rel=1e-3)
        assert one.fit.explained == pytest.approx(other.fit.explained, abs=1e-4)


def test_spectra_are_compared_by_hosts_and_answered_in_their_order(predictor, monkeypatch):
    small = Predictor(predictor.network, predictor.config, responses=made_up_library(), batch_size=2)
    batches, compare = [], Predictor._predict_batch

    def noted(self, queries, *more):
        batches.append([query.host.formula for query in queries])
        return compare(self, queries, *more)

    monkeypatch.setattr(Predictor, "_predict_batch", noted)
    asked = [question({}, host=host, candidates=("Zn",)) for host in ("NaCl", "MgO", "NaCl", "MgO", "NaCl")]
    answers = small.predict([replace(one, sample_id=str(number)) for number, one in enumerate(asked)])
    assert [answer.sample_id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert [answer.host for answer in answers] == [one.host.formula for one in asked]
    assert batches == [["MgO"] * 2, ["NaCl"] * 2, ["NaCl"]]


def test_the_fit_survives_the_table(predictor):
    asked = question({"Ca": 0.05}, candidates=("Ca", "Zn"))
    answer = predictor.with_alternatives(asked, predictor.predict([asked])[0])
    assert Prediction.from_dict(answer.to_dict()) == answer

    (row,) = pa.Table.from_pylist([answer.to_dict()], schema=PREDICTIONS_SCHEMA).to_pylist()
    assert row["fit"]["host_id"] == "made-up-MgO"
    assert Prediction.from_dict(row).fit.sources == answer.fit.sources


def test_an_artifact_keeps_the_comparer(predictor, tmp_path):
    save_artifact(tmp_path, network=predictor.network, config=predictor.config, card="# A card")
    network, config = load_artifact(tmp_path)
    assert config.comparer == predictor.config.comparer
    for name, value in predictor.network.comparer.state_dict().items():
        assert torch.equal(network.comparer.state_dict()[name], value)


def test_one_of_several_sites():
    logits = np.array([0.3, -1.2])
    p = 1.0 / (1.0 + np.exp(-logits))
    both = 1.0 - np.prod(1.0 - p)
    assert 1.0 / (1.0 + np.exp(-any_of(logits))) == pytest.approx(both)
    assert any_of(np.array([0.7])) == pytest.approx(0.7)


def test_without_a_list_what_has_a_response_is_weighed(predictor):
    (answer,) = predictor.predict([question({"Ca": 0.05})])
    assert {verdict.element for verdict in answer.elements} <= set(DOPANTS["MgO"][1])
    assert {verdict.element for verdict in answer.elements} >= {"Ca", "Zn", "Ni"}


def test_a_host_that_was_given_answers_by_its_id_alone(predictor, tmp_path):
    store = str(tmp_path / "hosts")
    given = give_made_up(store)
    artifact = comparing_artifact(tmp_path / "model")
    knowing = Predictor.load(artifact, responses=None, given_hosts=store)
    asked = question({"Ca": 0.05}, candidates=("Ca", "Zn"))
    by_id, by_formula, other = knowing.predict([replace(asked, host_id=given), asked, replace(asked, host_id="mp-149")])
    assert by_id.fit.host_id == given
    assert by_id.fit.sources == {"Ca": "endmember", "Zn": "endmember"}
    assert by_formula.fit is None  # nobody named it
    assert "mp-149" in other.error
    (missing,) = knowing.predict([replace(asked, host_id="h-" + "0" * 24)])
    assert "not ready" in missing.error
    later = give_made_up(store, "NaCl")  # a host that becomes ready while the model serves
    (answer,) = knowing.predict([question({"K": 0.1}, host="NaCl", host_id=later)])
    assert answer.fit.host_id == later


def test_a_host_of_another_composition_is_refused(predictor):
    wrong, right = predictor.predict([question({"Ca": 0.05}, host_id="made-up-NaCl"), question({"Ca": 0.05})])
    assert "made-up-NaCl is NaCl, not MgO" in wrong.error
    assert right.error is None


def test_a_host_without_responses_is_guessed_and_says_how_far_the_sample_is(predictor):
    asked = replace(question({"Ca": 0.2}), host=Host("BaO"))
    (answer,) = predictor.predict([asked])
    assert answer.fit is None
    assert answer.warnings[0].startswith("no responses of BaO are known: a guess from the spectrum alone, and ")
    (same,) = predictor.predict([replace(asked, spectrum=asked.reference)])
    assert "lie elsewhere" not in same.warnings[0]
    (undecided,) = predictor.predict([replace(asked, reference_kind="computed")])
    assert not [one for one in undecided.warnings if one.startswith("no responses")]  # "cannot tell" says it


def test_a_reference_unlike_its_host_is_said_first(predictor):
    asked = question({"Ca": 0.05})
    flat = Spectrum(asked.spectrum.frequency_thz, np.ones_like(asked.spectrum.dos))
    (answer,) = predictor.predict([replace(asked, reference=flat)])
    assert answer.fit is None
    assert "unlike the computed MgO (made-up-MgO)" in answer.warnings[0]


def test_a_sample_off_its_references_axis_is_said(predictor):
    asked = question({}, candidates=("Ca", "Zn"))
    spectrum = asked.reference
    moved = Spectrum(spectrum.frequency_thz * 1.006, spectrum.dos).normalised()
    still, drifted = predictor.predict([asked, replace(asked, spectrum=moved)])
    (free,) = predictor.predict([replace(asked, spectrum=moved, candidates=None)])
    assert any("axis is probably off the reference's" in one for one in free.warnings)
    assert not [verdict for answer in (still, drifted) for verdict in answer.elements if verdict.present]
    assert not [one for one in still.warnings if "axis" in one]
    assert any("axis is probably off the reference's" in one for one in drifted.warnings)


@pytest.mark.parametrize(("moved", "doubted"), [(0.02, False), (0.2, True)])
def test_nothing_found_in_a_large_change_is_doubted_first(predictor, monkeypatch, moved, doubted):
    absent = ElementVerdict("Ca", False, 0.05, 0.05, 0.03, 0.08)
    answered = Answered((absent,), Fit("made-up-MgO", 0.0, {"Ca": "endmember"}, moved=moved), 0.0, {"Ca": 0}, 0.0)
    monkeypatch.setattr(Comparison, "answer", lambda self, queries, placed, least: [answered])
    (answer,) = predictor.predict([question({"Ca": 0.05}, candidates=("Ca",))])
    assert any("of the modes lie elsewhere than in the reference" in one for one in answer.warnings[:1]) == doubted


@pytest.mark.parametrize(
    ("sites", "chances", "said"),
    [
        ((0, 0), (0.45, 0.4), True),
        ((0, 1), (0.45, 0.4), False),
        ((0, 0), (0.45, 0.2), False),
        ((0, 0), (0.9, 0.4), False),
    ],
)
def test_one_of_two_that_are_alike_is_told(predictor, monkeypatch, sites, chances, said):
    verdicts = [ElementVerdict(e, p > 0.5, p, 0.05, 0.03, 0.08) for e, p in zip(("Ca", "Zn"), chances, strict=True)]
    fit = Fit("made-up-MgO", 0.9, {"Ca": "endmember", "Zn": "endmember"})
    answered = Answered(tuple(verdicts), fit, 0.0, dict(zip(("Ca", "Zn"), sites, strict=True)), 0.0)
    monkeypatch.setattr(Comparison, "answer", lambda self, queries, placed, least: [answered])
    (answer,) = predictor.predict([question({"Ca": 0.05}, candidates=("Ca", "Zn"))])
    assert any("Ca or Zn is probably there (p 0.45, 0.40)" in one for one in answer.warnings) == said


def test_what_a_change_moves(predictor):
    """A response moves as many modes for each unit of concentration as its peaks hold, less what smoothing takes."""
    none, little, much = (
        predictor.predict([question({"Ca": amount}, candidates=("Ca", "Zn"))])[0].fit.moved
        for amount in (1e-9, 0.01, 0.02)
    )
    assert none < 1e-3
    assert much == pytest.approx(2 * little, rel=0.02)
    assert 0.03 < much < 0.06
