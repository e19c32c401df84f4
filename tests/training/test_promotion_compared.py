"""The gate by comparison: weights that are noise are refused, and so is a model that does not compare.

Both models guess alike; only what they compare with is trained or not.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.responses import made_up_hosts, made_up_rows
from typer.testing import CliRunner

from defectnet.cli.main import app
from defectnet.errors import RegistryError
from defectnet.io.response_library import RESPONSES_SCHEMA, ResponseLibrary
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.model.artifact import ModelConfig, TrainedOn, load_artifact, save_artifact
from defectnet.model.comparison.comparer import Comparer, ComparerSettings
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.models import MODEL_NAME
from training import registry
from training.comparison.fit import fit_comparer
from training.comparison.gate import ComparedRows
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings
from training.promotion import compare, markdown, promote
from training.tracking import tracking_client

pytestmark = pytest.mark.slow

TINY = ComparerSettings(width=16, layers=1, heads=2)
GRID = FrequencyGrid(n_bins=64)
# Hosts of the test split, each answering as the made-up one whose cation it shares.
TEST_HOSTS = {"MgO": ("MgHfO3", "Mg2Si", "MgB6"), "NaCl": ("Na2SiO4", "Na2Ge", "NaVO3"), "CaF2": ("CaCO3", "CaWO4")}


def renamed(rows: list[dict[str, Any]], formula: str, *names: str) -> list[dict[str, Any]]:
    """The rows once for each test host."""
    found = []
    for row in rows:
        own = str(row[formula])
        for other in TEST_HOSTS[own]:
            found.append(row | {formula: other} | {name: str(row[name]).replace(own, other) for name in names})
    return found


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.Table.from_pylist(
        renamed(made_up_rows(20).to_pylist(), "host", "parent_id", "sample_id"), schema=SPECTRA_SCHEMA
    )


@pytest.fixture(scope="module")
def hosts() -> pa.Table:
    return pa.Table.from_pylist(renamed(made_up_hosts(), "formula", "host_id"), schema=RESPONSES_SCHEMA)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model whose comparer learned, one whose is noise, and one that has none; all guess alike."""
    folder = tmp_path_factory.mktemp("models")
    library = ResponseLibrary([pa.Table.from_pylist(made_up_hosts(), schema=RESPONSES_SCHEMA)])
    rows = ComparisonRows.from_table(made_up_rows(), library)
    settings = CompareSettings(steps=80, batch_size=16, learning_rate=5e-3, warmup_steps=5, network=TINY)
    torch.manual_seed(4)
    noise = Comparer(TINY)
    with torch.no_grad():
        for parameter in noise.parameters():
            parameter.normal_(0.0, 0.5)
    comparers = {"good": fit_comparer(rows, settings, folder / "fit"), "noise": noise, "none": None}
    size = NetworkSettings(width=16, encoder_layers=1, decoder_layers=1)
    for name, comparer in comparers.items():
        torch.manual_seed(0)
        sized = None if comparer is None else TINY
        network = DefectNetwork(size, GRID, sized)
        if comparer is not None:
            assert network.comparer is not None
            network.comparer.load_state_dict(comparer.state_dict())
        trained_on = TrainedOn(dopants=("Ca", "Zn", "Ni", "K", "Li", "Rb", "Sr", "Ba", "Cd"))
        config = ModelConfig(grid=GRID, network=size, comparer=sized, trained_on=trained_on)
        save_artifact(folder / name, network=network, config=config, card=name)
    return {name: folder / name for name in comparers}


@pytest.fixture
def files(table: pa.Table, hosts: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_table(table, tmp_path / "benchmark.parquet")
    write_table(hosts, tmp_path / "responses.parquet")
    return tmp_path / "benchmark.parquet", tmp_path / "responses.parquet"


def tags(version: str) -> dict[str, str]:
    return dict(tracking_client().get_model_version(MODEL_NAME, version).tags)


def test_a_comparer_of_noise_is_refused(artifacts: dict[str, Path], files: tuple[Path, Path]) -> None:
    benchmark, responses = files
    good, noise, again = (registry.register(artifacts[name]) for name in ("good", "noise", "good"))
    promote(good, benchmark, responses=responses)
    refused = promote(noise, benchmark, responses=responses)
    assert not refused.promoted
    assert registry.champion() == good
    assert "compared f1 total" in refused.failed
    assert not [name for name in refused.failed if name.startswith("guessed")]  # they guess alike
    assert "compared f1 total" in tags(noise)["gate_failed"]
    (f1,) = (one for one in refused.compared if (one.way, one.figure, one.scope) == ("compared", "f1", "total"))
    assert float(tags(noise)["gate_compared_f1_total"]) == f1.challenger < f1.champion
    assert {"gate_compared_mae_pct_from_2", "gate_compared_coverage_90_total"} <= tags(noise).keys()
    assert "gate_guessed_f1_total" in tags(noise)
    told = markdown(refused)
    assert "| compared | presence F1 | total |" in told
    assert "| guessed | presence F1 | total |" in told

    assert promote(again, benchmark, responses=responses).promoted  # as good as the champion
    assert promote(noise, benchmark, responses=responses, force="to see the alarm go off").promoted
    assert promote(good, benchmark, responses=responses).promoted  # and a better one than the champion
    assert float(tags(good)["gate_compared_f1_total"]) == f1.champion


def test_a_model_that_does_not_compare_is_refused_by_a_sentence(
    artifacts: dict[str, Path], files: tuple[Path, Path]
) -> None:
    benchmark, responses = files
    good, none = registry.register(artifacts["good"]), registry.register(artifacts["none"])
    promote(good, benchmark, responses=responses)
    refused = promote(none, benchmark, responses=responses)
    assert not refused.promoted
    sentence = f"version {none} does not compare with computed responses, and the champion, {good}, does"
    assert refused.refusal == sentence
    assert {one.way for one in refused.compared} == {"guessed"}
    assert sentence in markdown(refused)
    assert tags(none)["gate_refusal"] == sentence
    assert tags(none)["gate"] == "refused"
    told = CliRunner().invoke(app, ["promote", none, "--benchmark", str(benchmark), "--responses", str(responses)])
    assert isinstance(told.exception, RegistryError)
    assert sentence in str(told.exception)
    assert promote(none, benchmark, responses=responses, force="guesses alone are wanted").promoted
    assert tags(none)["gate_reason"] == "guesses alone are wanted"
    # Where the champion does not compare, there is nothing to compare by.
    passed = promote(good, benchmark, responses=responses)
    assert passed.promoted
    assert {one.way for one in passed.compared} == {"guessed"}


def test_a_library_without_the_hosts_is_said(artifacts: dict[str, Path], files: tuple[Path, Path]) -> None:
    benchmark, _ = files
    other = benchmark.parent / "other.parquet"
    write_table(pa.Table.from_pylist(made_up_hosts(), schema=RESPONSES_SCHEMA), other)
    good, again = registry.register(artifacts["good"]), registry.register(artifacts["good"])
    promote(good, benchmark, responses=other)
    gate = promote(again, benchmark, responses=other)
    assert gate.promoted
    assert "not compared by computed responses" in gate.remark
    assert gate.remark in markdown(gate)
    assert tags(again)["gate_remark"] == gate.remark


def test_few_rows_of_each_host_and_always_the_same(
    artifacts: dict[str, Path], table: pa.Table, hosts: pa.Table
) -> None:
    library = ResponseLibrary([hosts])
    shuffled = table.take(pa.array(list(reversed(range(table.num_rows)))))
    one, other = ComparedRows(table, library), ComparedRows(shuffled, library)
    counts = {host: int((one.hosts == host).sum()) for host in set(one.hosts.tolist())}
    assert len(counts) == sum(len(names) for names in TEST_HOSTS.values())
    assert set(counts.values()) == {12}
    assert one.hosts.tolist() == other.hosts.tolist()
    model = load_artifact(artifacts["good"])
    assert np.array_equal(one.judged(*model).truth, other.judged(*model).truth)
    figures = compare(artifacts["good"], artifacts["good"], table, library)
    assert {figure.way for figure in figures} == {"compared", "guessed"}
    assert all(figure.gain == 0.0 and figure.noise == (0.0, 0.0) for figure in figures)
    worse = compare(artifacts["noise"], artifacts["good"], table, library)
    (f1,) = (one for one in worse if (one.way, one.figure, one.scope) == ("compared", "f1", "total"))
    assert f1.noise[0] < f1.gain <= f1.noise[1] < 0
