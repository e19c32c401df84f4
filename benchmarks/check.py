"""Does the check by simulation catch wrong answers, and leave right ones alone?

The "measured" spectra are those of the released dataset, with 1 % counting noise: cells and configurations of their
own, larger than the check's. Each gets the right verdict and two wrong ones, in which the main dopant is replaced by
another element that was simulated in that host; all with concentrations that are off by about a third, as an answer's
are. The rivals of an answer are the other elements that were simulated in that host, as if the user had given these as
candidates. The limits are set on the right verdicts of a third of the hosts, so that 2.5 % of them exceed that of the
misfit, and 5 % either that or the rivals'; what is reported is of the other hosts.

    make bench-check PARENTS=…/phonondb_parents.parquet
"""

import argparse
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core.periodic_table import Element
from writing import write_result

from datagen.answer_check import simulator_of
from datagen.endmembers import find_endmembers
from datagen.parents import load_parents
from datagen.potentials import Potential, load_potential
from defectnet import check
from defectnet.check import Check, Simulate, Simulated, check_answer
from defectnet.errors import DefectNetError
from defectnet.io.tables import read_spectra
from defectnet.neutron import counted
from defectnet.spectrum import Spectrum

WORK = Path("runs/check")
NOISE = 0.01
# Standard deviation of the logarithm of an answer's error in concentration.
CONCENTRATION_ERROR = 0.3
# Which samples: dopants that can be told from the scatter between configurations, dilute enough for the check's engine.
LEAST_MAIN, MOST_TOGETHER = 0.005, 0.10
# Samples of one host at most, wrong verdicts on each, and samples that are wanted.
PER_HOST = 5
WRONG_EACH = {"calibration": 0, "test": 2}
WANTED = {"calibration": 80, "test": 110}
# Share of right answers of the calibration hosts that stay below the misfit's limit, and that both limits leave alone.
QUANTILE, TOGETHER = 0.975, 0.95


def main() -> None:
    """Simulate what is missing, set the limit on one half, report the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--data", default="data", help="the released dataset (default data)")
    parser.add_argument("--half", choices=sorted(WANTED), help="only simulate this half")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    samples = _samples(arguments.data)
    for half in [arguments.half] if arguments.half else WANTED:
        _make(arguments.parents, half, samples)
    if arguments.half is None:
        _report()


def _samples(data: str) -> dict[str, list[dict[str, object]]]:
    """The usable rows of the dataset by parent."""
    by_parent: dict[str, list[dict[str, object]]] = {}
    for row in read_spectra(data).to_pylist():
        shares = [defect["concentration"] for defect in row["defects"] or []]
        if row["error"] is None and shares and max(shares) >= LEAST_MAIN and sum(shares) <= MOST_TOGETHER:
            by_parent.setdefault(row["parent_id"], []).append(row)
    return by_parent


def _half_of(host: str) -> str:
    return "test" if hashlib.sha256(f"check/{host}".encode()).digest()[0] >= 96 else "calibration"


def _make(parents: str, half: str, samples: dict[str, list[dict[str, object]]]) -> None:
    """Append cases to `WORK`/half.jsonl until there are enough; hosts in a random but fixed order."""
    path = WORK / f"{half}.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    seen = {case["parent"] for case in done}
    n_cases = sum("right" in case for case in done)
    names = sorted(name for name, rows in samples.items() if _half_of(str(rows[0]["host"])) == half)
    potential, endmembers = load_potential("nep89"), find_endmembers(parents)
    for index in np.random.default_rng(1).permutation(len(names)):
        if n_cases >= WANTED[half]:
            return
        name = names[index]
        if name in seen:
            continue
        started = time.monotonic()
        cases = _cases(parents, name, samples[name], potential, endmembers, WRONG_EACH[half])
        with path.open("a") as file:
            for case in cases:
                file.write(json.dumps({"parent": name, "host": samples[name][0]["host"], **case}) + "\n")
        n_cases += sum("right" in case for case in cases)
        seconds = time.monotonic() - started
        print(f"{half} {samples[name][0]['host']}: {n_cases} cases, {seconds:.0f} s", flush=True)  # noqa: T201


def _cases(
    parents: str,
    name: str,
    rows: list[dict[str, object]],
    potential: Potential,
    endmembers: Mapping[str, Mapping[tuple[str, str], str]],
    n_wrong: int,
) -> list[dict[str, object]]:
    ((_, load),) = load_parents(parents, [name])
    simulate = _remembering(simulator_of(load(), potential, parents=parents, endmembers=endmembers.get(name)))
    palette = sorted({defect["element"] for row in rows for defect in row["defects"]})  # type: ignore[attr-defined]
    cases: list[dict[str, object]] = []
    for row in rows[:PER_HOST]:
        rng = np.random.default_rng(int(hashlib.sha256(str(row["sample_id"]).encode()).hexdigest()[:12], 16))
        truth = sorted(((d["element"], d["concentration"]) for d in row["defects"]), key=lambda pair: -pair[1])  # type: ignore[attr-defined]
        others = [element for element in palette if element not in dict(truth)]
        if not others:
            continue
        pristine, clean = (Spectrum.from_bins(row[key], row["frequency_step_thz"]) for key in ("reference_dos", "dos"))  # type: ignore[arg-type]
        sample, _ = counted(clean, NOISE, rng)
        answer = {e: float(c * np.exp(CONCENTRATION_ERROR * rng.normal())) for e, c in truth}
        impostors = rng.permutation(others)[:n_wrong].tolist()
        answers = {"right": [answer]}
        answers["wrong"] = [{i if e == truth[0][0] else e: c for e, c in answer.items()} for i in impostors]
        case: dict[str, object] = {"sample": row["sample_id"], "truth": truth, "method": row["origin"]["method"]}  # type: ignore[index]
        try:
            for kind, given in answers.items():
                case[kind] = [
                    _verdict(check_answer(sample, pristine, one, simulate, [e for e in palette if e not in one]), one)
                    for one in given
                ]
        except DefectNetError as error:
            case = {"error": str(error)}
        cases.append(case)
    return cases


def _verdict(found: Check, answer: dict[str, float]) -> dict[str, object]:
    fitted = {refined.element: refined.fitted for refined in found.concentrations}
    figures: dict[str, object] = {"misfit": found.misfit, "scatter": found.scatter, "change": found.change}
    rival = {} if found.rival is None else {"rival": vars(found.rival)}
    return figures | rival | {"answered": answer, "fitted": fitted}


def _remembering(simulate: Simulate) -> Simulate:
    """The same dopant alone is simulated once for all verdicts on one sample."""
    known: dict[tuple[object, ...], list[Simulated]] = {}

    def again(wished: Mapping[str, float], count: int) -> list[Simulated]:
        key = (*wished.items(), count)
        if key not in known:
            known[key] = simulate(wished, count)
        return known[key]

    return again


def _limit(verdicts: list[dict[str, float]]) -> float:
    """The misfit that `QUANTILE` of right verdicts do not exceed."""
    return float(np.quantile([verdict["misfit"] for verdict in verdicts], QUANTILE, method="higher"))


def _above(verdict: dict[str, Any], limit: float) -> bool:
    return bool(verdict["misfit"] > limit)


def _ratio(verdict: dict[str, Any]) -> float:
    return float(verdict["rival"]["ratio"]) if "rival" in verdict else np.inf


def _rival_limit(verdicts: list[dict[str, Any]], limit: float) -> float:
    """The greatest limit of the rivals' ratio with which both limits leave `TOGETHER` of right verdicts alone."""
    allowed = int((1 - TOGETHER) * len(verdicts)) - sum(_above(verdict, limit) for verdict in verdicts)
    ratios = sorted(_ratio(verdict) for verdict in verdicts if not _above(verdict, limit))
    return float(min(ratios[max(allowed, 0)], 1.0))


def _share_flagged(verdicts: list[dict[str, Any]], limit: float, rival_limit: float) -> float | None:
    flagged = [_above(verdict, limit) or _ratio(verdict) < rival_limit for verdict in verdicts]
    return round(float(np.mean(flagged)), 4) if flagged else None


def _by_swap(cases: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Wrong verdicts by whether the true main dopant and what stands in its place are both rare earths."""
    found: dict[str, list[dict[str, Any]]] = {"of_rare_earths": [], "of_others": []}
    for case in cases:
        (main, _), *others = case["truth"]
        for verdict in case["wrong"]:
            swapped = {main, *verdict["answered"]} - {element for element, _ in others}
            rare = all(Element(symbol).is_rare_earth for symbol in swapped)
            found["of_rare_earths" if rare else "of_others"].append(verdict)
    return found


def _report() -> None:
    halves, without = {}, {}
    for half in WANTED:
        lines = [json.loads(line) for line in (WORK / f"{half}.jsonl").read_text().splitlines()]
        halves[half] = [case for case in lines if "right" in case]
        without[half] = sum("error" in case for case in lines)
    right = [verdict for case in halves["calibration"] for verdict in case["right"]]
    limit = _limit(right)
    rival_limit = _rival_limit(right, limit)

    def shares(cases: list[dict[str, list[dict[str, Any]]]], limit: float, rival_limit: float) -> dict[str, object]:
        right, wrong = ([verdict for case in cases for verdict in case[kind]] for kind in ("right", "wrong"))
        return {
            "wrong_caught": _share_flagged(wrong, limit, rival_limit),
            "right_flagged": _share_flagged(right, limit, rival_limit),
            "n_wrong": len(wrong),
            "n_right": len(right),
        }

    rows = halves["test"]
    main_percent = np.array([100 * case["truth"][0][1] for case in rows])
    counts = np.array([len(case["truth"]) for case in rows])

    def of(chosen: NDArray[np.bool_]) -> dict[str, object]:
        return shares([case for case, one in zip(rows, chosen, strict=True) if one], limit, rival_limit)

    errors: dict[str, list[float]] = {"answered": [], "fitted": []}
    for case in rows:
        for element, truth in case["truth"]:
            for which, values in errors.items():
                values.append(abs(np.log(case["right"][0][which][element] / truth)))
    result = {
        **shares(rows, limit, rival_limit),
        "by_the_misfit_alone": shares(rows, limit, 0.0),
        "hosts": len({case["host"] for case in rows}),
        "samples_not_simulated": without["test"],
        "limit": {
            "misfit": round(limit, 4),
            "rival": round(rival_limit, 4),
            "calibration_hosts": len({case["host"] for case in halves["calibration"]}),
            "calibration_right": len(halves["calibration"]),
        },
        "with_the_limit_in_use": {
            "limit": [check.LIMIT, check.RIVAL_LIMIT],
            **shares(rows, check.LIMIT, check.RIVAL_LIMIT),
        },
        "by_rival_limit": {f"{r:g}": shares(rows, limit, r) for r in (0.6, 0.7, 0.8, 0.9, 1.0)},
        "by_main_dopant_percent": {
            f"{low:g}-{high:g}": of((main_percent >= low) & (main_percent < high))
            for low, high in ((0.5, 1), (1, 2), (2, 5), (5, 10.1))
        },
        "by_number_of_dopants": {"1": of(counts == 1), "2": of(counts == 2), "3 and more": of(counts > 2)},
        "wrong_caught_by_swap": {
            name: {"wrong_caught": _share_flagged(some, limit, rival_limit), "n_wrong": len(some)}
            for name, some in _by_swap(rows).items()
        },
        # Median error of a concentration as a factor, before and after refinement, of the right answers.
        "concentration_factor_median": {k: round(float(np.exp(np.median(v))), 3) for k, v in errors.items()},
    }
    write_result("check", result)
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
