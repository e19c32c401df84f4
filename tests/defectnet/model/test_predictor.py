from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from defectnet.elements import VOCABULARY
from defectnet.errors import SettingsError, TableError
from defectnet.host import Host
from defectnet.io.tables import PREDICTIONS_SCHEMA
from defectnet.model.artifact import ModelConfig, TrainedOn, save_artifact
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.model.predictor import Predictor
from defectnet.prediction import Prediction
from defectnet.query import Query
from defectnet.spectrum import Spectrum

AXIS = np.linspace(0.1, 15.0, 150)
DOS = np.exp(-((AXIS - 8.0) ** 2)) + 0.3 * np.exp(-((AXIS - 4.0) ** 2))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    folder: Path = tmp_path_factory.mktemp("model")
    config = ModelConfig(
        network=NetworkSettings(width=32, encoder_layers=1, decoder_layers=1, stem_channels=8),
        trained_on=TrainedOn(dopants=tuple(s for s in VOCABULARY if s != "Rn"), host_elements=("Ga", "As", "Si")),
    )
    torch.manual_seed(0)
    network = DefectNetwork(config.network, config.grid)
    save_artifact(folder, network=network, config=config, card="# Random weights")
    return Predictor.load(folder, version="7")


def query(**changes: object) -> Query:
    spectrum = Spectrum(AXIS, DOS)
    plain: dict[str, object] = {
        "sample_id": "a",
        "host": Host("GaAs"),
        "spectrum": spectrum,
        "reference": Spectrum(AXIS, DOS + 0.01),
    }
    return Query(**(plain | changes))  # type: ignore[arg-type]


def test_every_candidate_gets_a_verdict_and_nothing_else(predictor: Predictor) -> None:
    (prediction,) = predictor.predict([query(candidates=("Al", "In", "P"))])
    assert {verdict.element for verdict in prediction.elements} == {"Al", "In", "P"}
    for verdict in prediction.elements:
        assert 0.0 <= verdict.probability <= 1.0
        assert 0.0 < verdict.low <= verdict.concentration <= verdict.high <= 1.0
    order = [verdict.probability for verdict in prediction.elements]
    assert order == sorted(order, reverse=True)
    assert (prediction.model_name, prediction.model_version, prediction.error) == ("defectnet", "7", None)


def test_the_order_of_the_candidates_does_not_matter(predictor: Predictor) -> None:
    (one,) = predictor.predict([query(candidates=("Al", "In", "P"))])
    (other,) = predictor.predict([query(candidates=("P", "Al", "In"))])
    assert one.elements == other.elements


def test_guess_free_weighs_what_was_trained_and_is_not_the_host(predictor: Predictor) -> None:
    (prediction,) = predictor.predict([query()])
    named = {verdict.element for verdict in prediction.elements}
    assert not named & {"Ga", "As", "Rn"}
    assert "Rn" not in predictor.vocabulary


def test_the_recommender_ranks_without_a_list(predictor: Predictor) -> None:
    ranked = predictor.recommend(query(), n=12)
    assert len(ranked) == 12
    assert [v.probability for v in ranked] == sorted((v.probability for v in ranked), reverse=True)
    assert not {v.element for v in ranked} & {"Ga", "As", "Rn"}


def test_the_prior_can_be_switched_off(predictor: Predictor) -> None:
    (with_prior,) = predictor.predict([query(candidates=("Al", "In"))])
    (without,) = predictor.predict([query(candidates=("Al", "In"), prior=False)])
    assert with_prior.elements != without.elements


def test_axis_and_scale_do_not_matter(predictor: Predictor) -> None:
    cm = AXIS / 0.0299792458
    other = query(spectrum=Spectrum.from_unit(cm, DOS * 7.0, "cm-1"))
    one, same = predictor.predict([query(), other])
    np.testing.assert_allclose([v.probability for v in one.elements], [v.probability for v in same.elements], rtol=1e-4)


def test_warnings_say_what_is_out_of_reach(predictor: Predictor) -> None:
    odd = query(host=Host("MgO"), candidates=("Mg", "Rn"), kind="neutron")
    text = " ".join(predictor.predict([odd])[0].warnings)
    for part in ("neutron", "no training host contained Mg, O", "Mg belongs to the host", "never saw Rn"):
        assert part in text


def test_batches_and_single_queries_agree(predictor: Predictor) -> None:
    queries = [query(sample_id=str(i), candidates=("Al", "In") if i % 2 else None) for i in range(70)]
    together = predictor.predict(queries)
    assert [p.sample_id for p in together] == [q.sample_id for q in queries]
    (alone,) = predictor.predict([queries[69]])
    assert alone.elements[0].probability == pytest.approx(together[69].elements[0].probability, rel=1e-4)


def test_the_batch_size_is_one_setting(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes through the network together is what was asked for, above the default too."""
    sizes = []
    forward = DefectNetwork.forward

    def counted(self: DefectNetwork, *tensors: torch.Tensor) -> object:
        sizes.append(tensors[0].shape[0])
        return forward(self, *tensors)

    monkeypatch.setattr(DefectNetwork, "forward", counted)
    for batch_size in (16, 100):
        sizes.clear()
        Predictor(predictor.network, predictor.config, batch_size=batch_size).predict([query()] * 70)
        assert max(sizes) == min(batch_size, 70)
        assert sum(sizes) == 70
    with pytest.raises(SettingsError, match="batch_size"):
        Predictor(predictor.network, predictor.config, batch_size=0)


def test_isolated_queries_fail_alone(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [query(sample_id=str(i), candidates=("Al", "In")) for i in range(3)]
    expected = predictor.predict(queries)
    plain = predictor._answer

    def fails_on_one(queries: list[Query], *rest: object) -> list[Prediction]:
        if any(one.sample_id == "1" for one in queries):
            raise FloatingPointError("extreme")
        return plain(queries, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor, "_answer", fails_on_one)
    with pytest.raises(FloatingPointError):
        predictor.predict(queries)
    first, failed, last = predictor.predict(queries, isolate=True)
    for answer, good in ((first, expected[0]), (last, expected[2])):
        assert answer.error is None
        assert [v.element for v in answer.elements] == [v.element for v in good.elements]
    assert failed == Prediction.failed("1", "GaAs", failed.error, model_name="defectnet", model_version="7")
    assert "could not answer" in (failed.error or "")
    errors = predictor.predict_table(table(sample_id=["0", "1", "2"]), isolate=True)["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, True]


def test_a_device_that_is_not_there_is_refused(predictor: Predictor) -> None:
    for device in ("cuda:77", "typewriter"):
        with pytest.raises(SettingsError, match=device):
            Predictor(predictor.network, predictor.config, device=device)


def test_an_answer_survives_the_way_through_plain_values(predictor: Predictor) -> None:
    (answer,) = predictor.predict([query(candidates=("Al", "In"))])
    assert Prediction.from_dict(answer.to_dict()) == answer


def test_no_queries_no_predictions(predictor: Predictor) -> None:
    assert predictor.predict([]) == []


def table(**changes: list[object]) -> pa.Table:
    columns: dict[str, object] = {
        "sample_id": ["a", "b", "c"],
        "host": ["GaAs"] * 3,
        "frequency_step_thz": [0.1] * 3,
        "dos": [DOS.tolist()] * 3,
    }
    return pa.table(columns | changes)


def test_a_bad_row_costs_only_itself(predictor: Predictor) -> None:
    good = predictor.predict_table(table())
    bad = predictor.predict_table(table(dos=[DOS.tolist(), [float("nan")] * 150, DOS.tolist()]))
    assert bad.schema.equals(PREDICTIONS_SCHEMA)
    assert bad["sample_id"].to_pylist() == ["a", "b", "c"]
    assert bad["error"].to_pylist() == [None, "dos: value nan at point 0; remove or repair it", None]
    assert bad["elements"].to_pylist()[1] == []
    for row in (0, 2):
        assert [e["element"] for e in bad["elements"][row].as_py()] == [
            e["element"] for e in good["elements"][row].as_py()
        ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": ["GaAs", None, "GaAs"]}, "host"),
        ({"host": ["GaAs", "??", "GaAs"]}, "not a chemical formula"),
        ({"dos": [DOS.tolist(), [], DOS.tolist()]}, "too few"),
        ({"dos": [DOS.tolist(), None, DOS.tolist()]}, "dos"),
        ({"frequency_step_thz": [0.1, 5.0, 0.1]}, "unit"),
        ({"error": [None, "unstable", None]}, "unstable"),
        ({"candidates": [None, ["Zz"], None]}, "Zz"),
    ],
)
def test_each_kind_of_bad_row_says_so(predictor: Predictor, changes: dict[str, list[object]], message: str) -> None:
    errors = predictor.predict_table(table(**changes))["error"].to_pylist()
    assert errors[0] is None
    assert errors[2] is None
    assert message in errors[1]


def test_a_table_without_spectra_is_refused(predictor: Predictor) -> None:
    with pytest.raises(TableError, match="dos"):
        predictor.predict_table(pa.table({"sample_id": ["a"], "host": ["Si"], "frequency_step_thz": [0.1]}))


def test_an_empty_table_gives_an_empty_one(predictor: Predictor) -> None:
    assert predictor.predict_table(table().slice(0, 0)).num_rows == 0


def test_warm_up_runs(predictor: Predictor) -> None:
    predictor.warm_up()
