"""Does the check by simulation catch wrong answers, and leave right ones alone?

Doped crystals are simulated as "measured" (cells and configurations of their own, 1 % counting noise). Each gets two
verdicts: the right elements, and the same with its main dopant replaced by another element that fits the site; both
with concentrations that are off by about a third, as an answer's are. The limit of the misfit is set on the hosts of
the validation split, so that 5 % of the right answers there exceed it; what is reported is of the test split's hosts.

    make bench-check PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import linprog

from datagen.dopants import candidates
from datagen.engine import Workbench
from datagen.parents import from_row
from datagen.potentials import Potential, load_potential
from datagen.sampling import draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from defectnet import check
from defectnet.check import check_answer
from defectnet.cli.check import simulator_of, workbench_of
from defectnet.errors import DefectNetError
from defectnet.host import Host
from defectnet.neutron import counted
from defectnet.spectrum import Spectrum
from training.dataset import split_of

RESULTS = Path(__file__).parent / "results"
WORK = Path("runs/check")
MEASURED = SimulateSettings(
    seed=20261123,
    min_atoms=200,
    max_atoms=350,
    dopants_per_parent=4,
    max_defects=3,
    pristine_share=0.0,
    min_concentration=0.005,
    max_concentration=0.10,
)
NOISE = 0.01
# Standard deviation of the logarithm of an answer's error in concentration.
CONCENTRATION_ERROR = 0.3
MAX_BASIS = 4
# Samples of one host, and verdicts of each kind that are wanted.
PER_HOST = 8
WANTED = {"validation": 120, "test": 200}
# A host whose first samples all fail is left: its dopants do not stay on its sites.
GIVE_UP = 2
# Share of right answers that the limit may flag on the calibration hosts.
QUANTILE = 0.95


def main() -> None:
    """Simulate what is missing, set the limit on one split, report the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--split", choices=sorted(WANTED), help="only simulate this split")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    for split in [arguments.split] if arguments.split else WANTED:
        _make(arguments.parents, split)
    if arguments.split is None:
        _report()


def _make(parents: str, split: str) -> None:
    """Append cases to `WORK`/split.jsonl until there are enough; hosts in a random but fixed order."""
    path = WORK / f"{split}.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    seen = {case["parent"] for case in done}
    n_cases = sum("right" in case for case in done)
    table = pq.read_table(parents, filters=[("n_atoms_primitive", "<=", MAX_BASIS)])
    rows = [row for row in table.to_pylist() if split_of(Host(row["formula"])) == split]
    potential = load_potential("nep89")
    for index in np.random.default_rng(1).permutation(len(rows)):
        if n_cases >= WANTED[split]:
            return
        row = rows[index]
        if row["material_id"] in seen:
            continue
        started = time.monotonic()
        try:
            cases = _cases(row, potential)
        except DefectNetError as error:
            cases = [{"error": str(error)}]
        with path.open("a") as file:
            for case in cases:
                file.write(json.dumps({"parent": row["material_id"], "host": row["formula"], **case}) + "\n")
        n_cases += sum("right" in case for case in cases)
        seconds = time.monotonic() - started
        print(f"{split} {row['formula']}: {n_cases} cases, {seconds:.0f} s", flush=True)  # noqa: T201


def _cases(row: dict[str, object], potential: Potential) -> list[dict[str, object]]:
    parent = from_row(row)
    measured, checked = Workbench(parent, potential, MEASURED), workbench_of(parent, potential)
    # What one dopant changes does not depend on the cell that it is laid into: both benches share it.
    checked.__dict__["_asked"] = measured._asked
    checked._fragments, checked._failed = measured._fragments, measured._failed
    simulate = simulator_of(checked)
    palette = draw_palette(parent.parent_id, candidates(parent.host, potential), MEASURED)
    pristine = Spectrum.from_bins(measured.reference.total, measured.bins.step_thz)
    cases: list[dict[str, object]] = []
    for number in range(PER_HOST):
        _, seed = identity(parent.parent_id, number, MEASURED)
        rng = np.random.default_rng(seed)
        plan = draw_plan(parent.host, palette, MEASURED, rng)
        others = [c for c in palette if c.element not in {choice.element for choice, _ in plan.dopants}]
        if not plan.dopants or not others:
            continue
        try:
            outcome = measured.simulate(plan, rng)
            sample, _ = counted(Spectrum.from_bins(outcome.dos.total, outcome.dos.bins.step_thz), NOISE, rng)
            truth = sorted(((d.element, d.concentration) for d in outcome.defects), key=lambda pair: -pair[1])
            answer = {e: float(c * np.exp(CONCENTRATION_ERROR * rng.normal())) for e, c in truth}
            impostor = others[int(rng.integers(len(others)))].element
            wrong = {impostor if e == truth[0][0] else e: c for e, c in answer.items()}
            case: dict[str, object] = {"truth": truth, "wrong_answer": wrong, "method": outcome.method}
            for name, given in (("right", answer), ("wrong", wrong)):
                found = check_answer(sample, pristine, given, simulate)
                fitted = {refined.element: refined.fitted for refined in found.concentrations}
                case[name] = {"misfit": found.misfit, "scatter": found.scatter, "change": found.change}
                case[name] |= {"answered": given, "fitted": fitted}  # type: ignore[operator]
            cases.append(case)
        except DefectNetError as error:
            cases.append({"error": str(error)})
            if len(cases) >= GIVE_UP and all("error" in case for case in cases):
                break
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
    splits = {}
    for split in WANTED:
        lines = [json.loads(line) for line in (WORK / f"{split}.jsonl").read_text().splitlines()]
        splits[split] = [case for case in lines if "right" in case][: WANTED[split]]
    a, b = _limit(splits["validation"])
    rows = splits["test"]

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
        "hosts": len({case["host"] for case in rows}),  # type: ignore[misc]
        "limit": {"a": round(a, 4), "b": round(b, 4), "calibration": shares(splits["validation"], (a, b))},
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
