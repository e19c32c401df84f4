import pytest
from rich.console import Console

from defectnet.model.predictor import ElementVerdict, Prediction
from defectnet.pages.verdict_table import verdict_table
from defectnet.prediction import Alternative, Fit

FOUND = ElementVerdict("Ge", True, 0.97, 0.05, 0.031, 0.07)
HESITANT = ElementVerdict("Sn", False, 0.2, 0.004, 0.001, 0.012)
UNLIKELY = ElementVerdict("Pb", False, 0.02, 0.002, 0.001, 0.004)


def printed(
    *elements: ElementVerdict,
    error: str | None = None,
    every_element: bool = False,
    width: int = 100,
    fit: Fit | None = None,
) -> str:
    prediction = Prediction("a [b] c", "Si", elements, 0.1, ("beware [/x]",), "defectnet", "1", error, fit=fit)
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(verdict_table([prediction.to_dict()], every_element=every_element))
    return capture.get()


def test_what_was_found_and_what_the_model_hesitated_about() -> None:
    text = printed(FOUND, HESITANT, UNLIKELY)
    for expected in ("a [b] c", "Ge", "5.00 (3.10 – 7.00)", "0.97", "present", "Sn", "not found", "beware [/x]"):
        assert expected in text
    assert "Pb" not in text


def test_every_element_when_asked_for() -> None:
    text = printed(FOUND, UNLIKELY, every_element=True)
    assert "Pb" in text
    assert "ruled out" in text


@pytest.mark.parametrize("explained", [0.76, 0.9])
def test_what_a_better_set_holds_is_not_ruled_out(explained: float) -> None:
    rival = Alternative(("Ge", "Pb"), (0.05, 0.01), 0.93)
    fit = Fit("mp-149", explained, {"Ge": "springs"}, (rival,), 0.1)
    text = printed(FOUND, UNLIKELY, every_element=True, width=140, fit=fit)
    assert ("yet a set with it explains more" in text) == (explained < 0.8)
    assert ("ruled out" in text) == (explained > 0.8)


@pytest.mark.parametrize("elements", [(), (UNLIKELY,)])
def test_nothing_found(elements: tuple[ElementVerdict, ...]) -> None:
    assert "nothing foreign found" in printed(*elements)


def test_an_error_stands_for_the_verdict() -> None:
    text = printed(error="dos: value nan [at] point 3")
    assert "dos: value nan [at] point 3" in text
    assert "found" not in text


def test_it_fits_a_narrow_terminal() -> None:
    assert max(map(len, printed(FOUND, HESITANT, width=80).splitlines())) <= 80
