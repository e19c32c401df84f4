from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from support.responses import host_density, made_up_hosts, made_up_library
from support.responses import made_up_question as question

from defectnet.io.response_library import RESPONSES_SCHEMA, ResponseLibrary, packed
from defectnet.model.comparison import placing
from defectnet.model.comparison.placing import Placing
from defectnet.spectrum import Spectrum

ELEMENTS = ("Al", "Ca", "K", "Ni", "Rb", "Zn")


def of_two_crystals():
    """The made-up library with another crystal of MgO before the usual one."""
    rows = made_up_hosts()
    shifted = np.roll(host_density("MgO"), 12)
    other = rows[0] | {"host_id": "other-MgO", "dos": packed(shifted, np.int16)}
    return ResponseLibrary([pa.Table.from_pylist([other, *rows], schema=RESPONSES_SCHEMA)])


@pytest.fixture
def searches(monkeypatch):
    """The tops, THz, of the hosts over which a warp was sought."""
    sought = []

    def noted(reference, computed, as_it_is):
        sought.append(as_it_is.top_thz)
        return search(reference, computed, as_it_is)

    search = placing.moved
    monkeypatch.setattr(placing, "moved", noted)
    return sought


def stretched(query, factor):
    """The same question by an instrument whose axis is off."""
    axis = query.spectrum.frequency_thz * factor
    spectra = {"spectrum": query.spectrum, "reference": query.reference}
    return replace(query, **{name: Spectrum(axis, one.dos) for name, one in spectra.items()})


def test_a_crystal_that_the_reference_is_ends_the_search(searches):
    asked = replace(question({"Ca": 0.05}), host_id=None)
    (placed,) = Placing(of_two_crystals()).place([asked], [ELEMENTS])
    assert placed.host.host_id == "made-up-MgO"
    assert placed.registration.warp == (0.0, 0.0, 0.0)
    assert searches == []


def test_else_the_crystal_that_fits_best_is_taken(searches):
    asked = stretched(replace(question({"Ca": 0.05}), host_id=None), 1.03)
    (placed,) = Placing(of_two_crystals()).place([asked], [ELEMENTS])
    assert placed.host.host_id == "made-up-MgO"
    assert placed.registration.stretch == pytest.approx(0.03, abs=0.003)
    assert len(searches) == 2


def test_many_are_placed_as_each_alone(searches):
    asked = [question({"Ca": 0.05}), question({"K": 0.1}, host="NaCl"), question({"Ca": 0.05}, reference=False)]
    asked += [stretched(asked[0], 0.97), replace(asked[0], reference_kind="computed"), asked[0]]
    together = Placing(made_up_library()).place(asked, [ELEMENTS] * len(asked))
    assert together[2] is None
    assert len(searches) == 2  # the stretched reference, and the sample that is laid by itself
    for query, one in zip(asked, together, strict=True):
        (alone,) = Placing(made_up_library()).place([query], [ELEMENTS])
        assert (one is None) == (alone is None)
        if one is not None:
            assert one.registration.warp == pytest.approx(alone.registration.warp)
            for name in ("change", "pristine", "directions"):
                assert getattr(one, name) == pytest.approx(getattr(alone, name), abs=1e-5)


def test_a_reference_is_laid_once(monkeypatch):
    looks = []
    look = placing.unmoved
    monkeypatch.setattr(placing, "unmoved", lambda *given: looks.append(len(given[0])) or look(*given))
    known = Placing(made_up_library())
    samples = [question({"Ca": 0.05}), question({"Zn": 0.02})]
    known.place(samples, [ELEMENTS] * 2)
    known.place(samples, [ELEMENTS] * 2)
    assert looks == [1]


def test_what_is_kept_weighs_no_more_than_it_may():
    kept = placing._Recent(10, len)
    for key, size in (("a", 4), ("b", 4), ("a", 3), ("c", 3)):
        kept.put(key, "x" * size)
    assert [kept.get(key) for key in "abc"] == ["xxx", "xxxx", "xxx"]
    kept.get("a")
    kept.put("d", "x" * 5)  # "b" and "c" were asked for before "a"
    assert [kept.get(key) is None for key in "abcd"] == [False, True, True, False]
    kept.put("e", "x" * 11)
    assert [kept.get(key) is None for key in "acde"] == [True, True, True, False]
