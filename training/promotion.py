"""The gate before a model becomes champion: on a frozen benchmark it must not be worse than the present one.

Both answer the same spectra with the same candidate lists. Presence F1, the mean absolute error of concentrations and
the coverage of the 90 % intervals are compared over all dopants, over those of at least 2 % and over those below. A
figure is worse when the difference lies beyond the noise: its 99 % range over resampled *hosts*, for the spectra of one
crystal are near copies of each other. (Of nine figures, one would be beyond a 90 % range by luck most of the time.)
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from mlflow import MlflowClient

from defectnet.elements import VOCABULARY
from defectnet.io.tables import read_spectra
from defectnet.metrics import Judged, score_range
from defectnet.model.artifact import load_artifact
from defectnet.model.calibration import COVERAGE
from defectnet.models import ModelReference
from training import registry
from training.dataset import SpectraArrays, dataset_sha256, rows_of_split
from training.evaluate import judge_modes, network_answerer
from training.tracking import tracking_client

__all__ = ["ComparedFigure", "Gate", "compare", "markdown", "promote"]

_SPLIT_PERCENT = 2.0
SCOPES: Mapping[str, tuple[float, float]] = {
    "total": (0.0, 101.0),
    "at 2 % and above": (_SPLIT_PERCENT, 101.0),
    "below 2 %": (0.0, _SPLIT_PERCENT),
}
_TAGS = {"total": "total", "at 2 % and above": "from_2", "below 2 %": "below_2"}
FIGURES = ("f1", "mae_pct", "coverage_90")
_RESAMPLES = 200
_RANGE = (0.5, 99.5)  # percentiles of the resampled difference


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of both models; `gain` is positive where the challenger is better, `noise` its 99 % range."""

    figure: str
    scope: str
    champion: float
    challenger: float
    gain: float
    noise: tuple[float, float]

    @property
    def passed(self) -> bool:
        """Whether the challenger is as good, or as good as can be told."""
        return self.gain >= 0 or self.noise[1] >= 0


@dataclass(frozen=True)
class Gate:
    """The verdict on one challenger; without a champion there is nothing to compare, and no figure."""

    version: str
    champion: str | None
    compared: tuple[ComparedFigure, ...]
    force: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no figure is worse."""
        return all(one.passed for one in self.compared)

    @property
    def promoted(self) -> bool:
        """Whether the challenger is the champion now."""
        return self.passed or bool(self.force)


def promote(
    version: str, benchmark: str | Path, *, force: str | None = None, client: MlflowClient | None = None
) -> Gate:
    """Make `version` the champion if it passes the gate or is forced through it; its tags keep the verdict.

    Args:
        version: a registered version.
        benchmark: labelled spectra, of which the test split is used; read only where there is a champion to beat.
        force: the reason why a version that fails is promoted all the same.

    Raises:
        RegistryError: no such version, or the store cannot be reached.
        TableError: the benchmark cannot be read or has no test hosts.
    """
    client = client or tracking_client()
    former = registry.champion(client=client)
    if former is None or former == version:
        registry.promote(version, client=client)
        registry.tag(version, {"gate": "nothing to compare with"}, client=client)
        return Gate(version, former, ())
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            registry.fetch(ModelReference(version=one), Path(folder) / one, client=client)[0]
            for one in (version, former)
        )
        gate = Gate(version, former, compare(ours, theirs, read_spectra(benchmark)), force)
    failed = [f"{one.figure} {one.scope}" for one in gate.compared if not one.passed]
    tags = {"gate": "passed" if gate.passed else "forced" if force else "refused", "gate_champion": former}
    tags |= {"gate_benchmark_sha256": dataset_sha256(benchmark), "gate_failed": ", ".join(failed)}
    tags |= {f"gate_{one.figure}_{_TAGS[one.scope]}": f"{one.challenger:.4f}" for one in gate.compared}
    if failed and force:
        tags["gate_reason"] = force
    if gate.promoted:
        registry.promote(version, client=client)
    registry.tag(version, tags, client=client)
    return gate


def compare(
    challenger: str | Path, champion: str | Path, table: pa.Table, *, seed: int = 0
) -> tuple[ComparedFigure, ...]:
    """Both artifacts on the test hosts of `table`, figure by figure, with candidate lists and with the references."""
    (rows, ours), (_, theirs) = _judged(challenger, table), _judged(champion, table)
    hosts = np.unique(rows.formula[rows.has_reference])
    members = [np.flatnonzero(rows.formula[rows.has_reference] == host) for host in hosts]
    rng = np.random.default_rng(seed)
    draws = [np.concatenate([members[i] for i in rng.integers(len(hosts), size=len(hosts))]) for _ in range(_RESAMPLES)]
    compared = []
    for scope, (low, high) in SCOPES.items():
        after, before = score_range(ours, low, high), score_range(theirs, low, high)
        resampled = [
            (score_range(ours.where(draw), low, high), score_range(theirs.where(draw), low, high)) for draw in draws
        ]
        for figure in FIGURES:
            if after[figure] is None or before[figure] is None:
                continue  # the benchmark has no dopant in this range
            gains = [_gain(figure, new, old) for new, old in resampled]
            found = np.array([gain for gain in gains if gain is not None])
            gain = _gain(figure, after, before)
            assert gain is not None
            noise = np.percentile(found, _RANGE) if found.size else np.zeros(2)
            values = float(before[figure] or 0.0), float(after[figure] or 0.0)
            compared.append(ComparedFigure(figure, scope, *values, gain, (float(noise[0]), float(noise[1]))))
    return tuple(compared)


def markdown(gate: Gate) -> str:
    """The compared figures as a table."""
    lines = [
        f"| figure | dopants | champion {gate.champion} | version {gate.version} | gain | 99 % range | |",
        "|---|---|---|---|---|---|---|",
    ]
    titles = {"f1": "presence F1", "mae_pct": "concentration MAE (% abs.)", "coverage_90": "coverage of 90 %"}
    for one in gate.compared:
        low, high = one.noise
        verdict = "passes" if one.passed else "**worse**"
        lines.append(
            f"| {titles[one.figure]} | {one.scope} | {one.champion:.3f} | {one.challenger:.3f} "
            f"| {one.gain:+.3f} | {low:+.3f} … {high:+.3f} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _judged(artifact: str | Path, table: pa.Table) -> tuple[SpectraArrays, Judged]:
    network, config = load_artifact(artifact)
    rows = SpectraArrays.from_table(rows_of_split(table, "test"), config.grid)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    return rows, judge_modes(network_answerer(network), rows, known, config.calibration)["candidate"]


def _gain(figure: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> float | None:
    """How much better `new` is than `old`: a higher F1, a smaller error, a coverage nearer to what was promised."""
    if new[figure] is None or old[figure] is None:
        return None
    if figure == "mae_pct":
        return float(old[figure] - new[figure])
    if figure == "coverage_90":
        return float(abs(old[figure] - COVERAGE) - abs(new[figure] - COVERAGE))
    return float(new[figure] - old[figure])
