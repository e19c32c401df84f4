"""A full disk: one sentence, nothing half-written taken as done, and the rest after making room."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from nodes import REPOSITORY, Record, unavailable
from test_batch_faults import STAGES, rows_of

from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

# Room for the first few shards (and for the model, which is copied beside them), and for all of them.
MODEL_BYTES = sum(file.stat().st_size for file in released_model().iterdir())
FIRST, THEN = {"score": MODEL_BYTES + 150_000, "simulate": 96_000}, "64m"


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
