import numpy as np
import pytest

from defectnet.elements import DESCRIPTOR_NAMES, VOCABULARY, atomic_mass, check_element, descriptors
from defectnet.errors import CompositionError


def test_the_vocabulary_is_the_periodic_table_to_plutonium() -> None:
    assert len(VOCABULARY) == len(set(VOCABULARY)) == 94
    assert (VOCABULARY[0], VOCABULARY[13], VOCABULARY[31], VOCABULARY[93]) == ("H", "Si", "Ge", "Pu")


def test_masses() -> None:
    assert atomic_mass("Si") == pytest.approx(28.0855)
    assert atomic_mass("O") == pytest.approx(15.999, abs=1e-3)


@pytest.mark.parametrize("symbol", ["", "si", "Xx", "Silicon", "Am", "Si "])
def test_what_is_no_element(symbol: str) -> None:
    with pytest.raises(CompositionError, match=r"candidates: .* is not an element"):
        check_element(symbol, field="candidates")


def test_descriptors_are_standardised_and_cannot_be_changed_by_one_user_for_all() -> None:
    table = descriptors()
    assert table.shape == (94, len(DESCRIPTOR_NAMES))
    assert table.dtype == np.float32
    assert np.isfinite(table).all()
    np.testing.assert_allclose(table.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(table.std(axis=0), 1.0, rtol=1e-4)
    assert descriptors() is table
    with pytest.raises(ValueError, match="read-only"):
        table[0, 0] = 9.0
