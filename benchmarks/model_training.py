"""How many spectra a second one worker trains on, and two, and whether a killed run resumes to the same place.

On a fifth of the released dataset's shards, which is enough for both.

make bench-training
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import safetensors.torch
import torch
from writing import write_result

ROOT = Path(__file__).parents[1]
EPOCHS = 3


def main() -> None:
    """Measure, print, and write `results/model_training.json`."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db",
            "RAY_AUTH_MODE": "disabled",
            "OMP_NUM_THREADS": "1",
        }
        (scratch / "data").mkdir()
        for shard in sorted((ROOT / "data").glob("*.parquet"))[::5]:
            (scratch / "data" / shard.name).symlink_to(shard)
        rates = {workers: _rate(scratch / f"{workers}-workers", workers, environment) for workers in (1, 2)}
        whole = _command(scratch / "whole", 0)
        subprocess.run(whole, env=environment, check=True, cwd=ROOT)
        killed_after = _killed(scratch / "killed", environment)
        subprocess.run(_command(scratch / "killed", 0), env=environment, check=True, cwd=ROOT)
        one, other = (
            safetensors.torch.load_file(scratch / name / "model" / "weights.safetensors")
            for name in ("whole", "killed")
        )
        difference = max(float((one[name] - other[name]).abs().max()) for name in one)
        same = all(torch.equal(one[name], other[name]) for name in one)
    result = {
        "samples_per_second": {f"{workers} workers": round(rate, 1) for workers, rate in rates.items()},
        "cores": os.cpu_count(),
        "killed_in_epoch": killed_after + 1,
        "epochs": EPOCHS,
        "resumed_weights_are_equal": same,
        "largest_difference": difference,
    }
    write_result("model_training", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def _command(output: Path, workers: int) -> list[str]:
    arguments = ["train", str(output.parent / "data"), "--config", str(ROOT / "configs" / "model.yaml")]
    arguments += ["--epochs", str(EPOCHS), "--workers", str(workers), "--output", str(output)]
    return [sys.executable, "-m", "defectnet", *arguments]


def _rate(output: Path, workers: int, environment: dict[str, str]) -> float:
    """The best epoch's spectra a second: the first ones warm up."""
    subprocess.run(_command(output, workers), env=environment, check=True, cwd=ROOT)
    checkpoints = sorted(output.glob("checkpoints/**/progress.json"))
    history = json.loads(checkpoints[-1].read_text(encoding="utf-8"))["history"]
    return max(float(epoch["samples_per_second"]) for epoch in history)


def _killed(output: Path, environment: dict[str, str]) -> int:
    """Start a run, kill it without warning in the middle of its second epoch, and return the epochs it had finished."""
    progress = output / "local-checkpoint" / "progress.json"
    process = subprocess.Popen(_command(output, 0), env=environment, cwd=ROOT, start_new_session=True)
    while not progress.exists():
        if process.poll() is not None:
            raise RuntimeError("the run ended before it could be killed")
        time.sleep(0.05)
    time.sleep(0.5)  # an epoch takes some seconds
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return int(json.loads(progress.read_text(encoding="utf-8"))["epoch"])


if __name__ == "__main__":
    main()
