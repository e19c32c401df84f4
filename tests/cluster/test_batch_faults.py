"""Simulation, preparation and batch scoring on three nodes, while parts of the cluster die: every row exactly once."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support.nodes import RayCluster, Record, kill_driver, wait_for

from datagen.parents import list_parents
from datagen.potentials import load_potential
from datagen.sampling import identity
from datagen.settings import SimulateSettings
from defectnet.errors import PotentialError
from defectnet.io.response_library import ResponseLibrary
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

# Enough that the run is under way for longer than a fault takes, few enough for a laptop.
SCORED_ROWS, SHARD_ROWS = 4000, 128


class Score:
    """`defectnet score` of spectra that differ in their ids only."""

    actor = "_Scorer"

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out"
        rows = [
            {"sample_id": f"s{index}", "host": "Si", "frequency_step_thz": 0.1, "dos": [0.1 + index % 7] * 150}
            for index in range(SCORED_ROWS)
        ]
        self.expected = [row["sample_id"] for row in rows]
        write_table(pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA), folder / "in.parquet")
        config = folder / "score.yaml"
        config.write_text(yaml.safe_dump({"workers": 2, "shard_rows": SHARD_ROWS, "niceness": 0}))
        self.arguments = ["score", str(folder / "in.parquet"), str(self.output)]
        self.arguments += ["--config", str(config), "--model", str(released_model())]

    def check(self) -> None:
        manifest = json.loads((self.output / "_manifest.json").read_text())
        assert manifest["rows"] == SCORED_ROWS
        table = pq.read_table(self.output)
        assert table["sample_id"].to_pylist() == self.expected  # in the order of the input, too
        assert table["error"].null_count == SCORED_ROWS


class Simulate:
    """`defectnet simulate` of the packaged parents, in small cells."""

    actor = "ShardWriter"

    def __init__(self, folder: Path) -> None:
        try:
            load_potential("nep89")
        except PotentialError as error:
            pytest.skip(f"the default potential is not installed: {error}")
        self.output = folder / "out"
        values = {"samples_per_parent": 4, "parents_per_shard": 1, "workers": 2, "output": str(self.output)}
        values |= {"fragment_atoms": 64, "min_atoms": 64, "direct_atoms": 54, "max_atoms": 130}
        config = folder / "simulate.yaml"
        config.write_text(yaml.safe_dump(values))
        settings = SimulateSettings(**values)
        self.expected = [
            identity(parent, index, settings)[0]
            for parent in list_parents(settings.parents, settings.max_basis)
            for index in range(settings.samples_per_parent)
        ]
        self.arguments = ["simulate", "--config", str(config)]

    def check(self) -> None:
        assert (self.output / "report.json").exists()


class Prepare:
    """`defectnet prepare` of the packaged parents, by springs alone."""

    actor = "HostWriter"

    def __init__(self, folder: Path) -> None:
        self.output = folder / "out"
        values = {"dopants": ["Ge", "Sn", "Mg", "Se"], "hosts_per_shard": 1, "workers": 2, "output": str(self.output)}
        folder.mkdir(exist_ok=True)
        config = folder / "prepare.yaml"
        config.write_text(yaml.safe_dump(values))
        self.expected = list_parents("packaged")
        self.arguments = ["prepare", "--config", str(config)]

    def check(self) -> None:
        library = ResponseLibrary.read(self.output)
        assert all(library.host(name).responses for name in self.expected)
        assert json.loads((self.output / "report.json").read_text())["failed"] == 0


STAGES: dict[str, Callable[[Path], Any]] = {"prepare": Prepare, "score": Score, "simulate": Simulate}


def rows_of(output: Path) -> Counter[str]:
    """How often each id, of a sample or of a host, stands in the files of the output."""
    found: Counter[str] = Counter()
    for file in output.glob("*.parquet"):
        (name,) = {"sample_id", "host_id"} & set(pq.read_schema(file).names)
        found.update(pq.read_table(file, columns=[name])[name].to_pylist())
    return found


def run_with(cluster: RayCluster, stage: Any, fault: str, log: Path) -> int:
    """Run the stage with one fault in the middle of it; returns the rows that stood when the fault came."""
    driver = cluster.driver(*stage.arguments, log=log)
    try:
        busy = lambda: [node for node in cluster.workers if node.workers(stage.actor)]  # noqa: E731
        wait_for(lambda: rows_of(stage.output) or driver.poll() is not None, "the first shard")
        assert driver.poll() is None, log.read_text()
        resumed_from = sum(rows_of(stage.output).values())
        if fault == "worker_process":
            os.kill(busy()[0].workers(stage.actor)[0], signal.SIGKILL)
        elif fault == "worker_node":
            busy()[-1].kill()
        elif fault == "network_cut_30_s":
            busy()[-1].cut_for()
        elif fault == "driver":
            kill_driver(driver)
            driver = cluster.driver(*stage.arguments, log=log)
        cluster.wait(driver, 600)
    except TimeoutError:
        pytest.fail(f"{fault}: {log.read_text()[-3000:]}")
    finally:
        kill_driver(driver)
    assert driver.returncode == 0, log.read_text()[-3000:]
    return resumed_from


@pytest.mark.parametrize("fault", ["worker_process", "worker_node", "driver", "network_cut_30_s"])
@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_row_once(cluster: RayCluster, record: Record, tmp_path: Path, name: str, fault: str) -> None:
    stage = STAGES[name](tmp_path)
    begun = time.monotonic()
    resumed_from = run_with(cluster, stage, fault, tmp_path / "driver.log")
    found = rows_of(stage.output)
    expected = set(stage.expected)
    figures = {
        "rows_expected": len(expected),
        "rows_once": sum(count == 1 for row, count in found.items() if row in expected),
        "rows_missing": len(expected - set(found)),
        "rows_twice": sum(count > 1 for count in found.values()),
        "resumed_from": resumed_from,
    }
    record(name, fault, **figures, seconds=round(time.monotonic() - begun, 1))
    assert 0 < resumed_from < len(expected)  # the fault came in the middle
    assert figures["rows_once"] == len(expected)
    assert (figures["rows_missing"], figures["rows_twice"]) == (0, 0)
    assert set(found) == expected
    assert [file.name for file in stage.output.iterdir() if file.name.endswith(".partial")] == []
    stage.check()


def test_a_library_gone_on_with_is_that_of_an_unbroken_run(cluster: RayCluster, tmp_path: Path) -> None:
    broken, whole = Prepare(tmp_path / "broken"), Prepare(tmp_path / "whole")
    assert 0 < run_with(cluster, broken, "driver", tmp_path / "broken.log") < len(broken.expected)
    log = tmp_path / "whole.log"
    driver = cluster.driver(*whole.arguments, log=log)
    try:
        cluster.wait(driver, 600)
    finally:
        kill_driver(driver)
    assert driver.returncode == 0, log.read_text()[-3000:]
    found, expected = (
        pq.read_table(sorted(stage.output.glob("*.parquet"))).sort_by("host_id") for stage in (broken, whole)
    )
    assert expected.num_rows == len(whole.expected)
    assert found.equals(expected)
