"""The distributed run: resumable after a kill, row by row the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from datagen.pipeline import ShardWriter, finished_samples
from datagen.potentials import Potential
from datagen.sampling import identity
from datagen.settings import SimulateSettings
from defectnet.errors import TableError
from defectnet.io.storage import Location
from defectnet.io.tables import read_spectra

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
    summaries = ShardWriter(settings.model_dump())({"tasks": json.dumps([task])})
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
