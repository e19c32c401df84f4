"""The released model on hosts that no training row has, by comparison and without; baselines; the published precursor.

Splits are by the hash of the host's formula, so the test hosts are the same for all. `released` is the model as it
answers by comparison, by regime, and without responses; `control` the same with the pristine spectrum as sample. What
it answers without responses (`base`) stands beside competitors: each is fitted on the training rows, chooses what it
has to choose on the validation rows (thresholds, penalties, epochs), and answers the test rows with the same lists.
It takes a quarter of an hour and writes `results/model.json`, `.md` and pictures.

    make bench-model
"""

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison import compared
from precursor import fit_precursor
from stress import coverage_under_stress, strangeness
from writing import RESULTS, write_result

from defectnet.elements import VOCABULARY
from defectnet.io.tables import read_spectra
from defectnet.metrics import BANDS_PERCENT, Judged
from defectnet.model.artifact import ModelConfig, load_artifact
from defectnet.model.network import DefectNetwork
from defectnet.released import released_model
from defectnet.responses import response_library
from training.baselines import BASELINES
from training.comparison.evaluate import evaluate_comparison
from training.comparison.rows import ComparisonRows
from training.dataset import SpectraArrays, require_rows
from training.evaluate import judge_modes, network_answerer, score_baseline, score_modes
from training.evaluation_pictures import draw_evaluation

DATA = Path(__file__).parents[1] / "data"
# By regime and figure, of the released model; the least, but for those in `_SMALLER`, the greatest.
GOALS = {
    ("hard_lists", "f1"): 0.90,
    ("hard_lists", "r2"): 0.90,
    ("hard_lists", "mae_pct"): 0.5,
    ("hard_lists", "single_top1"): 0.95,
    ("hard_lists_other_source", "f1"): 0.80,
    ("hard_lists_other_source", "r2"): 0.7,
    ("candidate", "f1"): 0.92,
    ("guess_free", "f1"): 0.75,
    ("guess_free", "recall_at_5"): 0.9,
    ("hard_lists", "ece"): 0.03,
}
_SMALLER = ("mae_pct", "ece")
_COVERED, _COVERED_GUESS_FREE, _ABOVE_CONTROL = (0.88, 0.92), 0.85, 0.3
_FIGURES = ("f1", "r2", "mae_pct", "coverage_90", "recall_at_3", "recall_at_5", "recall_at_10")
_RESAMPLES = 500


def main() -> None:
    """Fit, score, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(released_model()), help="a model artifact")
    parser.add_argument("data", nargs="?", default=str(DATA), help="a labelled spectra table")
    parser.add_argument("--responses", default=str(DATA / "responses"), help="a response library")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)

    network, config = load_artifact(arguments.model)
    data = SpectraArrays.from_table(read_spectra(arguments.data), config.grid)
    rows = require_rows(data, "test")
    answers = _by_comparison(network, config, arguments.data, arguments.responses)
    known = np.isin(VOCABULARY, config.trained_on.dopants)

    scores = {
        "base": score_modes(network_answerer(network), rows, known, config.calibration),
        "base_without_prior": score_modes(
            network_answerer(network, prior=False), rows, known, config.calibration, prior=False
        ),
        "precursor": score_baseline(fit_precursor, data, rows, known, config.grid, suffixes=("",)),
    }
    for name, fitter in BASELINES.items():
        logging.info("fitting %s", name)
        scores[name] = score_baseline(fitter, data, rows, known, config.grid)

    pristine = replace(rows, sample=np.where(rows.has_reference[:, None], rows.reference, rows.sample))
    control = score_modes(network_answerer(network), pristine, known, config.calibration)
    answers["released"]["no_responses"] = _flat(scores["base"]["candidate"])
    answers["control"]["no_responses"] = _flat(control["candidate"])
    result: dict[str, Any] = {
        "data": {
            "test_spectra": len(rows),
            "test_hosts": len(set(rows.formula)),
            "train_spectra": len(data.of_split("train")),
            "train_hosts": len(set(data.of_split("train").formula)),
            "dataset_sha256": config.trained_on.dataset_sha256,
        },
        **{name: one | _summary(one) if name != "unmixing" else one for name, one in answers.items()},
        "standard_error": _standard_errors(network, config, rows, known),
        **{name: {mode: _flat(figures) for mode, figures in modes.items()} for name, modes in scores.items()},
        "stress": coverage_under_stress(network, config, rows, known),
        "strangeness": strangeness(network, config, rows),
    }
    result["goals"] = _goals(result)
    write_result("model", result)
    text = _markdown(result)
    (RESULTS / "model.md").write_text(text, encoding="utf-8")
    draw_evaluation(network, config, rows, RESULTS / "model")
    print(text)  # noqa: T201


def _by_comparison(network: DefectNetwork, config: ModelConfig, data: str, responses: str) -> dict[str, Any]:
    """What the model answers by comparison, by regime, its control and unlearned unmixing."""
    library = response_library(responses)
    assert network.comparer is not None  # a model that was not trained to compare
    assert library is not None
    rows = ComparisonRows.from_table(read_spectra(data), library)
    found = compared(evaluate_comparison(network.comparer, config.comparison, rows), rows, "test")
    for of in ("released", "control"):
        found[of]["candidate"] = found[of].pop("random_others")
    return found


def _summary(regimes: Mapping[str, Any]) -> dict[str, Any]:
    hard = regimes["hard_lists"]
    return {
        "coverage_90": hard["coverage_90"],
        "coverage_90_guess_free": regimes["guess_free"]["coverage_90"],
        "ece": hard["ece"],
        "single_top1": hard["single_top1"],
    }


def _flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The figures at 0.5 % and above, with those by band and by number of dopants beside them."""
    headline = {name: figures["headline"][name] for name in _FIGURES}
    return headline | {"ece": figures["ece"], "bands": figures["bands"], "by_dopants": figures["by_dopants"]}


def _standard_errors(
    network: DefectNetwork, config: ModelConfig, rows: SpectraArrays, known: Any
) -> dict[str, dict[str, float]]:
    """How far the released model's figures would move with other test hosts: a bootstrap over hosts."""
    from defectnet.metrics import HEADLINE_PERCENT, score_range

    rng = np.random.default_rng(0)
    formula = rows.formula[rows.has_reference]
    hosts = np.unique(formula)
    members = {host: np.flatnonzero(formula == host) for host in hosts}
    errors = {}
    for mode, judged in judge_modes(network_answerer(network), rows, known, config.calibration).items():
        drawn = []
        for _ in range(_RESAMPLES):
            chosen: Judged = judged.where(np.concatenate([members[host] for host in rng.choice(hosts, len(hosts))]))
            figures = score_range(chosen, HEADLINE_PERCENT, 101.0)
            drawn.append([float(figures[name] or 0.0) for name in ("f1", "mae_pct", "coverage_90")])
        errors[mode] = dict(zip(("f1", "mae_pct", "coverage_90"), np.std(drawn, axis=0).round(4).tolist(), strict=True))
    return errors


def _goals(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each goal beside what was reached."""
    released, control = result["released"], result["control"]
    goals = {}
    for (regime, figure), goal in GOALS.items():
        reached = released[regime][figure]
        met = reached <= goal if figure in _SMALLER else reached >= goal
        goals[f"{regime} {figure}"] = {"goal": goal, "reached": reached, "met": bool(met)}
    covered, free = released["coverage_90"], released["coverage_90_guess_free"]
    low, high = _COVERED
    goals["coverage_90"] = {"goal": f"{low} to {high}", "reached": covered, "met": bool(low <= covered <= high)}
    goals["coverage_90_guess_free"] = {"goal": _COVERED_GUESS_FREE, "reached": free, "met": free >= _COVERED_GUESS_FREE}
    apart = min(float(one["f1"] - control[name]["f1"]) for name, one in released.items() if isinstance(one, Mapping))
    goals["least F1 above control"] = {
        "goal": _ABOVE_CONTROL,
        "reached": round(apart, 4),
        "met": apart >= _ABOVE_CONTROL,
    }
    return goals


def _markdown(result: Mapping[str, Any]) -> str:
    data = result["data"]
    lines = [
        f"{data['test_spectra']} spectra of {data['test_hosts']} hosts; none of these hosts is among the "
        f"{data['train_hosts']} of the {data['train_spectra']} training spectra.",
        "Dopants of at least 0.5 % of all atoms; an element called absent has the estimate 0.",
        "`make bench-model` makes these tables.",
        "",
        "By comparison with computed responses (of the hosts that have them), and without responses:",
        "",
        "| asked | F1 | R² | MAE (% abs.) | coverage of 90 % | recall@5 | ECE | control F1 |",
        "|---|---|---|---|---|---|---|---|",
        *_released_lines(result),
        "",
        "Without responses (`base`), beside competitors:",
        "",
        "| asked | model | F1 | R² | MAE (% abs.) | coverage of 90 % | recall@3 | @5 | @10 | ECE |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    names = [
        name for name, value in result.items() if isinstance(value, Mapping) and "candidate_without_reference" in value
    ]
    names.insert(2, "precursor")
    for mode in ("candidate", "guess_free", "candidate_without_reference", "guess_free_without_reference"):
        for name in names:
            if mode not in result[name]:
                continue
            figures = result[name][mode]
            cells = [_cell(figures[figure]) for figure in (*_FIGURES, "ece")]
            lines.append(f"| {_words(mode)} | {_words(name)} | " + " | ".join(cells) + " |")
    for title, group, keys in (
        ("By true concentration (% of all atoms)", "bands", [f"{low:g}-{high:g}" for low, high in BANDS_PERCENT]),
        ("By number of dopants in the sample", "by_dopants", ["1", "2", "3", "4+"]),
    ):
        lines += ["", f"{title}, F1 and, after the stroke, MAE in % absolute:", ""]
        lines += ["| asked | model | " + " | ".join(keys) + " |", "|---|---|" + "---|" * len(keys)]
        for mode in ("candidate", "guess_free"):
            for name in names:
                parts = result[name][mode][group]
                cells = [f"{_cell(parts[key]['f1'])} / {_cell(parts[key]['mae_pct'])}" for key in keys]
                lines.append(f"| {_words(mode)} | {_words(name)} | " + " | ".join(cells) + " |")
    lines += ["", "Goals:", "", "| goal | wanted | reached | met |", "|---|---|---|---|"]
    for name, goal in result["goals"].items():
        lines.append(f"| {_words(name)} | {goal['goal']} | {goal['reached']} | {'yes' if goal['met'] else 'no'} |")
    lines += [
        "",
        "Share of true concentrations inside the 90 % interval when the spectrum is worse than it should be:",
        "",
    ]
    lines += ["| spectrum | coverage |", "|---|---|"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in result["stress"].items()]
    lines += ["", "Out-of-distribution score (0.5 is exceeded by 1 % of validation spectra):", ""]
    lines += ["| spectrum | median score | share above 0.5 |", "|---|---|---|"]
    for name, figures in result["strangeness"].items():
        lines.append(f"| {name} | {_cell(figures['median'])} | {_cell(figures['warned'])} |")
    return "\n".join(lines) + "\n"


def _released_lines(result: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, one in result["released"].items():
        if isinstance(one, Mapping):
            cells = [_cell(one[key]) for key in ("f1", "r2", "mae_pct", "coverage_90", "recall_at_5", "ece")]
            lines.append(f"| {_words(name)} | " + " | ".join((*cells, _cell(result["control"][name]["f1"]))) + " |")
    return lines


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
