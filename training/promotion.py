"""The gate before a model becomes champion: on a frozen benchmark it must not be worse than the present one.

Both answer the same spectra with the same candidate lists, in the ways that answers are given: *guessed* from the
spectrum alone, and, where both hold a network for it, *compared* with computed responses, on hard lists by the label's
source (`training.comparison.evaluate`). Presence F1, the mean absolute error of concentrations and the coverage of the
90 % intervals are compared over all dopants, over those of at least 2 % and over those below. A figure is worse when
the difference lies beyond the noise: its 99 % range over resampled *hosts*, for the spectra of one crystal are near
copies of each other. (Of eighteen figures, one would be beyond a 90 % range by luck most of the time.) A model that
does not compare never takes the place of one that does.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from mlflow import MlflowClient
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import TableError
from defectnet.io.response_library import ResponseLibrary
from defectnet.io.tables import read_spectra
from defectnet.metrics import Judged, score_range
from defectnet.model.artifact import load_artifact
from defectnet.model.calibration import COVERAGE
from defectnet.models import ModelReference
from defectnet.responses import PACKAGED, response_library
from training import registry
from training.comparison.gate import ComparedRows
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
# How a figure's answers were found, as the tags and the table say it.
Way = Literal["compared", "guessed"]
_RESAMPLES = 200
_RANGE = (0.5, 99.5)  # percentiles of the resampled difference


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of both models; `gain` is positive where the challenger is better, `noise` its 99 % range."""

    way: Way
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
    """The verdict on one challenger; without a champion there is nothing to compare, and no figure.

    Attributes:
        compared: the figures of both.
        refusal: a sentence that says why the challenger is refused, whatever its figures; empty where they decide.
        remark: a sentence on what could not be compared; empty where all was.
        force: the reason why it is promoted all the same.
    """

    version: str
    champion: str | None
    compared: tuple[ComparedFigure, ...]
    refusal: str = ""
    remark: str = ""
    force: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no figure is worse, and nothing else refuses it."""
        return not self.refusal and all(one.passed for one in self.compared)

    @property
    def failed(self) -> list[str]:
        """What the challenger fails by."""
        lacking = ["compares with responses"] if self.refusal else []
        return lacking + [f"{one.way} {one.figure} {one.scope}" for one in self.compared if not one.passed]

    @property
    def promoted(self) -> bool:
        """Whether the challenger is the champion now."""
        return self.passed or bool(self.force)


def promote(
    version: str,
    benchmark: str | Path,
    *,
    responses: str | Path = PACKAGED,
    force: str | None = None,
    client: MlflowClient | None = None,
) -> Gate:
    """Make `version` the champion if it passes the gate or is forced through it; its tags keep the verdict.

    Args:
        version: a registered version.
        benchmark: labelled spectra, of which the test split is used; read only where there is a champion to beat.
        responses: of the benchmark's hosts, a file or a folder, or "packaged"; read only where both models compare.
        force: the reason why a version that fails is promoted all the same.

    Raises:
        RegistryError: no such version, or the store cannot be reached.
        TableError: the benchmark cannot be read or has no test hosts, or the responses cannot be read.
    """
    client = client or tracking_client()
    former = registry.champion(client=client)
    if former is None or former == version:
        registry.promote(version, client=client)
        registry.tag(version, {"gate": "nothing to compare with"}, client=client)
        return Gate(version, former, ())
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (
            _Model(registry.fetch(ModelReference(version=one), Path(folder) / one, client=client)[0])
            for one in (version, former)
        )
        table = read_spectra(benchmark)
        figures, refusal, remark = _guessed(ours, theirs, table), "", ""
        if theirs.compares and not ours.compares:
            refusal = f"version {version} does not compare with computed responses, and the champion, {former}, does"
        elif theirs.compares:
            figures, remark = _with_compared(figures, ours, theirs, table, responses)
    gate = Gate(version, former, figures, refusal, remark, force)
    tags = {"gate": "passed" if gate.passed else "forced" if force else "refused", "gate_champion": former}
    tags |= {"gate_benchmark_sha256": dataset_sha256(benchmark), "gate_failed": ", ".join(gate.failed)}
    tags |= {f"gate_{one.way}_{one.figure}_{_TAGS[one.scope]}": f"{one.challenger:.4f}" for one in gate.compared}
    tags |= {"gate_refusal": refusal, "gate_remark": remark}
    if gate.failed and force:
        tags["gate_reason"] = force
    if gate.promoted:
        registry.promote(version, client=client)
    registry.tag(version, tags, client=client)
    return gate


def compare(
    challenger: str | Path,
    champion: str | Path,
    table: pa.Table,
    library: ResponseLibrary | None = None,
    *,
    seed: int = 0,
) -> tuple[ComparedFigure, ...]:
    """Both artifacts on the test hosts of `table`, figure by figure, with candidate lists and with the references.

    Args:
        challenger, champion: artifact folders.
        table: labelled spectra.
        library: responses of their hosts, by which both are compared where both compare; None to leave that out.

    Raises:
        ArtifactError: either cannot be read.
        TableError: the table has no test hosts, or `library` none of them.
    """
    ours, theirs = _Model(challenger), _Model(champion)
    guessed = _guessed(ours, theirs, table, seed)
    if library is None or not (ours.compares and theirs.compares):
        return guessed
    return _compared(ours, theirs, ComparedRows(table, library), seed) + guessed


class _Model:
    """An artifact, read once."""

    def __init__(self, artifact: str | Path) -> None:
        self.folder = Path(artifact)
        self.network, self.config = load_artifact(artifact)

    @property
    def compares(self) -> bool:
        return self.network.comparer is not None


def _with_compared(
    guessed: tuple[ComparedFigure, ...], ours: _Model, theirs: _Model, table: pa.Table, responses: str | Path
) -> tuple[tuple[ComparedFigure, ...], str]:
    """The figures with those by comparison before them; and why these are missing, where they are."""
    library = response_library(responses)
    if library is None:
        return guessed, "not compared by computed responses: there is no response library; name one by --responses"
    try:
        rows = ComparedRows(table, library)
    except TableError as error:
        return guessed, f"not compared by computed responses: {error}"
    return _compared(ours, theirs, rows) + guessed, ""


def _guessed(ours: _Model, theirs: _Model, table: pa.Table, seed: int = 0) -> tuple[ComparedFigure, ...]:
    (rows, after), (_, before) = _judged(ours, table), _judged(theirs, table)
    return _figures("guessed", after, before, rows.formula[rows.has_reference], seed)


def _compared(ours: _Model, theirs: _Model, rows: ComparedRows, seed: int = 0) -> tuple[ComparedFigure, ...]:
    after, before = (rows.judged(one.network, one.config) for one in (ours, theirs))
    return _figures("compared", after, before, rows.hosts, seed)


def _figures(way: Way, ours: Judged, theirs: Judged, host: NDArray[Any], seed: int) -> tuple[ComparedFigure, ...]:
    """Figures of both models on the same spectra, whose hosts are `host`, shape (n,)."""
    hosts = np.unique(host)
    members = [np.flatnonzero(host == one) for one in hosts]
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
            compared.append(ComparedFigure(way, figure, scope, *values, gain, (float(noise[0]), float(noise[1]))))
    return tuple(compared)


def markdown(gate: Gate) -> str:
    """The compared figures as a table."""
    lines = [
        f"| way | figure | dopants | champion {gate.champion} | version {gate.version} | gain | 99 % range | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {"f1": "presence F1", "mae_pct": "concentration MAE (% abs.)", "coverage_90": "coverage of 90 %"}
    for one in gate.compared:
        low, high = one.noise
        verdict = "passes" if one.passed else "**worse**"
        lines.append(
            f"| {one.way} | {titles[one.figure]} | {one.scope} | {one.champion:.3f} | {one.challenger:.3f} "
            f"| {one.gain:+.3f} | {low:+.3f} … {high:+.3f} | {verdict} |"
        )
    remarks = [f"\n{sentence}." for sentence in (gate.refusal, gate.remark) if sentence]
    return "\n".join([*lines, *remarks]) + "\n"


def _judged(model: _Model, table: pa.Table) -> tuple[SpectraArrays, Judged]:
    rows = SpectraArrays.from_table(rows_of_split(table, "test"), model.config.grid)
    known = np.isin(VOCABULARY, model.config.trained_on.dopants)
    return rows, judge_modes(network_answerer(model.network), rows, known, model.config.calibration)["candidate"]


def _gain(figure: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> float | None:
    """How much better `new` is than `old`: a higher F1, a smaller error, a coverage nearer to what was promised."""
    if new[figure] is None or old[figure] is None:
        return None
    if figure == "mae_pct":
        return float(old[figure] - new[figure])
    if figure == "coverage_90":
        return float(abs(old[figure] - COVERAGE) - abs(new[figure] - COVERAGE))
    return float(new[figure] - old[figure])
