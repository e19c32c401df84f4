import pytest

from defectnet.errors import CompositionError
from defectnet.host import Defect, Host


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("Si", "Si"),
        ("Si8", "Si"),
        (" GaAs ", "GaAs"),
        ("Mg2O2", "MgO"),
        ("Si0.9Ge0.1", "Si9Ge"),
        ("Ge1Si9", "Si9Ge"),
        ("Ca(OH)2", "Ca(HO)2"),
    ],
)
def test_formulas(text: str, formula: str) -> None:
    host = Host(text)
    assert host == Host(formula)
    assert sum(host.fractions.values()) == pytest.approx(1.0)


def test_fractions_of_all_atoms() -> None:
    assert Host("Ga0.9Al0.1As").fractions == pytest.approx({"Ga": 0.45, "Al": 0.05, "As": 0.5})
    assert set(Host("MgB2").elements) == {"Mg", "B"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello world",
        "Si-Ge",
        "Xx2",
        "123",
        "Si\n",
        "[/Si]",
        "((",
        "A" * 500,
        "Si0",
        "Am",
        None,
        3,
        ["Si"],
        "Si;Ge",
    ],
)
def test_what_is_no_formula(text: str) -> None:
    if text == "Si\n":
        assert Host(text) == Host("Si")  # white space around it is no mistake
        return
    with pytest.raises(CompositionError) as caught:
        Host(text)
    assert caught.value.field == "host"
    assert caught.value.fix


@pytest.mark.parametrize("concentration", [0.0, -0.1, 1.1, float("nan"), float("inf")])
def test_impossible_concentrations(concentration: float) -> None:
    with pytest.raises(CompositionError, match=r"defects\.concentration"):
        Defect("Ge", "Si", concentration)


def test_defects_name_elements() -> None:
    with pytest.raises(CompositionError, match=r"defects\.element"):
        Defect("Gx", "Si", 0.1)
    with pytest.raises(CompositionError, match=r"defects\.replaces"):
        Defect("Ge", "", 0.1)
