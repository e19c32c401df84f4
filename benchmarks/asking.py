"""The released model asked as its users ask: spectra through `Predictor`, spoilt as instruments spoil them.

Rows of test hosts whose every substitution has a response by end members are asked with that list ("listed") and
without one ("free"), each beside its pristine crystal asked as if it were the sample ("pristine"): what is found there
is a false alarm. A way of asking changes sample and reference alike, but for the two whose reference is another's:
"computed" has the calculation as reference for a sample on an axis of its own, with the resolution of a spectrometer.
"Without registration" the computed host stays as it is, wherever the reference lies. Writes `results/asking.json`; some
minutes.

    make bench-asking
"""

import argparse
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from writing import say, write_result

from defectnet.elements import VOCABULARY
from defectnet.io.tables import read_spectra
from defectnet.metrics import Judged, score_answers
from defectnet.model.features import element_index
from defectnet.model.predictor import Prediction, Predictor
from defectnet.neutron import ARCS, counted, resolved
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model
from defectnet.responses import response_library
from defectnet.spectrum import Spectrum
from training.comparison.answers import REGIMES, answerable
from training.comparison.rows import ComparisonRows

DATA = Path(__file__).parents[1] / "data"
FIGURES = ("f1", "mae_pct", "coverage_90", "recall_at_5")
_COLUMNS = ("sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind")
# A single dopant of at least so much should come first.
_SINGLE = 0.02
# Ways that are asked without registration too.
_REGISTERED = ("stretched_3_percent", "computed")

Pair = tuple[Spectrum, Spectrum | None]
Way = Callable[[Spectrum, Spectrum, np.random.Generator], Pair]


def _moved(spectrum: Spectrum, stretch: float, bend: float = 0.0) -> Spectrum:
    """The spectrum on an axis stretched by `stretch` and bent by `bend` in its middle, with as many modes."""
    axis = spectrum.frequency_thz
    factor = 1.0 + stretch + bend * np.sin(np.pi * axis / spectrum.top_thz())
    return Spectrum(axis * factor, spectrum.dos / np.gradient(axis * factor, axis)).normalised()


def _both(change: Callable[[Spectrum], Spectrum]) -> Way:
    return lambda sample, reference, rng: (change(sample), change(reference))


def _noisy(spectrum: Spectrum, rng: np.random.Generator) -> Spectrum:
    return counted(spectrum, 0.02, rng)[0]


def _cut(spectrum: Spectrum) -> Spectrum:
    kept = spectrum.frequency_thz > 0.12 * spectrum.top_thz()
    return Spectrum(spectrum.frequency_thz[kept], spectrum.dos[kept]).normalised()


def _seen(spectrum: Spectrum, rng: np.random.Generator) -> Spectrum:
    """An axis of its own (1 % standard deviation, 0.4 % of bend), and the resolution of ARCS."""
    return resolved(_moved(spectrum, float(rng.normal(0.0, 0.01)), float(rng.normal(0.0, 0.004))), ARCS)


WAYS: dict[str, Way] = {
    "as_computed": lambda sample, reference, rng: (sample, reference),
    "stretched_3_percent": _both(lambda spectrum: _moved(spectrum, 0.03)),
    "bent_1_percent": _both(lambda spectrum: _moved(spectrum, 0.0, 0.01)),
    "resolution": _both(lambda spectrum: resolved(spectrum, ARCS)),
    "noise": lambda sample, reference, rng: (_noisy(sample, rng), _noisy(reference, rng)),
    "low_energies_missing": _both(_cut),
    "other_axis": lambda sample, reference, rng: (_moved(sample, float(rng.normal(0.0, 0.005))), reference),
    "computed": lambda sample, reference, rng: (_seen(sample, rng), reference),
    "no_reference": lambda sample, reference, rng: (sample, None),
}


def main() -> None:
    """Ask in every way, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(released_model()), help="an artifact folder")
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--rows", type=int, default=200, help="at most so many spectra, drawn evenly")
    parser.add_argument("--only", nargs="*", default=(), help="only these ways, and nothing is written")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    predictor = Predictor.load(arguments.model, version="released")
    queries, truth, lists = questions(arguments.split, arguments.rows)
    figures: dict[str, Any] = {"n_spectra": len(queries), "n_hosts": len({query.host.formula for query in queries})}
    for name, way in WAYS.items():
        if arguments.only and name not in arguments.only:
            continue
        figures[name] = _asked(predictor, name, way, queries, truth, lists)
        say(f"{name:22} {figures[name]}")
    if not arguments.only:
        with mock.patch("defectnet.model.comparison.placing.moved", lambda reference, computed, as_it_is: as_it_is):
            alone = Predictor.load(arguments.model, version="released")
            figures["without_registration"] = {
                name: _asked(alone, name, WAYS[name], queries, truth, lists) for name in _REGISTERED
            }
        say(f"without registration: {figures['without_registration']}")
        write_result("asking", figures)


def questions(split: str, most: int) -> tuple[list[Query], NDArray[np.float64], list[tuple[str, ...]]]:
    """Queries with their references, true fractions of all atoms, shape (n, 94), and each one's list of elements."""
    table, library = read_spectra(DATA), response_library(DATA / "responses")
    assert library is not None
    rows = ComparisonRows.from_table(table, library)
    places = answerable(rows, rows.of_split(split), REGIMES["hard_lists"])
    places = [places[int(at)] for at in np.linspace(0, len(places) - 1, min(most, len(places)))]
    wanted = {rows.sample_id[place]: place for place in places}
    named = [index for index, name in enumerate(table["sample_id"].to_pylist()) if name in wanted]
    queries, lists, truth = [], [], np.zeros((len(named), len(VOCABULARY)))
    for at, fields in enumerate(iterate_rows(table.take(named).select(_COLUMNS))):
        place = wanted[fields["sample_id"]]
        host = rows.hosts[rows.host[place]].vibrational
        queries.append(replace(Query.from_row(fields), host_id=rows.host[place]))
        lists.append(tuple(sorted({entry.element for entry in host.chosen(host.elements, "endmember")})))
        for (element, _), fraction in rows.truth[place].items():
            truth[at, element_index(element)] += fraction
    return queries, truth, lists


def _asked(
    predictor: Predictor,
    name: str,
    way: Way,
    queries: list[Query],
    truth: NDArray[np.float64],
    lists: list[tuple[str, ...]],
) -> dict[str, Any]:
    kind = "computed" if name == "computed" else "measured"
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    changed, pristine = [], []
    for query in queries:
        assert query.reference is not None
        for sample, kept in ((query.spectrum, changed), (query.reference, pristine)):
            spectrum, reference = way(sample, query.reference, rng)
            kept.append(replace(query, spectrum=spectrum, reference=reference, reference_kind=kind))
    figures = {}
    for mode in ("listed", "free"):
        asked, bare = (
            [replace(q, candidates=one if mode == "listed" else None) for q, one in zip(of, lists, strict=True)]
            for of in (changed, pristine)
        )
        figures[mode] = figures_of(predictor.predict(asked), truth)
        alarms = [any(v.present for v in answer.elements) for answer in predictor.predict(bare)]
        figures[mode]["false_alarms_pristine"] = round(float(np.mean(alarms)), 3)
    return figures


def figures_of(
    answers: Sequence[Prediction], truth: NDArray[np.float64], names: Sequence[str] = FIGURES
) -> dict[str, Any]:
    """Headline figures (dopants of at least 0.5 %) of answers beside the truth, fractions of all atoms, (n, 94)."""
    shape = truth.shape
    judged = Judged(
        np.ones(shape, dtype=bool), truth, np.zeros(shape), np.zeros(shape, dtype=bool), *np.full((3, *shape), 1e-3)
    )
    for row, answer in enumerate(answers):
        for verdict in answer.elements:
            at = row, element_index(verdict.element)
            judged.probability[at], judged.present[at] = verdict.probability, verdict.present
            judged.concentration[at], judged.low[at], judged.high[at] = (
                verdict.concentration,
                verdict.low,
                verdict.high,
            )
    headline: Any = score_answers(judged)["headline"]
    single = ((truth > 0).sum(axis=1) == 1) & (truth.max(axis=1) >= _SINGLE)
    first = judged.probability.argmax(axis=1) == truth.argmax(axis=1)
    at_once = round(float(first[single].mean()), 3) if single.any() else None
    return {name: headline[name] for name in names} | {"single_first": at_once}


if __name__ == "__main__":
    main()
