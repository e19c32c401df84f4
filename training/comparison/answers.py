"""What the network that compares says of labelled rows: asked in one of several ways, calibrated, beside the truth.

A regime is a kind of candidate list and the source of its responses (`training.comparison.lists`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.metrics import Judged
from defectnet.model.comparison.amount_fits import Fittable
from defectnet.model.comparison.amounts import MOST_WEIGHED, settled
from defectnet.model.comparison.axis import COARSE, weighted_smoothing
from defectnet.model.comparison.batches import flags_of, most_promising, stacked
from defectnet.model.comparison.calibration import FOUND, ComparisonCalibration, any_of, interval, logit_of, of_logit
from defectnet.model.comparison.comparer import SOURCES, Comparer, ComparerInputs
from defectnet.model.comparison.features import axis_directions, coarse_directions
from defectnet.model.comparison.hosts import source_class
from defectnet.model.features import element_index
from training.comparison.batches import Question
from training.comparison.lists import ListKind, candidate_entries
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows, Substitutions

__all__ = [
    "REGIMES",
    "SIFTED",
    "RawAnswers",
    "Regime",
    "answerable",
    "calibrated",
    "judge",
    "judged_amounts",
    "raw_answers",
]

Floats = NDArray[np.float64]

_BATCH = 64
_SEED = 20261125
_NOT_ASKED = -1
_COARSE = weighted_smoothing(COARSE).numpy()
# Logit of a candidate that was sifted out before the network saw it.
SIFTED = -30.0


@dataclass(frozen=True)
class Regime:
    """A way of asking.

    Attributes:
        kind, source: of the list; `source` matters for hard lists alone.
        label: how the rows were computed.
        candidates: whether the user gives a list.
    """

    kind: ListKind
    source: str
    label: str = "endmember"
    candidates: bool = True


REGIMES: Mapping[str, Regime] = {
    "hard_lists": Regime("hard", "endmember"),
    "hard_lists_other_source": Regime("hard", "potential"),
    "hard_lists_of_potential": Regime("hard", "potential", "potential"),
    "likely_springs": Regime("likely", "springs"),
    "near_springs": Regime("near", "springs"),
    "random_others": Regime("random", "springs"),
    "mixed": Regime("mixed", "springs"),
    "guess_free": Regime("all_mixed", "springs", candidates=False),
    "guess_free_springs": Regime("all", "springs", candidates=False),
    "guess_free_as_asked": Regime("all_best", "springs", candidates=False),
}


@dataclass(frozen=True, eq=False)
class RawAnswers:
    """What the network says before calibration, of shape (n, 94) where nothing else is said.

    Attributes:
        logit: −inf where an element was not asked.
        log_mean, log_spread: of the concentration.
        source: place of the best entry's source among `SOURCES`; −1 where not asked.
        truth: fraction of all atoms.
        unexplained: shape (n,).
        likely: shape (n, P), places of the elements whose amounts can be fitted, most probable first; -1 for none.
        fittable: of these, n changes.
    """

    logit: NDArray[np.float64]
    log_mean: NDArray[np.float64]
    log_spread: NDArray[np.float64]
    source: NDArray[np.int64]
    truth: NDArray[np.float64]
    unexplained: NDArray[np.float64]
    likely: NDArray[np.int64]
    fittable: Fittable


def raw_answers(
    network: Comparer,
    rows: ComparisonRows,
    places: Sequence[int],
    regime: Regime,
    *,
    pristine: bool = False,
    mismatch: Mismatch | None = None,
    prior: bool = True,
    neutron: bool = False,
    n_distractors: int = 10,
) -> RawAnswers:
    """Ask about rows; a row whose list would hold fewer than two substitutions is asked all the same."""
    rng = np.random.default_rng(_SEED)
    generator = torch.Generator().manual_seed(_SEED)
    parts = []
    for start in range(0, len(places), _BATCH):
        questions = [
            _question(rows, row, regime, rng, pristine=pristine, neutron=neutron, n_distractors=n_distractors)
            for row in places[start : start + _BATCH]
        ]
        truths = [{} if pristine else rows.truth[row] for row in places[start : start + _BATCH]]
        parts.append(_ask(network, questions, truths, mismatch, generator, prior))
    names = [field.name for field in fields(RawAnswers) if field.name != "fittable"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return RawAnswers(**joined, fittable=Fittable.joined([part.fittable for part in parts]))


def _question(
    rows: ComparisonRows,
    row: int,
    regime: Regime,
    rng: np.random.Generator,
    *,
    pristine: bool,
    neutron: bool,
    n_distractors: int,
) -> Question:
    sample, reference, neutron = rows.spectra(row, neutron)
    host, truth = rows.hosts[rows.host[row]], rows.truth[row]
    entries = candidate_entries(
        host.of(neutron), {e for e, _ in truth}, regime.kind, rng, source=regime.source, n_distractors=n_distractors
    )
    return Question(reference if pristine else sample, reference, neutron, truth, entries)


def _ask(
    network: Comparer,
    questions: list[Question],
    truths: Sequence[Substitutions],
    mismatch: Mismatch | None,
    generator: torch.Generator,
    prior: bool,
) -> RawAnswers:
    flags = np.stack([flags_of(computed=False, neutron=q.neutron, prior=prior) for q in questions])
    sample, reference = (np.stack([getattr(q, name) for q in questions]) for name in ("sample", "reference"))
    given = stacked(sample - reference, reference, [q.entries for q in questions], flags)
    if mismatch is not None:
        one, two, curves, other = mismatch(
            torch.from_numpy(sample), torch.from_numpy(reference), given.responses.curves, generator
        )
        given.flags[:, 0] = other.float()
        given.responses.curves.copy_(curves)
        given = given._replace(change=one - two, pristine=two)
    given, kept = most_promising(given)
    with torch.inference_mode():
        said = network.eval()(given)
    logit, mean, spread = (tensor.double().numpy() for tensor in said[:3])
    shape = len(questions), len(VOCABULARY)
    likely = np.full((len(questions), MOST_WEIGHED), _NOT_ASKED)
    at = np.zeros_like(likely)
    logits, means, spreads = np.full(shape, -np.inf), np.full(shape, -4.0), np.zeros(shape)
    source, truth = np.full(shape, _NOT_ASKED), np.zeros(shape)
    for row, question in enumerate(questions):
        by_element: dict[int, list[int]] = {}
        for column in np.flatnonzero(given.responses.mask[row].numpy()).tolist():
            by_element.setdefault(element_index(question.entries[int(kept[row, column])].element), []).append(column)
        # What was sifted out was asked all the same, and is answered "no".
        for entry in question.entries:
            place = element_index(entry.element)
            source[row, place] = SOURCES.index(source_class(entry.source))
            logits[row, place] = SIFTED
        for place, columns in by_element.items():
            best = max(columns, key=lambda column: logit[row, column])
            logits[row, place] = any_of(logit[row, columns])
            means[row, place], spreads[row, place] = mean[row, best], spread[row, best]
            entry = question.entries[int(kept[row, best])]
            source[row, place] = SOURCES.index(source_class(entry.source))
        ranked = sorted(by_element, key=lambda place: -logits[row, place])[:MOST_WEIGHED]
        likely[row, : len(ranked)] = ranked
        at[row, : len(ranked)] = [max(by_element[place], key=lambda column: logit[row, column]) for place in ranked]
        for (element, _), amount in truths[row].items():
            truth[row, element_index(element)] += amount
    fit = _fittable(given, at, likely != _NOT_ASKED)
    return RawAnswers(logits, means, spreads, source, truth, said.unexplained.double().numpy(), likely, fit)


def _fittable(given: ComparerInputs, at: NDArray[np.int64], there: NDArray[np.bool_]) -> Fittable:
    """Of B changes and the responses of the candidates `at` some columns, shape (B, P), where they are `there`."""
    rows = np.arange(len(at))[:, None]
    curves = given.responses.curves.numpy()[rows, at] * there[..., None, None]
    concentrations = given.responses.concentrations.numpy()[rows, at].astype(np.float64)
    return Fittable.of(
        (given.change.numpy() @ _COARSE).astype(float),
        (curves @ _COARSE).astype(float),
        concentrations,
        coarse_directions(axis_directions(given.pristine).numpy()),
        given.flags[:, 0].numpy() > 0.0,  # a computed reference, or another instrument's
    )


def judge(raw: RawAnswers, calibration: ComparisonCalibration, *, candidates: bool) -> Judged:
    """Calibrated answers beside the truth; an element is found from a probability of one half up."""
    probability = calibrated(raw, calibration, candidates=candidates)
    probability, log_mean, log_spread = judged_amounts(raw, probability, calibration)
    amount, low, high = interval(log_mean, log_spread, _by_source(raw, calibration.factor_of, 1.0))
    return Judged(
        asked=np.isfinite(raw.logit),
        truth=raw.truth,
        probability=probability,
        present=probability >= FOUND,
        concentration=amount,
        low=low,
        high=high,
    )


def calibrated(raw: RawAnswers, calibration: ComparisonCalibration, *, candidates: bool) -> Floats:
    """Probabilities by the network alone, shape (n, 94); 0 where an element was not asked."""
    probability = np.zeros(raw.logit.shape)
    for place, name in enumerate(SOURCES):
        of = raw.source == place
        probability[of] = calibration.map_of(name, candidates=candidates).probability(raw.logit[of])
    return probability


def judged_amounts(
    raw: RawAnswers, probability: Floats, calibration: ComparisonCalibration
) -> tuple[Floats, Floats, Floats]:
    """Probabilities, log concentrations and log spreads, (n, 94), as the fit to the change has what is found.

    Args:
        probability: calibrated, by the network alone.
    """
    log_mean, log_spread = raw.log_mean + _by_source(raw, calibration.shift_of, 0.0), raw.log_spread.copy()
    probability = probability.copy()
    rows = np.arange(len(raw.likely))[:, None]
    chance, mean, spread = (values[rows, raw.likely] for values in (probability, log_mean, log_spread))
    chance[raw.likely == _NOT_ASKED] = 0.0
    found = settled(raw.fittable, logit_of(chance), mean, spread)
    row, slot = np.nonzero(raw.likely != _NOT_ASKED)
    at = row, raw.likely[row, slot]
    probability[at] = of_logit(found.logit[row, slot])
    log_mean[at], log_spread[at] = found.log_mean[row, slot], found.log_spread[row, slot]
    return probability, log_mean, log_spread


def _by_source(raw: RawAnswers, of: Callable[[str], float], otherwise: float) -> Floats:
    """A number for each answer, shape (n, 94), by its source."""
    return np.append([of(name) for name in SOURCES], otherwise)[raw.source]


def answerable(rows: ComparisonRows, places: Iterable[int], regime: Regime) -> list[int]:
    """Rows of the regime's label whose host has at least two responses of its source, and one for each true dopant."""
    found = []
    for row in places:
        host = rows.hosts[rows.host[row]].vibrational
        source = regime.source if regime.kind == "hard" else "springs"
        known = {(entry.element, entry.replaces) for entry in host.chosen(host.elements, source)}
        if len(known) >= 2 and rows.label[row] in (regime.label, "pristine") and set(rows.truth[row]) <= known:
            found.append(row)
    return found
