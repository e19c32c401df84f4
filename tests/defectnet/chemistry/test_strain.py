"""What dopants do to a crystal's size, from volumes of atoms; and what that does to responses by springs."""

import numpy as np
import pytest
from support.responses import made_up_library

from defectnet.chemistry.strain import atomic_volumes, strain_per_concentration
from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.model.comparison.axis import CENTRES, WIDTHS
from defectnet.model.comparison.hosts import HostOnAxis, swollen


def test_every_element_has_a_volume() -> None:
    assert set(atomic_volumes()) == set(VOCABULARY)
    assert min(atomic_volumes().values()) > 0


# Lattice constants (Å) of crystals of one structure at room temperature, from Landolt-Börnstein's tables: host, dopant,
# what it replaces, the host's constant and that of the crystal with all sites taken.
CRYSTALS = [
    ("Si", "Ge", "Si", 5.431, 5.658),
    ("GaAs", "In", "Ga", 5.653, 6.058),
    ("GaAs", "P", "As", 5.653, 5.451),
    ("ZnS", "Cd", "Zn", 5.409, 5.825),
    ("ZnS", "Se", "S", 5.409, 5.668),
    ("MgO", "Ca", "Mg", 4.212, 4.811),
    ("CaO", "Sr", "Ca", 4.811, 5.160),
    ("NaCl", "K", "Na", 5.640, 6.292),
    ("KCl", "Br", "Cl", 6.292, 6.600),
    ("CaF2", "Sr", "Ca", 5.463, 5.800),
]


def test_strain_is_near_that_of_the_crystal_with_all_sites_taken() -> None:
    away = []
    for host, dopant, replaces, before, after in CRYSTALS:
        fractions = Host(host).fractions
        expected = ((after / before) ** 3 - 1) / 3 / fractions[replaces]
        found = strain_per_concentration(fractions, dopant, replaces)
        assert found * expected > 0
        away.append(abs(found / expected - 1))
        assert strain_per_concentration(fractions, replaces, replaces) == 0.0
    assert np.median(away) < 0.3


def test_a_band_of_a_swollen_crystal_lies_lower() -> None:
    band = np.exp(-0.5 * ((CENTRES - 0.5) / 0.05) ** 2)
    band *= 3.0 / float(band @ WIDTHS)
    change = swollen(band)
    assert change @ WIDTHS == pytest.approx(0.0, abs=1e-6)
    mean = float((band * CENTRES) @ WIDTHS) / 3.0
    moved = float((change * CENTRES) @ WIDTHS) / 3.0 / mean
    assert moved == pytest.approx(-2.0, abs=0.05)  # 1 + sin(π/2), but for the band's width


def test_only_springs_are_given_the_strain() -> None:
    responses = made_up_library().host("made-up-MgO")
    bare, whole = HostOnAxis(responses, swelling=0.0), HostOnAxis(responses)
    for key, sources in whole.entries.items():
        for source, entry in sources.items():
            away = np.abs(entry.curves - bare.entries[key][source].curves).max()
            assert (away > 0) == (source == "springs")
    # Calcium is larger than magnesium, zinc is not: modes go down with one alone.
    first = {}
    for key, one in whole.entries.items():
        change = one["springs"].curves[0] - bare.entries[key]["springs"].curves[0]
        first[key[0]] = float((change * CENTRES) @ WIDTHS)
    assert first["Ca"] < first["Zn"]
    assert first["Ca"] < 0
