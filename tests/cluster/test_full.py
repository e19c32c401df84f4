"""A full disk, a full object store: one sentence, nothing half-written taken as done, the rest after making room."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from nodes import PATIENCE_S, REPOSITORY, RayCluster, Record, kill_driver, unavailable, wait_for
from test_batch_faults import STAGES, Score, rows_of

from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

# Room for the first few shards (and for the model, which is copied beside them), and for all of them.
MODEL_BYTES = sum(file.stat().st_size for file in released_model().iterdir())
FIRST, THEN = {"score": MODEL_BYTES + 150_000, "simulate": 96_000}, "64m"
# Puts objects until there is no room, and holds them.
FILL = """
import numpy, ray, signal
ray.init(logging_level=50)
held = []
try:
    while True:
        held.append(ray.put(numpy.ones(1 << 20, dtype=numpy.uint8)))
except Exception as error:
    print("full", len(held), type(error).__name__, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("name", sorted(STAGES))
def test_full_disk(record: Record, tmp_path: Path, name: str) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    stage: Any = STAGES[name](tmp_path)
    stage.output.mkdir()
    # The output lies on a small file system of its own, which grows between the two runs.
    script = """
        mount -t tmpfs -o size={first} tmpfs {out} || exit 9
        "$@" > {folder}/first.log 2>&1; echo $? > {folder}/first.code
        cp -r {out} {folder}/after-first
        mount -o remount,size={then} {out} || exit 9
        "$@" > {folder}/second.log 2>&1; echo $? > {folder}/second.code
        cp -r {out} {folder}/after-second
    """
    filled = textwrap.dedent(script).format(first=FIRST[name], then=THEN, out=stage.output, folder=tmp_path)
    code = "from defectnet.cli.main import main; main()"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", filled, "run"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run([*command, sys.executable, "-c", code, *stage.arguments], env=environment, check=True)
    said = (tmp_path / "first.log").read_text()
    first, second = (int((tmp_path / f"{which}.code").read_text()) for which in ("first", "second"))
    kept = rows_of(tmp_path / "after-first")
    found = rows_of(tmp_path / "after-second")
    record(
        name,
        "disk_full",
        rows_expected=len(stage.expected),
        rows_once=sum(count == 1 for count in found.values()),
        rows_missing=len(set(stage.expected) - set(found)),
        rows_twice=sum(count > 1 for count in found.values()),
        resumed_from=sum(kept.values()),
        exit_code=first,
        one_sentence="No space left on device" in said and "Traceback" not in said,
    )
    assert 0 < sum(kept.values()) < len(stage.expected)  # the disk was full in the middle
    assert first == 1, said[-2000:]
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert not (tmp_path / "after-first" / "_manifest.json").exists()
    assert second == 0, (tmp_path / "second.log").read_text()[-2000:]
    assert sorted(found) == sorted(stage.expected)
    assert set(found.values()) == {1}


def test_full_object_store(record: Record, tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    stage = Score(tmp_path)
    fill = tmp_path / "fill.py"
    fill.write_text(FILL)
    # 80 MB of object store, and hardly more room to spill to.
    with RayCluster(tmp_path, n_workers=1, object_store_bytes=80_000_000, spill_bytes=120_000_000) as cluster:
        with (tmp_path / "fill.log").open("wb") as log:
            filler = subprocess.Popen(cluster.command([sys.executable, str(fill)]), env=cluster.environ(), stdout=log)
        try:
            wait_for(lambda: "full" in (tmp_path / "fill.log").read_text(), "the object store is full")
            full = cluster.driver(*stage.arguments, log=tmp_path / "first.log")
            try:
                full.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                pytest.fail("hangs on a full object store: " + (tmp_path / "first.log").read_text()[-2000:])
            finally:
                kill_driver(full)
            kept = rows_of(stage.output)
        finally:
            filler.send_signal(signal.SIGTERM)
            kill_driver(filler)
        said = (tmp_path / "first.log").read_text()
        again = cluster.driver(*stage.arguments, log=tmp_path / "second.log")
        try:
            again.wait(PATIENCE_S)
        finally:
            kill_driver(again)
    found = rows_of(stage.output)
    record(
        "score",
        "object_store_full",
        rows_expected=len(stage.expected),
        rows_once=sum(count == 1 for count in found.values()),
        rows_missing=len(set(stage.expected) - set(found)),
        rows_twice=sum(count > 1 for count in found.values()),
        resumed_from=sum(kept.values()),
        exit_code=full.returncode,
    )
    # Either it needs none of the store, or it says in a sentence that there is no room.
    assert full.returncode == 0 or "run again to finish" in said, said[-2000:]
    assert again.returncode == 0, (tmp_path / "second.log").read_text()[-2000:]
    stage.check()
