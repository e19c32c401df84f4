import numpy as np
import pyarrow as pa
import pytest

from defectnet.errors import CompositionError, InputError, SpectrumError, UnitError
from defectnet.host import Host
from defectnet.query import Query, iterate_rows
from defectnet.spectrum import Spectrum

FREQUENCY = np.linspace(0.1, 15.0, 60)
DOS = np.exp(-((FREQUENCY - 8.0) ** 2))


def body(**changes: object) -> dict[str, object]:
    plain = {"id": "a", "host": "GaAs", "unit": "THz", "frequency": FREQUENCY.tolist(), "dos": DOS.tolist()}
    return plain | changes


def row(**changes: object) -> dict[str, object]:
    return {"sample_id": "a", "host": "GaAs", "frequency_step_thz": 0.25, "dos": DOS} | changes


def test_json_and_row_make_the_same_query() -> None:
    reference = {"unit": "THz", "frequency": FREQUENCY.tolist(), "dos": DOS.tolist()}
    query = Query.from_json(body(reference=reference, candidates=["In", "Al"]))
    assert (query.sample_id, query.host, query.candidates) == ("a", Host("GaAs"), ("Al", "In"))
    assert query.reference is not None
    assert query.kind == "vibrational"
    from_row = Query.from_row(row(reference_dos=DOS, candidates=["Al", "In"]))
    assert from_row.candidates == query.candidates
    assert from_row.spectrum.frequency_thz[0] == pytest.approx(0.125)


def test_a_unit_is_converted_for_the_reference_too() -> None:
    reference = {"frequency": (FREQUENCY * 33.35641).tolist(), "dos": DOS.tolist(), "unit": "cm-1"}
    query = Query.from_json(body(reference=reference))
    assert query.reference is not None
    assert query.reference.frequency_thz == pytest.approx(query.spectrum.frequency_thz, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"host": "not a formula"}, CompositionError, "host"),
        ({"unit": "furlong"}, UnitError, "unit"),
        ({"unit": None}, InputError, "unit"),
        ({"dos": [float("nan")] * 60}, SpectrumError, "dos"),
        ({"dos": "abc"}, SpectrumError, "dos"),
        ({"dos": (-DOS).tolist()}, SpectrumError, "dos"),
        ({"frequency": FREQUENCY[::-1].tolist()}, SpectrumError, "frequency"),
        ({"candidates": ["Xx"]}, CompositionError, "candidates"),
        ({"candidates": []}, CompositionError, "candidates"),
        ({"candidates": "Al"}, CompositionError, "candidates"),
        ({"candidates": [1]}, CompositionError, "candidates"),
        ({"kind": "raman"}, InputError, "kind"),
        ({"kind": 3}, InputError, "kind"),
        ({"id": 7}, InputError, "id"),
        ({"colour": "red"}, InputError, "spectrum"),
        ({"reference": [1, 2]}, InputError, "reference"),
        ({"prior": "no"}, InputError, "prior"),
        ({"reference": {"frequency": [1.0], "dos": [1.0], "unit": "THz"}}, SpectrumError, "reference.dos"),
    ],
)
def test_bad_json_names_the_field(changes: dict[str, object], error: type[InputError], field: str) -> None:
    with pytest.raises(error) as caught:
        Query.from_json(body(**changes))
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize("candidates", [None, ["Ge", "Sn"]])
def test_a_query_survives_the_way_through_json(prior: bool, candidates: list[str] | None) -> None:
    query = Query.from_json(body(prior=prior, candidates=candidates, kind="neutron"))
    same = Query.from_json(query.to_json())
    np.testing.assert_allclose(same.spectrum.dos, query.spectrum.dos)
    assert (same.sample_id, same.host, same.kind) == (query.sample_id, query.host, query.kind)
    assert (same.candidates, same.prior) == (query.candidates, prior)
    assert (same.reference is None) == (query.reference is None)


@pytest.mark.parametrize("value", [None, 3, [], "text"])
def test_what_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="is not an object"):
        Query.from_json(value)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"dos": None}, "dos"),
        ({"host": None}, "host"),
        ({"frequency_step_thz": -1.0}, "frequency_step_thz"),
        ({"error": "it melted"}, "error"),
        ({"reference_dos": np.zeros(60)}, "reference.dos"),
        ({"uncertainty": [0.1] * 59}, "uncertainty"),
        ({"uncertainty": [-0.1] * 60}, "uncertainty"),
        ({"uncertainty": ["much"] * 60}, "uncertainty"),
        ({"uncertainty": 0.1}, "uncertainty"),
    ],
)
def test_bad_row_names_the_field(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InputError) as caught:
        Query.from_row(row(**changes))
    assert caught.value.field == field


@pytest.mark.parametrize("prior", [True, False])
@pytest.mark.parametrize(("host_id", "kind"), [(None, "measured"), ("mp-149", "computed")])
def test_what_is_asked_goes_into_a_row_and_comes_back(prior: bool, host_id: str | None, kind: str) -> None:
    query = Query.from_json(body(prior=prior, host_id=host_id, reference_kind=kind))
    same = Query.from_row(query.to_row())
    assert (same.prior, same.host_id, same.reference_kind) == (prior, host_id, kind)
    assert Query.from_row(row(prior=np.bool_(prior))).prior is prior


def test_errors_go_into_a_row_and_come_back() -> None:
    """What a stretch of whole points holds is as uncertain as it was, on finer bins and on coarser ones."""
    errors = np.where(FREQUENCY < 5.0, np.nan, 0.1)
    query = Query.from_json(body(uncertainty=[None if np.isnan(e) else float(e) for e in errors]))
    same = Query.from_row(query.to_row())
    assert same.uncertainty is not None
    fine = np.diff(same.spectrum.frequency_thz)[0]
    assert fine < 0.3 * np.diff(FREQUENCY)[0]
    assert np.isnan(same.uncertainty[same.spectrum.frequency_thz < 4.8]).all()
    step = float(np.diff(FREQUENCY)[0])
    lowest, highest = FREQUENCY[30] - 0.5 * step, FREQUENCY[49] + 0.5 * step
    inside = (same.spectrum.frequency_thz > lowest) & (same.spectrum.frequency_thz < highest)
    of_bins = np.sqrt(np.sum((same.uncertainty[inside] * fine) ** 2))
    assert of_bins == pytest.approx(0.1 * step * np.sqrt(20), rel=0.03)
    coarse = query.spectrum.resampled_error(errors, 4 * step, 15)
    assert coarse[-2] == pytest.approx(0.1 / np.sqrt(4), rel=0.01)


def test_a_row_as_json_may_have_errors() -> None:
    given = {"sample_id": "a", "host": "Si", "frequency_step_thz": 0.25, "dos": DOS.tolist()}
    uncertainty = Query.from_json(given | {"uncertainty": [None, *[0.1] * 59]}).uncertainty
    assert uncertainty is not None
    np.testing.assert_array_equal(uncertainty, [np.nan, *[0.1] * 59])


def test_rows_of_a_sliced_table_keep_their_own_densities() -> None:
    table = pa.table({"sample_id": ["a", "b", "c"], "dos": [[1.0, 2.0], None, [3.0, None]]}).slice(1)
    rows = list(iterate_rows(table))
    assert [r["sample_id"] for r in rows] == ["b", "c"]
    assert rows[0]["dos"] is None
    np.testing.assert_array_equal(rows[1]["dos"], [3.0, np.nan])


def test_query_is_checked_however_it_is_made() -> None:
    with pytest.raises(CompositionError):
        Query("a", Host("Si"), Spectrum(FREQUENCY, DOS), candidates=("Qq",))
