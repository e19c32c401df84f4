"""Answers by comparison beside the truth, on hosts that were not trained on; calibration, and figures for each regime.

A regime is a kind of candidate list and the source of its responses (`training.comparison.lists`). The control is the
same model fed with the pristine spectrum as sample: what it finds, prior, list and sources give away.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from defectnet.elements import VOCABULARY
from defectnet.metrics import HEADLINE_PERCENT, Judged, score_answers
from defectnet.model.calibration import COVERAGE, conformal_quantile
from defectnet.model.comparison.batches import flags_of, most_promising, stacked
from defectnet.model.comparison.calibration import FOUND, ComparisonCalibration, LogitMap, any_of, interval
from defectnet.model.comparison.comparer import SOURCES, Comparer
from defectnet.model.comparison.hosts import source_class
from defectnet.model.features import element_index
from training.comparison.batches import Question
from training.comparison.lists import ListKind, candidate_entries
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows, Substitutions

__all__ = [
    "REGIMES",
    "RawAnswers",
    "Regime",
    "answerable",
    "calibrate_comparison",
    "evaluate_comparison",
    "judge",
    "raw_answers",
]

_BATCH = 64
_SEED = 20261125
_NOT_ASKED = -1
# A map or a factor is fitted to so many dopants at least.
_LEAST_DOPANTS = 100
# A median needs fewer.
_LEAST_AMOUNTS = 40
# Logit of a candidate that was sifted out before the network saw it.
_SIFTED = -30.0


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
    """What the network says before calibration, all of shape (n, 94) but the last.

    Attributes:
        logit: −inf where an element was not asked.
        log_mean, log_spread: of the concentration.
        source: place of the best entry's source among `SOURCES`; −1 where not asked.
        truth: fraction of all atoms.
        unexplained: shape (n,).
    """

    logit: NDArray[np.float64]
    log_mean: NDArray[np.float64]
    log_spread: NDArray[np.float64]
    source: NDArray[np.int64]
    truth: NDArray[np.float64]
    unexplained: NDArray[np.float64]


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
    names = [field.name for field in fields(RawAnswers)]
    return RawAnswers(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


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
            logits[row, place] = _SIFTED
        for place, columns in by_element.items():
            best = max(columns, key=lambda column: logit[row, column])
            logits[row, place] = any_of(logit[row, columns])
            means[row, place], spreads[row, place] = mean[row, best], spread[row, best]
            entry = question.entries[int(kept[row, best])]
            source[row, place] = SOURCES.index(source_class(entry.source))
        for (element, _), amount in truths[row].items():
            truth[row, element_index(element)] += amount
    return RawAnswers(logits, means, spreads, source, truth, said.unexplained.double().numpy())


def judge(raw: RawAnswers, calibration: ComparisonCalibration, *, candidates: bool) -> Judged:
    """Calibrated answers beside the truth; an element is found from a probability of one half up."""
    probability, factor, shift = np.zeros(raw.logit.shape), np.ones(raw.logit.shape), np.zeros(raw.logit.shape)
    for place, name in enumerate(SOURCES):
        of = raw.source == place
        probability[of] = calibration.map_of(name, candidates=candidates).probability(raw.logit[of])
        factor[of] = calibration.factor_of(name)
        shift[of] = calibration.shift_of(name)
    amount, low, high = interval(raw.log_mean + shift, raw.log_spread, factor)
    return Judged(
        asked=np.isfinite(raw.logit),
        truth=raw.truth,
        probability=probability,
        present=probability >= FOUND,
        concentration=amount,
        low=low,
        high=high,
    )


def calibrate_comparison(
    network: Comparer, rows: ComparisonRows, mismatch: Mismatch | None = None
) -> ComparisonCalibration:
    """Fit the maps and factors on the validation hosts, in every regime, plain and spoilt by `mismatch`.

    Without a list that is half on sources that say nothing and half on such as a library has them: who asks has some
    dopants with a good source and some without, and a map fitted on either alone would be wrong for the other.
    """
    places = rows.of_split("validation")
    gathered: dict[bool, list[RawAnswers]] = {True: [], False: []}
    for regime in REGIMES.values():
        chosen = answerable(rows, places, regime)
        if chosen:
            gathered[regime.candidates].append(raw_answers(network, rows, chosen, regime))
            if mismatch is not None:
                gathered[regime.candidates].append(raw_answers(network, rows, chosen, regime, mismatch=mismatch))
    maps: dict[bool, dict[str, LogitMap]] = {True: {}, False: {}}
    for candidates, answers in gathered.items():
        for place, name in enumerate(SOURCES):
            of = [raw.source == place for raw in answers]
            logit = np.concatenate([raw.logit[here] for raw, here in zip(answers, of, strict=True)] or [np.zeros(0)])
            there = np.concatenate([raw.truth[here] > 0 for raw, here in zip(answers, of, strict=True)] or [logit > 0])
            if there.sum() >= _LEAST_DOPANTS:
                maps[candidates][name] = _fitted(logit, there)
    # Of too few dopants nothing can be fitted: such a source takes the map of the best one, with a list.
    fallback = maps[True].get(SOURCES[0], LogitMap())
    maps = {which: {name: found.get(name, fallback) for name in SOURCES} for which, found in maps.items()}
    every = [*gathered[True], *gathered[False]]
    shifts, factors = {}, {}
    for place, name in enumerate(SOURCES):
        away, spread = _errors(every, place)
        if away.size >= _LEAST_AMOUNTS:
            shifts[name] = float(np.median(away))
        if away.size >= _LEAST_DOPANTS:
            factors[name] = conformal_quantile(np.abs(away - shifts[name]) / spread, COVERAGE)
    unexplained = np.concatenate([raw.unexplained for raw in gathered[False]] or [np.ones(1)])
    return ComparisonCalibration(
        with_candidates=maps[True],
        guess_free=maps[False],
        log_shifts=shifts,
        interval_factors=factors,
        unexplained=float(np.quantile(unexplained, 0.99)),
    )


def _errors(every: Sequence[RawAnswers], source: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of true dopants that were weighed by this source: log of the true amount over the answered, and the spread."""
    away, spread = [], []
    for raw in every:
        here = (raw.source == source) & (raw.truth > 0) & (raw.logit > _SIFTED)
        away.append(np.log(raw.truth[here]) - raw.log_mean[here])
        spread.append(np.exp(raw.log_spread[here]))
    return np.concatenate(away or [np.zeros(0)]), np.concatenate(spread or [np.ones(0)])


def _fitted(logit: NDArray[np.float64], there: NDArray[np.bool_]) -> LogitMap:
    if there.all() or not there.any():
        return LogitMap()

    def loss(parameters: NDArray[np.float64]) -> float:
        z = np.exp(parameters[0]) * logit + parameters[1]
        return float(np.mean(np.logaddexp(0.0, z) - there * z))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return LogitMap(slope=float(np.exp(found[0])), offset=float(found[1]))


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


def evaluate_comparison(
    network: Comparer,
    calibration: ComparisonCalibration,
    rows: ComparisonRows,
    split: str = "test",
    *,
    regimes: Mapping[str, Regime] = REGIMES,
) -> dict[str, Any]:
    """The figures of each regime on the rows of `split`, and of its control.

    Returns:
        by regime, the figures of `defectnet.metrics.score_answers`, `single_top1`, `best_threshold_f1`, `n_hosts` and
        `control` with the same keys.
    """
    report: dict[str, Any] = {}
    for name, regime in regimes.items():
        places = answerable(rows, rows.of_split(split), regime)
        if not places:
            continue
        raw = raw_answers(network, rows, places, regime)
        figures = _figures(raw, calibration, regime)
        figures["n_hosts"] = len({rows.host[row] for row in places})
        control = raw_answers(network, rows, places, regime, pristine=True)
        figures["control"] = _figures(replace(control, truth=raw.truth), calibration, regime)
        figures["false_alarms_pristine"] = float(
            judge(control, calibration, candidates=regime.candidates).present.any(axis=1).mean()
        )
        report[name] = figures
    return report


def _figures(raw: RawAnswers, calibration: ComparisonCalibration, regime: Regime) -> dict[str, Any]:
    judged = judge(raw, calibration, candidates=regime.candidates)
    figures: dict[str, Any] = dict(score_answers(judged))
    single = ((raw.truth > 0).sum(axis=1) == 1) & (raw.truth.max(axis=1) >= 0.02)
    first = judged.probability.argmax(axis=1) == raw.truth.argmax(axis=1)
    figures["single_top1"] = round(float(first[single].mean()), 4) if single.any() else None
    figures["best_threshold_f1"] = _best_f1(judged)
    return figures


def _best_f1(judged: Judged) -> float:
    """The headline F1 at the threshold that suits it best."""
    wanted = judged.truth >= HEADLINE_PERCENT / 100 - 1e-9
    true = judged.truth > 0
    share = wanted.sum() / max(true.sum(), 1)
    best = 0.0
    for threshold in np.linspace(0.02, 0.98, 49):
        said = judged.asked & (judged.probability >= threshold)
        hits, alarms = (wanted & said).sum(), (said & ~true).sum() * share
        best = max(best, float(2 * hits / max(hits + wanted.sum() + alarms, 1)))
    return round(best, 4)
