from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from defectnet.model.explain import attention_map, explain, nearest
from defectnet.model.features import element_index
from defectnet.model.predictor import Predictor
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load(released_model())


def query(spectra: pa.Table, index: int) -> Query:
    return Query.from_row(list(iterate_rows(spectra))[index])


@pytest.mark.parametrize("candidates", [None, ("Sn", "Ge", "C", "Si")])
@pytest.mark.parametrize("index", [1, 3])
def test_every_listed_element_is_explained(
    predictor: Predictor, spectra: pa.Table, index: int, candidates: tuple[str, ...] | None
) -> None:
    question = replace(query(spectra, index), candidates=candidates)
    (prediction,) = predictor.predict([question])
    found = explain(predictor, question, prediction)
    elements = [verdict.element for verdict in prediction.elements[:4]]
    assert list(found.occlusion) == elements
    assert list(found.attention) == elements
    for element in elements:
        assert found.occlusion[element].shape == (found.window_edges_thz.size - 1,)
        assert found.attention[element].shape == (found.token_edges_thz.size - 1,)
        assert 0.0 < found.attention[element].sum() <= 1.0
    assert found.window_edges_thz[-1] > question.spectrum.top_thz()


def test_attention_is_of_the_element_that_it_names(predictor: Predictor, spectra: pa.Table) -> None:
    """An element's weights do not move to another row when the list of candidates changes."""
    two, three = (replace(query(spectra, 1), candidates=names) for names in (("Ge", "Sn"), ("Ge", "Sn", "Ca")))
    one, other = (explain(predictor, question, predictor.predict([question])[0]).attention for question in (two, three))
    for element in ("Ge", "Sn"):
        across = {name: float(np.abs(one[element] - values).sum()) for name, values in other.items()}
        assert min(across, key=lambda name: across[name]) == element


def test_one_meaning_of_attention(predictor: Predictor, spectra: pa.Table) -> None:
    """The report and the evaluation's picture show the same weights: those of every layer of every member."""
    question = replace(query(spectra, 1), candidates=("Ge", "Sn"))
    found = explain(predictor, question, predictor.predict([question])[0]).attention
    looked = attention_map(predictor.network, predictor.inputs([question]))[0].numpy()
    for element, weights in found.items():
        np.testing.assert_array_equal(weights, looked[element_index(element)])
    assert np.flatnonzero(looked.any(axis=1)).tolist() == sorted(element_index(element) for element in found)


def test_where_nothing_differs_nothing_speaks(predictor: Predictor, spectra: pa.Table) -> None:
    sample = query(spectra, 1)
    assert sample.reference is not None
    pristine = replace(sample, spectrum=sample.reference, candidates=("Ge", "Sn"))
    found = explain(predictor, pristine, predictor.predict([pristine])[0])
    for fall in found.occlusion.values():
        np.testing.assert_allclose(fall, 0.0, atol=1e-4)
    changed = replace(sample, candidates=("Ge", "Sn"))
    found = explain(predictor, changed, predictor.predict([changed])[0])
    assert max(np.abs(fall).max() for fall in found.occlusion.values()) > 1e-3


def test_nearest(predictor: Predictor, spectra: pa.Table) -> None:
    neighbours = nearest(query(spectra, 1), spectra, predictor.config.grid, count=3)
    assert [n.sample_id for n in neighbours] == ["Si:Ge 10 %", "Si:Ge 5 %", "no reference"]
    assert neighbours[0].distance == 0.0
    # 5 % of the modes moved from the local band to the host's.
    assert neighbours[1].distance == pytest.approx(0.05, abs=0.01)
    assert (neighbours[0].host, neighbours[0].defects) == ("Si", "Ge 10.0 %")
