"""Dopants make chemical sense, and plans reach what they promise."""

import numpy as np
import pytest

from datagen.dopants import replacements
from datagen.potentials import Potential
from datagen.sampling import draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from defectnet.host import Host

SETTINGS = SimulateSettings()


class _Everything:
    name = fingerprint = "everything"

    def knows(self, symbol: str) -> bool:
        return symbol != "Tl"

    def evaluate(self, structures: object) -> object:
        raise AssertionError("choosing dopants needs no forces")


EVERYTHING: Potential = _Everything()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("formula", "replaces", "element", "heterovalent"),
    [
        ("Si", "Si", "Ge", False),
        ("Si", "Si", "P", True),
        ("GaAs", "Ga", "Al", False),
        ("GaAs", "As", "P", False),
        ("MgO", "Mg", "Zn", False),
        ("MgO", "Mg", "Li", True),
    ],
)
def test_textbook_dopants_are_found(formula: str, replaces: str, element: str, heterovalent: bool) -> None:
    found = {(one.replaces, one.element): one for one in replacements(Host(formula), EVERYTHING)}
    assert found[replaces, element].heterovalent is heterovalent


@pytest.mark.parametrize(("formula", "element"), [("Si", "Na"), ("MgO", "Cl"), ("GaAs", "Xe"), ("NaCl", "Na")])
def test_nonsense_is_not(formula: str, element: str) -> None:
    assert element not in {one.element for one in replacements(Host(formula), EVERYTHING)}


def test_the_potential_limits_the_choice() -> None:
    assert "Tl" not in {one.element for one in replacements(Host("InAs"), EVERYTHING)}


def test_plans_stay_within_their_limits_and_reach_them() -> None:
    host = Host("GaAs")
    palette = draw_palette("parent", replacements(host, EVERYTHING), SETTINGS)
    totals, counts, shares = [], set(), []
    for index in range(600):
        rng = np.random.default_rng(identity("parent", index, SETTINGS)[1])
        plan = draw_plan(host, palette, SETTINGS, rng)
        counts.add(len(plan.dopants))
        assert len({choice.element for choice, _ in plan.dopants}) == len(plan.dopants)
        for symbol in host.elements:
            assert sum(share for choice, share in plan.dopants if choice.replaces == symbol) <= 0.25 + 1e-9
        totals.append(plan.total)
        shares += [share for _, share in plan.dopants]
    assert counts >= {0, 1, 2, 3, 4}
    assert min(shares) < 0.0022
    assert max(shares) > 0.22
    assert min(shares) >= SETTINGS.min_concentration


def test_identity_is_a_function_of_what_matters() -> None:
    first = identity("mp-149", 0, SETTINGS)
    assert identity("mp-149", 0, SimulateSettings(output="elsewhere", workers=7, samples_per_parent=99)) == first
    others = [
        identity("mp-149", 1, SETTINGS),
        identity("mp-1265", 0, SETTINGS),
        identity("mp-149", 0, SimulateSettings(seed=2)),
        identity("mp-149", 0, SimulateSettings(potential="nep:other.txt")),
        identity("mp-149", 0, SimulateSettings(sublattices=("Si",))),
    ]
    assert len({first, *others}) == 6


def test_named_dopants_are_the_only_ones() -> None:
    found = replacements(Host("Si"), EVERYTHING, dopants=("Ge", "Cl"))
    assert [choice.element for choice in found] == ["Ge"]


def test_a_named_site_takes_named_dopants_as_they_are() -> None:
    found = replacements(Host("GaAs"), EVERYTHING, dopants=("K", "In", "As"), sublattices=("Ga",))
    assert {(one.replaces, one.element, one.heterovalent) for one in found} == {("Ga", "K", True), ("Ga", "In", False)}


def test_a_named_site_alone_limits_the_sites() -> None:
    assert {one.replaces for one in replacements(Host("GaAs"), EVERYTHING, sublattices=("As",))} == {"As"}
