"""Answers by comparison on hosts that were not trained on, by regime, beside their control and unlearned unmixing.

A regime is a kind of candidate list and the source of its responses (`training/comparison/lists.py`); the control is
the released model given the pristine spectrum as sample. Rare earths are each other's neighbours in mass, size and
chemistry: hard lists that hold more of them than of others stand apart. Writes `results/comparison.json` and `.md`;
it takes some minutes.

    make bench-comparison
"""

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core.periodic_table import Element
from writing import RESULTS, write_result

from defectnet.elements import VOCABULARY
from defectnet.io.tables import read_spectra
from defectnet.metrics import Judged, score_answers
from defectnet.model.artifact import load_artifact
from defectnet.model.comparison.axis import COARSE, WIDTHS, smoothing
from defectnet.model.comparison.calibration import ComparisonCalibration
from defectnet.model.comparison.comparer import Comparer
from defectnet.model.features import element_index
from defectnet.model.unmixing import unmix
from defectnet.released import released_model
from defectnet.responses import response_library
from training.comparison.answers import REGIMES, answerable, judge, raw_answers
from training.comparison.evaluate import evaluate_comparison, single_top1
from training.comparison.lists import candidate_entries
from training.comparison.rows import ComparisonRows
from training.comparison.run import comparison_table

DATA = Path(__file__).parents[1] / "data"
_FIGURES = ("f1", "r2", "mae_pct", "coverage_90", "recall_at_5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=str(released_model()), help="an artifact folder")
    parser.add_argument("--data", default=str(DATA))
    parser.add_argument("--responses", default=str(DATA / "responses"))
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    network, config = load_artifact(arguments.model)
    library = response_library(arguments.responses)
    assert network.comparer is not None  # a model that was not trained to compare
    assert library is not None
    rows = ComparisonRows.from_table(read_spectra(arguments.data), library)
    figures = evaluate_comparison(network.comparer, config.comparison, rows, arguments.split)
    apart = _rare_earths_apart(network.comparer, config.comparison, rows, arguments.split)
    result = compared(figures, rows, arguments.split) | {"hard_lists_by_kind": apart, "regimes": figures}
    write_result("comparison", result)
    unlearned = result["unmixing"]["hard_lists"]
    beside = [f"Unlearned unmixing on hard lists: F1 {unlearned['f1']}, R² {unlearned['r2']}."]
    beside += [
        f"Hard lists {name.replace('_', ' ')}: {one['n_hosts']} hosts, F1 {one['f1']}, R² {one['r2']}, "
        f"MAE {one['mae_pct']}, first of single ones {one['single_top1']}."
        for name, one in apart.items()
    ]
    text = "\n\n".join([comparison_table(figures).rstrip(), *beside]) + "\n"
    (RESULTS / "comparison.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


def compared(figures: dict[str, Any], rows: ComparisonRows, split: str) -> dict[str, Any]:
    """The figures of `evaluate_comparison` by regime, flat, beside the control's and unlearned unmixing's."""
    return {
        "released": {name: _flat(one) for name, one in figures.items()},
        "control": {name: _flat(one["control"]) for name, one in figures.items()},
        "unmixing": {"hard_lists": _flat(_unlearned(rows, split))},
    }


def _rare_earths_apart(
    network: Comparer, calibration: ComparisonCalibration, rows: ComparisonRows, split: str
) -> dict[str, Any]:
    """The figures of the hard lists that are mostly rare earths, and of the others."""
    regime = REGIMES["hard_lists"]
    places = np.array(answerable(rows, rows.of_split(split), regime))
    raw = raw_answers(network, rows, places.tolist(), regime)
    judged = judge(raw, calibration, candidates=True)
    rare = np.array([Element(symbol).is_rare_earth for symbol in VOCABULARY])
    mostly = (judged.asked & rare).sum(axis=1) > 0.5 * judged.asked.sum(axis=1)
    found = {}
    for name, of in {"of_rare_earths": mostly, "of_others": ~mostly}.items():
        some, hosts = judged.where(of), {rows.host[place] for place in places[of]}
        figures = dict(score_answers(some)) | {"single_top1": single_top1(some), "n_hosts": len(hosts)}
        found[name] = {figure: value for figure, value in _flat(figures).items() if figure != "best_threshold_f1"}
    return found


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures at 0.5 % and above, with the calibration error and the single dopants beside them."""
    return {name: figures["headline"][name] for name in _FIGURES} | {
        name: figures.get(name) for name in ("ece", "single_top1", "best_threshold_f1", "n_hosts", "n_spectra")
    }


def _unlearned(rows: ComparisonRows, split: str) -> dict[str, Any]:
    """The best sets by least squares alone, on the hard lists by end members; found is a weight of one half."""
    regime, rng = REGIMES["hard_lists"], np.random.default_rng(0)
    smooth = smoothing(COARSE).double().numpy() * np.sqrt(WIDTHS)
    places = answerable(rows, rows.of_split(split), regime)
    shape = len(places), 94
    asked, truth = np.zeros(shape, dtype=bool), np.zeros(shape)
    probability, amount = np.zeros(shape), np.full(shape, 1e-3)
    for place, row in enumerate(places):
        host = rows.hosts[rows.host[row]].vibrational
        sample, reference, _ = rows.spectra(row, neutron=False)
        entries = candidate_entries(host, set(), "hard", rng, source=regime.source)
        responses = np.stack([entry.curves[1] for entry in entries]).astype(float) @ smooth
        found = unmix((sample - reference).astype(float) @ smooth, responses, independent=25.0)
        for k, entry in enumerate(entries):
            element = element_index(entry.element)
            asked[place, element] = True
            if found.presence[k] >= probability[place, element]:
                probability[place, element], amount[place, element] = found.presence[k], found.amount[k]
        for (symbol, _), c in rows.truth[row].items():
            truth[place, element_index(symbol)] += c
    judged = Judged(asked, truth, probability, probability >= 0.5, amount, amount / 1.3, amount * 1.3)
    return dict(score_answers(judged))


if __name__ == "__main__":
    main()
