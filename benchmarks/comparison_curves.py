"""What the network that compares owes to the number of hosts, to mismatch in training, and to how sources differ.

Each variant is trained anew for the same number of steps, and judged on the test hosts: hard lists by the label's
source and by another, likely others by springs; "spoilt" are the same hard lists with axes, widths, noise and
references as `training/comparison/mismatch.py` spoils them. Unlearned unmixing, the same for any number of hosts,
stands in `comparison.json`. Runs go on from their checkpoints in runs/comparison-curves; half an hour on one core.

    make bench-comparison-curves
"""

import argparse
import logging
from pathlib import Path
from typing import Any

from writing import say, write_result

from defectnet.io.tables import read_spectra
from defectnet.metrics import score_answers
from defectnet.model.comparison.calibration import ComparisonCalibration
from defectnet.model.comparison.comparer import Comparer
from defectnet.responses import response_library
from training.comparison.answers import REGIMES, answerable, judge, raw_answers
from training.comparison.evaluate import calibrate_comparison
from training.comparison.fit import fit_comparer
from training.comparison.mismatch import Mismatch, MismatchSettings
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings

DATA = Path(__file__).parents[1] / "data"
WORK = Path("runs/comparison-curves")
NO_MISMATCH = MismatchSettings(**{name: 0.0 for name in MismatchSettings.model_fields if name.endswith("_probability")})
VARIANTS: dict[str, dict[str, Any]] = {
    "55 hosts": {"most_hosts": 55},
    "220 hosts": {"most_hosts": 220},
    "all hosts": {},
    "without mismatch": {"mismatch": NO_MISMATCH},
    "without differences of sources": {"distorted_share": 0.0, "potential_share": 0.0, "made_up_share": 0.0},
}
ASKED = ("hard_lists", "hard_lists_other_source", "likely_springs")


def main() -> None:
    """Train, judge, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    library = response_library(DATA / "responses")
    assert library is not None
    rows = ComparisonRows.from_table(read_spectra(DATA), library)
    result: dict[str, Any] = {
        "steps": arguments.steps,
        "hosts": len({rows.host[row] for row in rows.of_split("train")}),
    }
    for name, changes in VARIANTS.items():
        settings = CompareSettings(steps=arguments.steps, workers=0, **changes)
        folder = WORK / f"{name.replace(' ', '-')}-{arguments.steps}"
        folder.mkdir(parents=True, exist_ok=True)
        network = fit_comparer(rows, settings, folder)
        result[name] = _figures(network, rows)
        say(f"{name}: {result[name]}")
        write_result("comparison_curves", result)


def _figures(network: Comparer, rows: ComparisonRows) -> dict[str, dict[str, float]]:
    mismatch = Mismatch(MismatchSettings())
    calibration = calibrate_comparison(network, rows, mismatch)
    figures = {name: _asked(network, calibration, rows, name, None) for name in ASKED}
    return figures | {"spoilt": _asked(network, calibration, rows, "hard_lists", mismatch)}


def _asked(
    network: Comparer, calibration: ComparisonCalibration, rows: ComparisonRows, name: str, mismatch: Mismatch | None
) -> dict[str, float]:
    regime = REGIMES[name]
    places = answerable(rows, rows.of_split("test"), regime)
    raw = raw_answers(network, rows, places, regime, mismatch=mismatch)
    headline: Any = score_answers(judge(raw, calibration, candidates=regime.candidates))["headline"]
    return {figure: headline[figure] for figure in ("f1", "r2", "mae_pct", "coverage_90")}


if __name__ == "__main__":
    main()
