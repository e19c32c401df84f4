"""The verdict in one sentence, and how far it is to be believed: never calmer than the evidence.

Whatever speaks against an answer comes before it: no answer, then an answer that explains little of the measured change
or was given to a spectrum unlike any in training, then one with warnings, with an element that is far from certain, or
that nothing has checked.
"""

from dataclasses import dataclass
from typing import Literal

from defectnet.model.calibration import OOD_LIMIT
from defectnet.prediction import MOST_UNEXPLAINED, MOVED_BY_MEASURING, ElementVerdict, Prediction, why_undecided

__all__ = ["FAR_FROM_CERTAIN", "Said", "Trust", "at_percent", "probability_words", "say"]

# "none": there is no answer. "doubt": do not rely on it. "care": read the warnings first. "plain": nothing speaks
# against it.
Trust = Literal["none", "doubt", "care", "plain"]

# A probability between these is neither a yes nor a no that anybody should act upon: one in five is wrong.
FAR_FROM_CERTAIN = (0.2, 0.8)


@dataclass(frozen=True)
class Said:
    """What is said of a prediction.

    Attributes:
        sentence: the verdict with its intervals; where `trust` is "doubt" the doubt comes first.
        trust: how far it is to be believed.
        doubts: what speaks against it, one clause each; with the trust "care" what to mind.
    """

    sentence: str
    trust: Trust
    doubts: tuple[str, ...] = ()


def say(prediction: Prediction) -> Said:
    """The verdict on one spectrum in words."""
    if prediction.error is not None:
        return Said(f"No answer: {prediction.error}", "none")
    found = [verdict for verdict in prediction.elements if verdict.present]
    if not found and (why := why_undecided(prediction.warnings)):
        guesses = [v for v in prediction.elements if v.probability > FAR_FROM_CERTAIN[0]][:3]
        named = ", ".join(f"{v.element} ({_probability(v.probability)})" for v in guesses) or "no element"
        reason, _, advice = why.partition(": ")
        return Said(f"{reason[0].upper()}{reason[1:]}; the spectrum alone suggests {named}.", "doubt", (advice,))
    doubts = _doubts(prediction, found)
    if found:
        named = ", ".join(
            f"{v.element} {at_percent(v.concentration)} at.% ({at_percent(v.low)} to {at_percent(v.high)}, "
            f"{_probability(v.probability)})"
            for v in found
        )
        verdict = f"found {named}"
    else:
        nearest = max(prediction.elements, key=lambda one: one.probability, default=None)
        verdict = "no foreign element found"
        if nearest is not None:
            verdict += f" (the nearest to it is {nearest.element}, {_probability(nearest.probability)})"
    if doubts:
        return Said(f"Doubtful, {'; '.join(doubts)}: {verdict}.", "doubt", doubts)
    unsure = [one for one in prediction.elements if FAR_FROM_CERTAIN[0] < one.probability < FAR_FROM_CERTAIN[1]]
    minded: tuple[str, ...] = ()
    if unsure:
        minded += (f"far from certain: {', '.join(f'{one.element} {one.probability:.2f}' for one in unsure)}",)
    if prediction.fit is None:
        minded += ("nothing has checked this answer: it was not compared with computed responses of the host",)
    return Said(f"{verdict[0].upper()}{verdict[1:]}.", "care" if minded or prediction.warnings else "plain", minded)


def at_percent(fraction: float) -> str:
    """A fraction of all atoms as at.% with two significant digits, never more than its interval could bear."""
    percent = 100.0 * fraction
    return f"{percent:.0f}" if percent >= 9.95 else f"{percent:.1f}" if percent >= 0.995 else f"{percent:.2g}"


def probability_words(value: float) -> str:
    """A probability with two digits, and never as a certainty."""
    return "> 0.99" if value > 0.99 else "< 0.01" if value < 0.01 else f"{value:.2f}"


def _probability(value: float) -> str:
    return f"probability {probability_words(value)}"


def _doubts(prediction: Prediction, found: list[ElementVerdict]) -> tuple[str, ...]:
    doubts = []
    explained = None if prediction.fit is None else prediction.fit.explained
    # Where nothing was found nothing is explained, and nothing need be while the change is no more than noise.
    if found and explained is not None and 1.0 - explained > MOST_UNEXPLAINED:
        share = f"{100 * max(0.0, explained):.0f} %"
        doubts.append(f"the elements found explain only {share} of the measured change")
    if not found and prediction.fit is not None and prediction.fit.moved > MOVED_BY_MEASURING:
        share = f"{100 * prediction.fit.moved:.0f} %"
        doubts.append(
            f"{share} of the modes lie elsewhere than in the reference, and nothing that was weighed explains it"
        )
    if prediction.ood_score is not None and prediction.ood_score > OOD_LIMIT:
        doubts.append(f"the spectrum is unlike the training spectra (score {prediction.ood_score:.2f} of 1)")
    return tuple(doubts)
