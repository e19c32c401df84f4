"""Oxidation states and the statistics of ions, beside pymatgen's, from whose data the tables were made."""

import pytest

from defectnet.chemistry.ions import balanced_states, substitution_lift
from defectnet.host import Host

HOSTS = (
    "NaCl",
    "GaAs",
    "Fe3O4",
    "RbScO2",
    "Ca3(PO4)2",
    "BaTiO3",
    "LiFePO4",
    "Bi2Te3",
    "MgB2",
    "CuFeS2",
    "Mn3O4",
    "KNO3",
)


@pytest.mark.parametrize("formula", HOSTS)
def test_balanced_as_by_pymatgen(formula: str) -> None:
    core = pytest.importorskip("pymatgen.core")
    guesses = core.Composition(formula).oxi_state_guesses()
    assert balanced_states(Host(formula).counts) == (dict(guesses[0]) if guesses else {})


def test_states_of_a_salt_and_of_an_element() -> None:
    assert balanced_states({"Na": 1, "Cl": 1}) == {"Na": 1.0, "Cl": -1.0}
    assert balanced_states({"Fe": 3, "O": 4})["Fe"] == pytest.approx(8 / 3)
    assert balanced_states({"Si": 1}) == {"Si": 0.0}
    assert balanced_states({"Na": 1, "K": 1}) == {}  # nothing here is negative


@pytest.mark.filterwarnings("ignore")
def test_lifts_as_by_pymatgen() -> None:
    module = pytest.importorskip("pymatgen.core.structure_prediction.substitution_probability")
    from pymatgen.core import Species

    theirs = module.SubstitutionProbability()
    for one, state, other, other_state in [
        ("Na", 1, "K", 1),
        ("Ga", 3, "Al", 3),
        ("O", -2, "S", -2),
        ("Zn", 2, "Ga", 3),
    ]:
        expected = theirs.pair_corr(Species(one, state), Species(other, other_state))
        assert substitution_lift(one, state, other, other_state) == pytest.approx(expected, rel=1e-9)
        assert substitution_lift(other, other_state, one, state) == pytest.approx(expected, rel=1e-9)


def test_unknown_ions_have_no_lift() -> None:
    assert substitution_lift("Na", 1, "K", 7) is None
    likely, unlikely = substitution_lift("Na", 1, "K", 1), substitution_lift("Na", 1, "Ti", 4)
    assert likely is not None
    assert unlikely is not None
    assert likely > 1.0 > unlikely
