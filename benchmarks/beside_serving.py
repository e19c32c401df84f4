"""What two large batches do to the service on the same machine: its latency with and without them.

One local Ray runs the service and two `defectnet score` at once, as on a cluster that is too small for both. The
batches run with the niceness of `ScoreSettings`, and once without, to show what that is for.

    make bench-beside
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import yaml
from score import REPOSITORY, make_spectra, runs_folder
from writing import write_result

from defectnet.io.ray_session import ray_session
from defectnet.released import released_model
from serving.local import running_service
from serving.settings import Replicas, ScoreSettings, ServiceSettings

CLIENTS, PAUSE_S = 2, 0.05
DEFAULT = ScoreSettings().niceness


def main() -> None:
    """Measure, print, and write `results/beside_serving.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each batch")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    arguments = parser.parse_args()
    result: dict[str, object] = {"rows_of_each_batch": arguments.rows, "batches": 2, "clients": CLIENTS}
    # Ray's own proxy: HAProxy's settings would have to be there before Ray starts, and Ray starts here with more cores.
    settings = ServiceSettings(model=str(released_model()), port=0, proxy="python", replicas=Replicas(cpus=0.5))
    with tempfile.TemporaryDirectory(dir=runs_folder()) as folder, ray_session(6), running_service(settings) as url:
        import ray

        make_spectra(Path(folder) / "in", arguments.rows)
        address = ray.get_runtime_context().gcs_address
        result["alone"] = measure(url, arguments.seconds)
        for niceness in (DEFAULT, 0):
            processes = [start(Path(folder), f"{niceness}-{number}", niceness, address) for number in range(2)]
            try:
                outputs = [Path(folder) / f"{niceness}-{number}" for number in range(2)]
                while not all(list(output.glob("part-*.parquet")) for output in outputs):
                    assert all(process.poll() is None for process in processes), "a batch failed"
                    time.sleep(1.0)
                name = f"beside_niceness_{niceness}"
                result[name] = measure(url, arguments.seconds)
                print(name, result[name], flush=True)  # noqa: T201
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
    write_result("beside_serving", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def start(folder: Path, name: str, niceness: int, address: str) -> "subprocess.Popen[bytes]":
    """Start a batch on the Ray at `address`."""
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({"workers": 2, "niceness": niceness, "shard_rows": 512}), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "defectnet",
        "score",
        str(folder / "in"),
        str(folder / name),
        "--config",
        str(config),
    ]
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([*command, "--model", str(released_model())], env=environment)


def measure(url: str, seconds: float) -> dict[str, float]:
    """Ask for `seconds`, a few clients with short pauses; latencies in ms."""
    frequency = [0.1 * index for index in range(1, 151)]
    spectrum = {"id": "a", "host": "Si", "unit": "THz", "frequency": frequency, "dos": [1.0] * 150}
    taken: list[float] = []
    failed: list[str] = []
    until = time.monotonic() + seconds

    def ask() -> None:
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            while time.monotonic() < until:
                begun = time.perf_counter()
                answer = client.post(f"{url}/v1/predict", json={"spectra": [spectrum]})
                taken.append(1000.0 * (time.perf_counter() - begun))
                if answer.status_code != httpx.codes.OK:
                    failed.append(answer.text)
                time.sleep(PAUSE_S)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99 = np.percentile(taken, [50, 99])
    return {"requests": len(taken), "failed": len(failed), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}


if __name__ == "__main__":
    main()
