"""Answers by comparison beside the truth, on hosts that were not trained on; calibration, and figures for each regime.

A regime is a kind of candidate list and the source of its responses (`training.comparison.lists`). The control is the
same model fed with the pristine spectrum as sample: what it finds, prior, list and sources give away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from defectnet.metrics import HEADLINE_PERCENT, Judged, score_answers
from defectnet.model.calibration import COVERAGE, conformal_quantile
from defectnet.model.comparison.calibration import ComparisonCalibration, LogitMap
from defectnet.model.comparison.comparer import SOURCES, Comparer
from training.comparison.answers import (
    REGIMES,
    SIFTED,
    RawAnswers,
    Regime,
    answerable,
    calibrated,
    judge,
    judged_amounts,
    raw_answers,
)
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows

__all__ = ["calibrate_comparison", "evaluate_comparison", "single_top1"]

Floats = NDArray[np.float64]

# Of a source maps, factors and shifts are fitted where dopants of at least so many hosts are known by it: answers on
# one host are alike, however many there are. A map of 43 validation hosts by Nequix told them no better: F1 0.68
# instead of 0.72, at an expected calibration error of 0.03 instead of 0.04.
_LEAST_HOSTS = 60
# Without a list two regimes have sources that say nothing, and one as a library has them; both kinds count alike.
_AS_ASKED = 2.0


def calibrate_comparison(
    network: Comparer, rows: ComparisonRows, mismatch: Mismatch | None = None
) -> ComparisonCalibration:
    """Fit the maps and factors on the validation hosts, in every regime, plain and spoilt by `mismatch`.

    Without a list that is half on sources that say nothing and half on such as a library has them: who asks has some
    dopants with a good source and some without, and a map fitted on either alone would be wrong for the other.
    """
    places = rows.of_split("validation")
    gathered: dict[bool, list[tuple[RawAnswers, float]]] = {True: [], False: []}  # with their weights
    hosts: dict[str, set[str]] = {name: set() for name in SOURCES}
    # Too few validation hosts are labelled by a potential for its samples to be fitted on.
    regimes = [regime for regime in REGIMES.values() if regime.label == SOURCES[0]]
    for regime, spoilt in product(regimes, (None,) if mismatch is None else (None, mismatch)):
        if chosen := answerable(rows, places, regime):
            raw = raw_answers(network, rows, chosen, regime, mismatch=spoilt)
            gathered[regime.candidates].append((raw, _AS_ASKED if regime.kind == "all_best" else 1.0))
            for place, name in enumerate(SOURCES):
                known = ((raw.source == place) & (raw.truth > 0)).any(axis=1)
                hosts[name].update(rows.host[chosen[row]] for row in np.flatnonzero(known))
    fitted = {name: place for place, name in enumerate(SOURCES) if len(hosts[name]) >= _LEAST_HOSTS}
    maps = {
        candidates: {name: one for name, place in fitted.items() if (one := _map_of(answers, place)) is not None}
        for candidates, answers in gathered.items()
    }
    # Where nothing could be fitted: the source's own map with a list, or that of the best source; amounts as they are.
    listed = {SOURCES[0]: LogitMap()} | maps[True]
    maps = {
        which: {name: found.get(name, listed.get(name, listed[SOURCES[0]])) for name in SOURCES}
        for which, found in maps.items()
    }
    every = [raw for answers in gathered.values() for raw, _ in answers]
    plain = [(raw.log_mean, raw.log_spread) for raw in every]
    shifts = {name: float(np.median(_errors(every, plain, place)[0])) for name, place in fitted.items()}
    found = ComparisonCalibration(with_candidates=maps[True], guess_free=maps[False], log_shifts=shifts)
    # As they are answered: those of what is found are fitted to the change.
    amounts = [
        judged_amounts(raw, calibrated(raw, found, candidates=candidates), found)[1:]
        for candidates, answers in gathered.items()
        for raw, _ in answers
    ]
    factors = {}
    for name, place in fitted.items():
        away, spread = _errors(every, amounts, place)
        factors[name] = conformal_quantile(np.abs(away) / spread, COVERAGE)
    unexplained = np.concatenate([raw.unexplained for raw, _ in gathered[False]] or [np.ones(1)])
    return found.model_copy(
        update={"interval_factors": factors, "unexplained": float(np.quantile(unexplained, 0.99))},
    )


def _map_of(answers: Sequence[tuple[RawAnswers, float]], source: int) -> LogitMap | None:
    """The map that fits the answers by one source best; None where all of them are right, or all wrong.

    What was sifted out before the network saw it has one logit, whether it is there or not, and would flatten the map.

    Args:
        answers: with the weight of each.
    """
    of = [(raw.source == source) & (raw.logit > SIFTED) for raw, _ in answers]
    logit = np.concatenate([raw.logit[here] for (raw, _), here in zip(answers, of, strict=True)] or [np.zeros(0)])
    there = np.concatenate([raw.truth[here] > 0 for (raw, _), here in zip(answers, of, strict=True)] or [logit > 0])
    weight = np.concatenate([np.full(here.sum(), one) for (_, one), here in zip(answers, of, strict=True)] or [logit])
    if there.all() or not there.any():
        return None

    def loss(parameters: Floats) -> float:
        z = np.exp(parameters[0]) * logit + parameters[1]
        return float(np.mean(weight * (np.logaddexp(0.0, z) - there * z)))

    found = minimize(loss, np.zeros(2), method="Nelder-Mead").x
    return LogitMap(slope=float(np.exp(found[0])), offset=float(found[1]))


def _errors(
    every: Sequence[RawAnswers], amounts: Sequence[tuple[Floats, Floats]], source: int
) -> tuple[Floats, Floats]:
    """Of true dopants that were weighed by this source: log of the true amount over the answered, and the spread.

    Args:
        amounts: log concentrations and log spreads of each of `every`.
    """
    away, spread = [], []
    for raw, (log_mean, log_spread) in zip(every, amounts, strict=True):
        here = (raw.source == source) & (raw.truth > 0) & (raw.logit > SIFTED)
        away.append(np.log(raw.truth[here]) - log_mean[here])
        spread.append(np.exp(log_spread[here]))
    return np.concatenate(away or [np.zeros(0)]), np.concatenate(spread or [np.ones(0)])


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
        if not any(rows.truth[row] for row in places):
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
    figures["single_top1"] = single_top1(judged)
    figures["best_threshold_f1"] = _best_f1(judged)
    return figures


def single_top1(judged: Judged) -> float | None:
    """How often the right element is the most probable one, where it is alone and at least 2 %; None of none."""
    single = ((judged.truth > 0).sum(axis=1) == 1) & (judged.truth.max(axis=1) >= 0.02)
    first = judged.probability.argmax(axis=1) == judged.truth.argmax(axis=1)
    return round(float(first[single].mean()), 4) if single.any() else None


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
