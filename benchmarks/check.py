"""Does the check by simulation catch wrong answers, and leave right ones alone?

The "measured" spectra are those of the released dataset, with 1 % counting noise: cells and configurations of their
own, larger than the check's. Each gets two verdicts: the right elements, and the same with its main dopant replaced by
another element that was simulated in that host; both with concentrations that are off by about a third, as an answer's
are. The limit of the misfit is set on a third of the hosts, so that 5 % of the right answers there exceed it; what is
reported is of the others.

    make bench-check PARENTS=…/phonondb_parents.parquet
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linprog

from datagen.parents import load_parents
from datagen.potentials import Potential, load_potential
from defectnet import check
from defectnet.check import check_answer
from defectnet.cli.check import simulator_of, workbench_of
from defectnet.errors import DefectNetError
from defectnet.neutron import counted
from defectnet.spectrum import Spectrum
from defectnet.tables import read_spectra

RESULTS = Path(__file__).parent / "results"
WORK = Path("runs/check")
NOISE = 0.01
# Standard deviation of the logarithm of an answer's error in concentration.
CONCENTRATION_ERROR = 0.3
# Which samples: dopants that can be told from the scatter between configurations, dilute enough for the check's engine.
LEAST_MAIN, MOST_TOGETHER = 0.005, 0.10
# Samples of one host, and verdicts of each kind that are wanted.
PER_HOST = 4
WANTED = {"calibration": 100, "test": 200}
# Share of right answers that the limit may flag on the calibration hosts.
QUANTILE = 0.95


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
    potential = load_potential("nep89")
    for index in np.random.default_rng(1).permutation(len(names)):
        if n_cases >= WANTED[half]:
            return
        name = names[index]
        if name in seen:
            continue
        started = time.monotonic()
        cases = _cases(parents, name, samples[name], potential)
        with path.open("a") as file:
            for case in cases:
                file.write(json.dumps({"parent": name, "host": samples[name][0]["host"], **case}) + "\n")
        n_cases += sum("right" in case for case in cases)
        seconds = time.monotonic() - started
        print(f"{half} {samples[name][0]['host']}: {n_cases} cases, {seconds:.0f} s", flush=True)  # noqa: T201


def _cases(parents: str, name: str, rows: list[dict[str, object]], potential: Potential) -> list[dict[str, object]]:
    ((_, load),) = load_parents(parents, [name])
    simulate = simulator_of(workbench_of(load(), potential))
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
        impostor = others[int(rng.integers(len(others)))]
        wrong = {impostor if e == truth[0][0] else e: c for e, c in answer.items()}
        case: dict[str, object] = {"sample": row["sample_id"], "truth": truth, "method": row["origin"]["method"]}  # type: ignore[index]
        try:
            for kind, given in (("right", answer), ("wrong", wrong)):
                found = check_answer(sample, pristine, given, simulate)
                fitted = {refined.element: refined.fitted for refined in found.concentrations}
                figures = {"misfit": found.misfit, "scatter": found.scatter, "change": found.change}
                case[kind] = figures | {"answered": given, "fitted": fitted}
        except DefectNetError as error:
            case = {"error": str(error)}
        cases.append(case)
    return cases


def _limit(cases: list[dict[str, dict[str, float]]]) -> tuple[float, float]:
    """a and b of the limit a + b × scatter: the quantile regression of the right answers' misfit on the scatter."""
    misfit = np.array([case["right"]["misfit"] for case in cases])
    scatter = np.array([case["right"]["scatter"] for case in cases])
    n = len(cases)
    # Variables a, b, and how far each case lies above and below the line.
    costs = np.concatenate([[0.0, 0.0], np.full(n, QUANTILE), np.full(n, 1 - QUANTILE)])
    equal = np.hstack([np.ones((n, 1)), scatter[:, None], np.eye(n), -np.eye(n)])
    found = linprog(costs, A_eq=equal, b_eq=misfit, bounds=[(0, None)] * (2 + 2 * n))
    return float(found.x[0]), float(found.x[1])


def _report() -> None:
    halves, without = {}, {}
    for half in WANTED:
        lines = [json.loads(line) for line in (WORK / f"{half}.jsonl").read_text().splitlines()]
        halves[half] = [case for case in lines if "right" in case and "wrong" in case][: WANTED[half]]
        without[half] = sum("error" in case for case in lines)
    a, b = _limit(halves["calibration"])
    rows = halves["test"]

    def flagged(case: dict[str, dict[str, float]], which: str, limit: tuple[float, float]) -> bool:
        return case[which]["misfit"] > limit[0] + limit[1] * case[which]["scatter"]

    def shares(cases: list[dict[str, dict[str, float]]], limit: tuple[float, float]) -> dict[str, float | int]:
        return {
            "wrong_caught": round(float(np.mean([flagged(case, "wrong", limit) for case in cases])), 4),
            "right_flagged": round(float(np.mean([flagged(case, "right", limit) for case in cases])), 4),
            "n": len(cases),
        }

    main_dopant = np.array([100 * case["truth"][0][1] for case in rows])  # type: ignore[index]
    by_main = {
        f"{low:g}-{high:g}": shares([c for c, x in zip(rows, main_dopant, strict=True) if low <= x < high], (a, b))
        for low, high in ((0.5, 1), (1, 2), (2, 5), (5, 10.1))
        if ((main_dopant >= low) & (main_dopant < high)).any()
    }
    errors: dict[str, list[float]] = {"answered": [], "fitted": []}
    for case in rows:
        for element, truth in case["truth"]:  # type: ignore[misc]
            for which, values in errors.items():
                values.append(abs(np.log(case["right"][which][element] / truth)))  # type: ignore[index]
    result = {
        **shares(rows, (a, b)),
        "without_an_answer": without["test"],
        "hosts": len({case["host"] for case in rows}),  # type: ignore[misc]
        "limit": {"a": round(a, 4), "b": round(b, 4), "calibration": shares(halves["calibration"], (a, b))},
        "limit_in_use": list(check.LIMIT),
        "with_limit_in_use": shares(rows, check.LIMIT),
        "by_main_dopant_percent": by_main,
        # Median error of a concentration as a factor, before and after refinement, of the right answers.
        "concentration_factor_median": {k: round(float(np.exp(np.median(v))), 3) for k, v in errors.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "check.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
