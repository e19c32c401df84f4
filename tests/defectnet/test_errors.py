import pickle

import pytest

from defectnet import errors
from defectnet.errors import DefectNetError, InputError, SpectrumError


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
