"""What the error bars of a measurement do to an answer: it is given again for spectra drawn within them.

The scatter of the concentrations (in their logarithm) joins the interval in quadrature; an element whose verdict does
not hold in most of the draws is said to hang on the errors. The probabilities stay those of the measured spectrum.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from defectnet.prediction import HESITATION, ElementVerdict, Prediction
from defectnet.query import Query
from defectnet.spectrum import Spectrum

__all__ = ["N_DRAWS", "carry_errors"]

# The spread of a logarithm is known to 18 % from so many draws, and an answer takes so many times as long.
N_DRAWS = 16
# Half-width of a 90 % interval in standard deviations of a normal distribution.
_SIGMAS_90 = 1.6449
# A verdict that fewer of the draws share hangs on the errors.
_AGREE = 0.8


def carry_errors(
    queries: Sequence[Query],
    predictions: Sequence[Prediction],
    answer: Callable[[Sequence[Query]], Sequence[Prediction]],
) -> list[Prediction]:
    """The predictions with the error bars of their spectra in the intervals and the warnings.

    Args:
        queries: the questions; those without `uncertainty` keep their answers.
        predictions: their answers, in the same order.
        answer: answers further queries, which have no error bars.
    """
    return [
        prediction
        if query.uncertainty is None or prediction.error is not None
        else _carried(prediction, [drawn for drawn in answer(_draws(query)) if drawn.error is None])
        for query, prediction in zip(queries, predictions, strict=True)
    ]


def _draws(query: Query) -> list[Query]:
    """The query with spectra within its error bars; always the same ones for a spectrum."""
    dos = query.spectrum.dos
    error = np.nan_to_num(np.zeros_like(dos) if query.uncertainty is None else query.uncertainty)
    rng = np.random.default_rng(zlib.crc32(dos.tobytes()))
    noise = rng.standard_normal((N_DRAWS, dos.size)) * error
    drawn = np.maximum(dos + noise, 0.0)
    return [
        replace(query, spectrum=Spectrum(query.spectrum.frequency_thz, one), uncertainty=None)
        for one in drawn
        if one.max() > 0
    ]


def _carried(prediction: Prediction, drawn: Sequence[Prediction]) -> Prediction:
    if not drawn:
        return prediction
    found = [{verdict.element: verdict for verdict in one.elements} for one in drawn]
    unsure = []
    elements = []
    for verdict in prediction.elements:
        others = [one[verdict.element] for one in found if verdict.element in one]
        elements.append(_widened(verdict, [other.concentration for other in others]))
        present = sum(other.present for other in others)
        share = (present if verdict.present else len(drawn) - present) / len(drawn)
        if share < _AGREE and (verdict.present or verdict.probability >= HESITATION):
            unsure.append(f"{verdict.element} is found in {present} of {len(drawn)}")
    warnings = list(prediction.warnings)
    if unsure:
        warnings.append(f"of spectra drawn within the error bars, {', '.join(unsure)}")
    return replace(prediction, elements=tuple(elements), warnings=tuple(warnings))


def _widened(verdict: ElementVerdict, concentrations: Sequence[float]) -> ElementVerdict:
    if len(concentrations) < 2 or verdict.concentration <= 0:
        return verdict
    spread = _SIGMAS_90 * float(np.std(np.log(concentrations), ddof=1))
    below = np.log(verdict.concentration / verdict.low) if verdict.low > 0 else np.inf
    above = np.log(verdict.high / verdict.concentration)
    return replace(
        verdict,
        low=float(verdict.concentration * np.exp(-np.hypot(below, spread))),
        high=float(min(verdict.concentration * np.exp(np.hypot(above, spread)), max(verdict.high, 1.0))),
    )
