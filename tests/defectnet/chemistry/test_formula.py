"""Formulas are read and written as pymatgen does, whose formulas the tables of others carry."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectnet.chemistry.formula import parse_formula, reduced_formula
from defectnet.elements import VOCABULARY
from defectnet.errors import CompositionError

AMOUNTS = st.sampled_from(["", "2", "3", "12", "0.5", "0.1", "0.9", "1.25", "0.333"])


@st.composite
def formulas(draw: st.DrawFn) -> str:
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from(VOCABULARY)) + draw(AMOUNTS)
        if draw(st.booleans()):
            part = f"({part}{draw(st.sampled_from(VOCABULARY))}){draw(st.sampled_from(['', '2', '3']))}"
        parts.append(part)
    return "".join(parts)


@given(formulas())
def test_as_pymatgen(text: str) -> None:
    core = pytest.importorskip("pymatgen.core")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = core.Composition(text)
        formula = core.Composition(theirs.get_integer_formula_and_factor()[0]).reduced_formula
    own = parse_formula(text)
    assert own == pytest.approx({element.symbol: amount for element, amount in theirs.items()})
    assert reduced_formula(own) == formula


@given(formulas())
def test_writing_is_stable(text: str) -> None:
    formula = reduced_formula(parse_formula(text))
    again = parse_formula(formula)
    assert reduced_formula(again) == formula
    assert all(amount == int(amount) for amount in again.values())


@pytest.mark.parametrize(
    ("text", "formula"),
    [("D2O", "H2O"), ("[Fe2]3O", "Fe6O"), ("Na2O2", "Na2O2"), ("O", "O2"), ("Si1e2", "Si"), ("Ga2(SO4)3", "Ga2(SO4)3")],
)
def test_what_is_easily_forgotten(text: str, formula: str) -> None:
    assert reduced_formula(parse_formula(text)) == formula


@pytest.mark.parametrize("text", ["(Si", "Si)", "()", "Si.", "Si0", "1Si", "e2", "Si1e999", "Silicon", None])
def test_what_is_no_formula(text: str) -> None:
    with pytest.raises(CompositionError) as caught:
        parse_formula(text, field="crystal")
    assert caught.value.field == "crystal"


def test_amounts_are_atoms() -> None:
    amounts = parse_formula("Ca(OH)2")
    np.testing.assert_allclose([amounts["Ca"], amounts["O"], amounts["H"]], [1.0, 2.0, 2.0])
