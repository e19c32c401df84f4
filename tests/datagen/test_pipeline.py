"""The distributed run: resumable after a kill, row by row the same, bad parents cost themselves only."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ase import Atoms
from numpy.typing import NDArray

from datagen.parents import Parent
from datagen.pipeline import _ShardWriter, finished_samples, simulate_parent, storage_schema
from datagen.potentials import Potential
from datagen.sampling import identity
from datagen.settings import SimulateSettings
from defectnet.errors import SimulationError, TableError
from defectnet.io.storage import Location
from defectnet.io.tables import SPECTRA_SCHEMA, conform, read_spectra

_SETTINGS = """\
parents: packaged
parent_ids: [Si, Ge, GaAs, AlAs, SiC, GaP]
samples_per_parent: 2
fragment_atoms: 64
min_atoms: 64
direct_atoms: 54
max_atoms: 100
parents_per_shard: 1
workers: 1
"""


def test_rows_keep_the_contract(silicon: Parent, potential: Potential, small: SimulateSettings) -> None:
    germanium = small.model_copy(update={"dopants": ("Ge",), "pristine_share": 0.0})
    rows = simulate_parent("Si", lambda: silicon, [0, 1], potential, germanium)
    table = conform(pa.Table.from_pylist(rows, schema=storage_schema(True)), SPECTRA_SCHEMA)
    for row in table.to_pylist():
        assert row["error"] is None
        step = row["frequency_step_thz"]
        assert sum(row["dos"]) * step == pytest.approx(3.0, rel=0.01)
        assert sum(row["reference_dos"]) * step == pytest.approx(3.0, rel=0.01)
        total = [sum(values) for values in zip(*(part["dos"] for part in row["partial_dos"]), strict=True)]
        assert total == pytest.approx(row["dos"], abs=5e-3 * max(row["dos"]))


def test_a_failing_parent_is_rows_with_an_error(potential: Potential, small: SimulateSettings) -> None:
    def broken() -> Parent:
        raise SimulationError("bad: no forces")

    rows = simulate_parent("bad", broken, [0, 1, 2], potential, small)
    assert [row["error"] for row in rows] == ["bad: no forces"] * 3
    assert len({row["sample_id"] for row in rows}) == 3


class _Upside:
    """Pushes atoms away from where they rest: no host is stable with it."""

    name = fingerprint = "upside down"

    def __init__(self, potential: Potential) -> None:
        self._potential = potential

    def knows(self, symbol: str) -> bool:
        return self._potential.knows(symbol)

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
        forces, stresses = self._potential.evaluate(structures)
        return [-one for one in forces], stresses


def test_the_second_potential_is_asked_where_the_first_fails_its_gate(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    asked = small.model_copy(update={"dopants": ("Ge",), "pristine_share": 0.0})
    wrong = _Upside(potential)
    (alone,) = simulate_parent("Si", lambda: silicon, [0], wrong, asked)
    assert "fails its gate" in alone["error"]
    (row,) = simulate_parent("Si", lambda: silicon, [0], wrong, asked, second=potential)
    assert row["error"] is None
    assert row["origin"]["potential"] == potential.name


def test_a_site_that_the_host_does_not_have_is_an_error(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    asked = small.model_copy(update={"dopants": ("Al",), "sublattices": ("Ga",)})
    rows = simulate_parent("Si", lambda: silicon, [0], potential, asked)
    assert "none of the dopants asked for" in rows[0]["error"]


def test_a_torn_shard_is_named(tmp_path: Path) -> None:
    (tmp_path / "spectra-x.parquet").write_bytes(b"PAR1")
    with pytest.raises(TableError, match=r"spectra-x\.parquet.*delete it"):
        finished_samples(Location.of(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_resumes_to_the_same_rows(potential: Potential, tmp_path: Path) -> None:
    config = tmp_path / "simulate.yaml"
    config.write_text(_SETTINGS, encoding="utf-8")
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    first = _start(config, broken)
    deadline = time.monotonic() + 240
    while len(list(broken.glob("*.parquet"))) < 2:
        assert first.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no shard appeared"
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    kept = finished_samples(Location.of(broken))
    assert 0 < len(kept) < 12

    for output in (broken, whole):
        assert _start(config, output).wait(timeout=240) == 0
    resumed, unbroken = _by_id(broken), _by_id(whole)
    assert len(unbroken) == 12
    assert resumed.equals(unbroken)  # ids and bytes of the spectra alike, none twice
    report = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    assert report["samples"] == 12
    assert sum(report["methods"].values()) == 12
    assert (whole / "overview.png").read_bytes().startswith(b"\x89PNG")


def test_shards_go_to_an_object_store(bucket: str, potential: Potential) -> None:
    settings = SimulateSettings(output=f"{bucket}/spectra", fragment_atoms=64, min_atoms=64, max_atoms=100)
    task = {"parent_id": "Si", "indices": [0]}
    summaries = _ShardWriter(settings.model_dump())({"tasks": json.dumps([task])})
    assert sum(row["count"] for row in summaries) == 1
    assert finished_samples(Location.of(settings.output)) == {identity("Si", 0, settings)[0]}


def _start(config: Path, output: Path) -> "subprocess.Popen[bytes]":
    command = "from defectnet.cli.main import main; main()"
    arguments = ["simulate", "--config", str(config), "--output", str(output)]
    # A session of its own, so that a kill takes Ray's processes with it.
    return subprocess.Popen([sys.executable, "-c", command, *arguments], start_new_session=True)


def _by_id(folder: Path) -> pa.Table:
    table = read_spectra(folder)
    assert len(set(table["sample_id"].to_pylist())) == table.num_rows
    return table.sort_by("sample_id")
