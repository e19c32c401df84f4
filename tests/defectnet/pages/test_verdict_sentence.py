"""The verdict in words: a doubt comes before what is doubted."""

import pytest

from defectnet.pages.verdict_sentence import at_percent, say
from defectnet.prediction import ElementVerdict, Fit, Prediction


def prediction(*elements: ElementVerdict, ood: float = 0.1, warnings: tuple[str, ...] = ()) -> Prediction:
    return Prediction("s", "Si", elements, ood, warnings, "defectnet", "1")


def ge(probability: float = 0.97, *, present: bool = True) -> ElementVerdict:
    return ElementVerdict("Ge", present, probability, 0.041, 0.029, 0.057)


def fitted(
    explained: float, *elements: ElementVerdict, warnings: tuple[str, ...] = (), moved: float = 0.0
) -> Prediction:
    fit = Fit("mp-149", explained, {}, moved=moved)
    return Prediction("s", "Si", elements, 0.1, warnings, "defectnet", "1", fit=fit)


def test_an_answer_that_nothing_speaks_against() -> None:
    said = say(fitted(0.9, ge()))
    assert said.sentence == "Found Ge 4.1 at.% (2.9 to 5.7, probability 0.97)."
    assert (said.trust, said.doubts) == ("plain", ())


def test_nothing_found_names_what_came_nearest() -> None:
    said = say(prediction(ge(0.12, present=False)))
    assert said.sentence == "No foreign element found (the nearest to it is Ge, probability 0.12)."
    assert say(prediction()).sentence == "No foreign element found."


@pytest.mark.parametrize("present", [True, False])
def test_what_is_far_from_certain_is_said(present: bool) -> None:
    said = say(fitted(0.9, ge(0.5, present=present)))
    assert said.trust == "care"
    assert said.doubts == ("far from certain: Ge 0.50",)


def test_warnings_and_an_answer_that_nothing_checked_ask_for_care() -> None:
    assert say(fitted(0.9, ge(), warnings=("mind this",))).trust == "care"
    said = say(prediction(ge()))
    assert said.trust == "care"
    assert "nothing has checked this answer" in said.doubts[0]


def test_unlike_the_training_is_doubted_first() -> None:
    said = say(prediction(ge(), ood=0.99))
    assert said.trust == "doubt"
    assert said.sentence.startswith("Doubtful, the spectrum is unlike the training spectra (score 0.99 of 1): found Ge")


def test_an_answer_that_explains_little_is_doubted_whatever_its_probability() -> None:
    said = say(fitted(0.23, ge(0.999)))
    assert said.trust == "doubt"
    assert said.sentence.startswith("Doubtful, the elements found explain only 23 % of the measured change: found Ge")
    assert say(fitted(0.9, ge())).trust == "plain"
    assert say(fitted(0.0)).trust == "plain", "a pristine crystal's change is noise, and nothing explains it"


@pytest.mark.parametrize(("moved", "trust"), [(0.029, "plain"), (0.031, "doubt"), (0.4, "doubt")])
def test_nothing_found_in_a_change_that_is_more_than_noise_is_doubted(moved: float, trust: str) -> None:
    said = say(fitted(0.0, moved=moved))
    assert said.trust == trust
    assert ("of the modes lie elsewhere than in the reference" in said.sentence) == (trust == "doubt")


def test_no_answer() -> None:
    said = say(Prediction.failed("s", "Si", "dos: empty; fill it"))
    assert (said.trust, said.sentence) == ("none", "No answer: dos: empty; fill it")


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.123, "12"), (0.0412, "4.1"), (0.0095, "0.95"), (0.00236, "0.24"), (0.0, "0")]
)
def test_figures_have_two_digits(fraction: float, text: str) -> None:
    assert at_percent(fraction) == text
