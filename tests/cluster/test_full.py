"""A full disk, a full object store: one sentence, nothing half-written taken as done, the rest after making room."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
import yaml
from support.nodes import REPOSITORY, Record, unavailable
from test_batch_faults import STAGES, rows_of
from test_ray_jobs import SMALL

from defectnet.io.tables import read_spectra, write_table
from defectnet.model.artifact import load_artifact
from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

# Room for the first few shards (and for the model, which is copied beside them), and for all of them.
MODEL_BYTES = sum(file.stat().st_size for file in released_model().iterdir())
FIRST, THEN = {"prepare": 160_000, "score": MODEL_BYTES + 150_000, "simulate": 96_000}, "64m"


def run_in_namespace(script: str, arguments: list[str], *options: str) -> None:
    """Run a shell script where its mounts and processes end with it, `defectnet ARGUMENTS` as its parameters."""
    code = "from defectnet.cli.main import main; main()"
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *options]
    command += ["bash", "-c", textwrap.dedent(script), "run", sys.executable, "-c", code, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"PYTHONPATH": str(REPOSITORY)}
    quiet = subprocess.DEVNULL  # what outlives the script must not hold the pipes of the tests
    subprocess.run(command, env=environment, check=True, timeout=900, stdin=quiet, stdout=quiet, stderr=quiet)


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
    run_in_namespace(script.format(first=FIRST[name], then=THEN, out=stage.output, folder=tmp_path), stage.arguments)
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


# Fills the object store and, through it, the disk that it spills to; holds on until it is killed.
HOG = """
import pathlib, sys, time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
held = []
for size in (4_000_000, 400_000, 40_000):
    while True:
        try:
            held.append(ray.put(bytes(size)))
        except ray.exceptions.RayError:
            break
pathlib.Path(sys.argv[1]).touch()
time.sleep(3600)
"""
STORE_BYTES = 80_000_000


def train_arguments(folder: Path) -> list[str]:
    """`defectnet train`, small but by Ray's workers; it keeps its spectra in the object store."""
    table = read_spectra(REPOSITORY / "data")
    write_table(table.filter(pc.is_null(table["error"])).slice(0, 400), folder / "spectra.parquet")
    (folder / "train.yaml").write_text(yaml.safe_dump({"network": SMALL, "epochs": 1, "workers": 1}))
    paths = [str(folder / name) for name in ("spectra.parquet", "train.yaml", "out")]
    return ["train", paths[0], "--config", paths[1], "--output", paths[2]]


@pytest.mark.parametrize("name", [*sorted(STAGES), "train"])
def test_full_object_store(record: Record, tmp_path: Path, name: str) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    stage: Any = STAGES[name](tmp_path) if name in STAGES else None
    (tmp_path / "hog.py").write_text(HOG)
    for folder in ("ray", "spill", "out"):
        (tmp_path / folder).mkdir()
    # A Ray of its own, on a network of its own, whose store and disk another user of the cluster fills and leaves.
    script = """
        mount --bind {folder}/ray /tmp/ray && ip link set lo up || exit 9
        mount -t tmpfs -o size=48m tmpfs {folder}/spill && mount -t tmpfs -o size={shm} tmpfs /dev/shm || exit 9
        {python} -m ray.scripts.scripts start --head --num-cpus=3 --object-store-memory={store} --disable-usage-stats \
            --include-dashboard=false --node-ip-address=127.0.0.1 --object-spilling-directory={folder}/spill || exit 9
        export RAY_ADDRESS=auto MLFLOW_TRACKING_URI=sqlite:///{folder}/mlflow.db
        {python} {folder}/hog.py {folder}/full & hog=$!
        until [ -e {folder}/full ]; do sleep 0.2; done
        timeout 200 "$@" > {folder}/first.out 2> {folder}/first.log; echo $? > {folder}/first.code
        cp -r {folder}/out {folder}/after-first
        kill -9 $hog; wait $hog
        timeout 400 "$@" > {folder}/second.out 2> {folder}/second.log; echo $? > {folder}/second.code
    """
    Path("/tmp/ray").mkdir(exist_ok=True)
    values = {"folder": tmp_path, "python": sys.executable, "store": STORE_BYTES, "shm": 2 * STORE_BYTES}
    run_in_namespace(script.format(**values), stage.arguments if stage else train_arguments(tmp_path), "--net")
    said = (tmp_path / "first.log").read_text()
    first, second = (int((tmp_path / f"{which}.code").read_text()) for which in ("first", "second"))
    before, found = rows_of(tmp_path / "after-first"), rows_of(tmp_path / "out")
    expected = stage.expected if stage else []  # training has no rows to lose
    record(
        name,
        "object_store_full",
        rows_expected=len(expected),
        rows_once=sum(count == 1 for count in found.values()),
        rows_missing=len(set(expected) - set(found)),
        rows_twice=sum(count > 1 for count in found.values()),
        resumed_from=sum(before.values()),
        exit_code=first,
        one_sentence="object store" in said and "Traceback" not in said,
    )
    assert first == 1, said[-2000:]
    assert "object store" in said
    assert "Traceback" not in said
    assert second == 0, (tmp_path / "second.log").read_text()[-2000:]
    assert not (tmp_path / "after-first" / "_manifest.json").exists()
    assert sorted(found) == sorted(expected)
    assert set(found.values()) <= {1}
    if stage is None:
        assert not (tmp_path / "after-first" / "model").exists()
        load_artifact(tmp_path / "out" / "model")
