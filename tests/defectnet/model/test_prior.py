import numpy as np
import pytest

from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.model.features import element_index
from defectnet.model.prior import EXPECTED_COLUMNS, expectations, substitutions


def weight(host: str, element: str) -> float:
    return max((one.weight for one in substitutions(Host(host)) if one.element == element), default=0.0)


@pytest.mark.parametrize(("host", "likely", "unlikely"), [("GaAs", "In", "K"), ("MgO", "Zn", "Cl"), ("Si", "Ge", "Na")])
def test_likeness_counts(host: str, likely: str, unlikely: str) -> None:
    assert weight(host, likely) > 0.1
    assert weight(host, unlikely) == 0.0


def test_expectations_are_the_substitutions_as_a_table() -> None:
    table, site = expectations(Host("GaAs"))
    assert table.shape == (len(VOCABULARY), len(EXPECTED_COLUMNS))
    columns = dict(zip(EXPECTED_COLUMNS, table.T, strict=True))
    assert columns["expected"][element_index("Al")] == 1.0
    assert columns["heterovalent"][element_index("Zn")] == 1.0
    assert columns["expected"][element_index("Xe")] == 0.0
    assert np.exp(columns["log_share"][columns["expected"] > 0]).sum() == pytest.approx(1.0, abs=1e-4)
    assert VOCABULARY[site[element_index("Al")]] == "Ga"
    assert VOCABULARY[site[element_index("P")]] == "As"
    # An element that nobody expects is said to replace the host element most like it.
    assert VOCABULARY[site[element_index("Xe")]] in ("Ga", "As")


def test_formulas_of_many_atoms_are_answered_at_once() -> None:
    # The balance of oxidation states is a search that would take hours here.
    assert weight("Mn0.3333Fe0.3333V0.3334", "Cr") > 0.0
