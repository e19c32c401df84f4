import pytest

from defectnet.errors import UnitError
from defectnet.units import FrequencyUnit, parse_unit, thz_per


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("THz", FrequencyUnit.THZ),
        (" thz ", FrequencyUnit.THZ),
        ("MEV", FrequencyUnit.MEV),
        ("cm-1", FrequencyUnit.INVERSE_CM),
        ("cm^-1", FrequencyUnit.INVERSE_CM),
        ("cm⁻¹", FrequencyUnit.INVERSE_CM),
        (FrequencyUnit.MEV, FrequencyUnit.MEV),
    ],
)
def test_spellings(text: str, unit: FrequencyUnit) -> None:
    assert parse_unit(text) is unit


@pytest.mark.parametrize("text", ["", "eV", "furlong", None, 3])
def test_unknown_units_are_refused(text: str) -> None:
    with pytest.raises(UnitError, match=r"unit: unknown unit .*; use THz, meV or cm-1"):
        parse_unit(text)


def test_conversions() -> None:
    # CODATA 2018: 1 meV is 0.2417989 THz and 8.065544 cm-1.
    assert thz_per("THz") == 1.0
    assert thz_per("meV") == pytest.approx(0.241798924, rel=1e-8)
    assert thz_per("meV") / thz_per("cm-1") == pytest.approx(8.06554394, rel=1e-8)
