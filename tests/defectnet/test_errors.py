import pickle

import pytest

from defectnet import errors
from defectnet.errors import BusyError, DefectNetError, InputError, SpectrumError


def test_one_sentence_with_field_and_fix() -> None:
    error = InputError("7 is odd", fix="give an even number", field="n")
    assert str(error) == "n: 7 is odd; give an even number"
    assert (error.field, error.fix) == ("n", "give an even number")
    assert str(InputError("7 is odd")) == "7 is odd"


def test_input_errors_cross_process_borders_whole() -> None:
    error = pickle.loads(pickle.dumps(SpectrumError("too short", fix="give more", field="dos")))
    assert type(error) is SpectrumError
    assert str(error) == "dos: too short; give more"
    assert (error.field, error.fix) == ("dos", "give more")


@pytest.mark.parametrize("name", errors.__all__)
def test_one_tree(name: str) -> None:
    assert issubclass(getattr(errors, name), DefectNetError)


def test_an_error_about_another_field_keeps_its_parts() -> None:
    error = SpectrumError("too short: 3 points; no more", fix="give more", field="dos").at("reference.dos")
    assert type(error) is SpectrumError
    assert str(error) == "reference.dos: too short: 3 points; no more; give more"
    assert (error.message, error.fix) == ("too short: 3 points; no more", "give more")


def test_busy_says_when_to_come_back_across_processes() -> None:
    error = pickle.loads(pickle.dumps(BusyError(3.2, status=429)))
    assert (str(error), error.retry_after_s, error.status) == ("busy; try again in 3 s", 3.2, 429)
