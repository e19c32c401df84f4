"""The check's arithmetic on made-up bands; on simulated crystals `make bench-check` measures it."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from defectnet.check import LIMIT, Simulated, check_answer
from defectnet.errors import SimulationError
from defectnet.spectrum import Spectrum, bin_centres_thz

AXIS = bin_centres_thz(300, 0.1)
# Where each element's atoms vibrate; the host's bands lie at 5 and 12 THz.
PLACES = {"Ge": 9.0, "C": 17.0, "Sn": 3.0}


def band(at: float, width: float) -> np.ndarray:
    line = np.exp(-(((AXIS - at) / width) ** 2))
    return np.asarray(3.0 * line / line.sum() / 0.1)


HOST = 0.6 * band(5.0, 1.0) + 0.4 * band(12.0, 0.8)


def crystal(concentrations: Mapping[str, float]) -> Spectrum:
    dos = (1.0 - sum(concentrations.values())) * HOST
    return Spectrum(AXIS, dos + sum(c * band(PLACES[e], 0.5) for e, c in concentrations.items()))


def simulate(wished: Mapping[str, float], count: int) -> list[Simulated]:
    # A cell of 100 atoms holds whole atoms only.
    held = {element: max(round(100 * c), 1) / 100 for element, c in wished.items()}
    return [Simulated(crystal(held), crystal({}), held) for _ in range(count)]


def test_a_right_answer_agrees_and_its_concentrations_are_refined() -> None:
    check = check_answer(crystal({"Ge": 0.062, "C": 0.011}), crystal({}), {"Ge": 0.03, "C": 0.02}, simulate)
    fitted = {refined.element: refined.fitted for refined in check.concentrations}
    assert fitted["Ge"] == pytest.approx(0.062, rel=0.05)
    assert fitted["C"] == pytest.approx(0.011, rel=0.05)
    assert check.misfit < 0.05 < check.misfit_answered
    assert check.scatter < 1e-9
    assert check.agrees
    assert check.sentence.startswith("check: simulating the answer leaves")
    assert "it agrees; fitted to it: Ge 6.2" in check.sentence
    assert check.change == pytest.approx(0.073, abs=0.01)


def test_a_wrong_answer_is_doubted_and_the_place_is_named() -> None:
    check = check_answer(crystal({"Ge": 0.05}), crystal({}), {"C": 0.05}, simulate)
    assert check.misfit > LIMIT
    assert not check.agrees
    assert "do not rely on the answer" in check.sentence
    low, high, _ = max(check.worst, key=lambda window: window[2])
    assert low < 9.0 < high or low < 17.0 < high
    assert check.to_dict()["agrees"] is False


def test_a_rival_that_explains_more_is_named() -> None:
    # Half of it is right, so the misfit alone says little.
    sample = crystal({"Ge": 0.05, "C": 0.04})
    check = check_answer(sample, crystal({}), {"Sn": 0.04, "Ge": 0.05}, simulate, rivals=["C"])
    assert check.rival is not None
    assert (check.rival.element, check.rival.replaces) == ("C", "Sn")
    assert check.rival.ratio < 0.1
    assert not check.agrees
    assert "C in place of Sn would explain more" in check.sentence
    assert check.to_dict()["rival"]["element"] == "C"


def test_a_right_answer_is_not_beaten() -> None:
    sample = crystal({"Ge": 0.05, "C": 0.02})
    check = check_answer(sample, crystal({}), {"C": 0.03, "Ge": 0.04}, simulate, rivals=["Sn", "Ge"])
    assert check.rival is not None
    assert check.rival.element == "Sn"  # an element of the answer is no rival of it
    assert check.rival.ratio > 1.0
    assert check.agrees


def test_a_rival_that_cannot_be_simulated_is_passed_over() -> None:
    def refusing(wished: Mapping[str, float], count: int) -> list[Simulated]:
        if "Sn" in wished:
            raise SimulationError("the potential does not know it")
        return simulate(wished, count)

    check = check_answer(crystal({"Ge": 0.05}), crystal({}), {"Ge": 0.04}, refusing, rivals=["Sn"])
    assert check.rival is None
    assert check.agrees


def test_an_answer_that_explains_little_neither_agrees_nor_is_doubted() -> None:
    sample = crystal({"Ge": 0.05, "C": 0.05})
    check = check_answer(sample, crystal({}), {"Ge": 0.05}, simulate)
    assert 1 / 3 < check.misfit < LIMIT
    assert not check.agrees
    assert not check.doubted
    assert "too much to say that it agrees" in check.sentence


def test_nothing_found_is_checked_too() -> None:
    check = check_answer(crystal({"Ge": 0.05}), crystal({}), {}, simulate)
    assert check.misfit == pytest.approx(1.0)
    assert not check.concentrations


def test_scatter_between_configurations_is_counted() -> None:
    rng = np.random.default_rng(0)

    def noisy(wished: Mapping[str, float], count: int) -> list[Simulated]:
        made = simulate(wished, count)
        shifts = rng.normal(size=count)
        doped = [Spectrum(AXIS, one.doped.dos + 0.02 * band(7.0 + s, 1.5)) for one, s in zip(made, shifts, strict=True)]
        return [Simulated(d, one.pristine, one.concentrations) for d, one in zip(doped, made, strict=True)]

    check = check_answer(crystal({"Ge": 0.05}), crystal({}), {"Ge": 0.05}, noisy)
    assert check.scatter > 0.05
    # As much more than a third may be left as two configurations differ by, and no more.
    for beyond, agrees in ((-0.01, True), (0.01, False)):
        assert replace(check, misfit=1 / 3 + check.scatter + beyond).agrees == agrees
