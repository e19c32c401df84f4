"""Half an hour of everything at once: steady load, promotions, killed replicas, batches; is anything wrong, lost, kept?

The service runs as in `faults.py`, with two replicas on an MLflow server of its own. Clients of this project
(`defectnet.client`) ask at 70 % of what the service can do, measured just before; every minute another version is
promoted and the younger replica is killed, and one batch after another is scored beside. The memory is that of the
service's processes that live from the first minute to the end: the slope of their sum, beside its standard error.

    make soak                            half an hour; MINUTES=10 for a short one
"""

import argparse
import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from asked_service import HERE, NAME, READY_WITHIN_S, processes, service, two_versions
from faults import Run, right
from writing import say, write_result

from defectnet.client import Client
from defectnet.errors import DefectNetError

CLIENTS = 6
LOAD = 0.7
# The service's own pace is measured for so long, after so long.
PACE_S, WARM_UP_S = 15.0, 5.0
EVERY_S = 60.0
SAMPLE_S = 5.0
_LEAST_MINUTES = 2
# Of a batch that failed so many of its last characters are written down.
_TOLD = 600
REPLICA = "ray::ServeReplica:defectnet:model"


def main() -> None:
    """Run, print, and write `results/soak.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    minutes = parser.parse_args().minutes
    if minutes < _LEAST_MINUTES:
        parser.error(f"{minutes:g} minutes are too short for a slope of the memory; give {_LEAST_MINUTES} or more")
    with tempfile.TemporaryDirectory() as folder:
        result = soak(Path(folder), 60.0 * minutes)
    write_result("soak", result)
    say(json.dumps(result, indent=1))


def soak(folder: Path, seconds: float) -> dict[str, Any]:
    """Everything at once for so long."""
    with (
        two_versions(folder) as (store, versions, item, expected),
        service(store.uri, "two", folder / "service.log") as (url, process),
    ):
        run = Run(url, process, store, versions, item, expected)
        _ask(run, WARM_UP_S, 0.0)
        pace = _ask(run, PACE_S, 0.0)["sent"] / PACE_S
        wanted = LOAD * pace
        context = mp.get_context("spawn")
        results: Any = context.Queue()
        arguments = (run.url, item, expected, seconds, CLIENTS / wanted, results)
        load = context.Process(target=keep_asking, args=arguments)
        load.start()
        told = _disturb(run, folder, seconds)
        counts: dict[str, Any] = results.get(timeout=seconds + READY_WITHIN_S)
        load.join()
    return {
        **counts,
        **told,
        "seconds": seconds,
        "requests_per_s": round(counts["sent"] / seconds, 1),
        "pace_requests_per_s": round(pace, 1),
    }


def _ask(run: Run, seconds: float, every_s: float) -> dict[str, Any]:
    results: Any = mp.get_context("spawn").Queue()
    arguments = (run.url, run.item, run.expected, seconds, every_s, results)
    load = mp.get_context("spawn").Process(target=keep_asking, args=arguments)
    load.start()
    counts: dict[str, Any] = results.get(timeout=seconds + READY_WITHIN_S)
    load.join()
    return counts


def keep_asking(
    url: str, item: dict[str, Any], expected: dict[str, Any], seconds: float, every_s: float, results: Any
) -> None:
    """Ask for so long, each client every `every_s` seconds at most; puts the counts into `results`."""
    counts = {"sent": 0, "failed": 0, "wrong": 0, "client_retries": 0}
    failures: list[str] = []
    slowest = [0.0]
    lock = threading.Lock()
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        following = time.monotonic() + every_s * number / CLIENTS
        with Client(url) as client:
            while (begun := time.monotonic()) < end:
                if begun < following:
                    time.sleep(min(following - begun, end - begun))
                    continue
                following = max(following + every_s, begun - every_s)  # what was missed is not made up for in a rush
                try:
                    (answer,) = client.predict([item])
                    outcome = "good" if right(answer.to_dict(), expected) else "wrong"
                except DefectNetError as error:
                    outcome = "failed"
                    failures.append(str(error)[:200])
                with lock:
                    counts["sent"] += 1
                    slowest[0] = max(slowest[0], time.monotonic() - begun)
                    if outcome != "good":
                        counts[outcome] += 1
            with lock:
                counts["client_retries"] += client.retries

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    results.put({**counts, "slowest_s": round(slowest[0], 2), "failures": failures[:10]})


def _disturb(run: Run, folder: Path, seconds: float) -> dict[str, Any]:
    """Promote, kill and score in turn while others ask; what was done, and how the memory went."""
    end = time.monotonic() + seconds
    stopped = threading.Event()
    memory = _Memory(run.process.pid, stopped)
    memory.start()
    scored: list[int] = []
    failed: list[str] = []
    batches = threading.Thread(target=_score_on, args=(folder, run.store.uri, stopped, scored, failed))
    batches.start()
    promotions = kills = 0
    try:
        while time.monotonic() + EVERY_S < end:
            time.sleep(EVERY_S / 2)
            promotions += 1
            run.store.promote(run.versions[promotions % 2])
            time.sleep(EVERY_S / 2)
            replicas = processes(run.process.pid, REPLICA)
            if len(replicas) > 1:  # the elder one stays, to show what it keeps
                os.kill(replicas[-1], signal.SIGKILL)
                kills += 1
            left = (end - time.monotonic()) / 60
            say(f"{promotions} promotions, {kills} kills, {len(scored)} batches scored; {left:.0f} minutes left")
        time.sleep(max(0.0, end - time.monotonic()))
    finally:
        stopped.set()
        batches.join()
        memory.join()
    return {
        "promotions": promotions,
        "kills": kills,
        "batches": len(scored),
        "batches_failed": len(failed),
        "batch_failures": failed,
        "rows_scored": sum(scored),
        **memory.slope(),
    }


def _score_on(folder: Path, tracking_uri: str, stopped: threading.Event, scored: list[int], failed: list[str]) -> None:
    """Score the examples again and again, as `defectnet score` does, with a Ray of its own."""
    number = 0
    while not stopped.is_set():
        number += 1
        target = folder / f"batch-{number}"
        words = ["score", str(HERE.parent / "examples" / "batch.parquet"), str(target)]
        words += ["--model", f"models:/{NAME}@champion"]
        variables = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri}
        log = folder / f"batch-{number}.log"
        # A group of its own, so that its Ray goes with it where the time is over.
        with log.open("wb") as told:
            batch = subprocess.Popen(
                [sys.executable, "-m", "defectnet", *words],
                env=variables,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while batch.poll() is None and not stopped.wait(0.5):
            pass
        if batch.poll() is None:
            batch.send_signal(signal.SIGINT)
            try:
                batch.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(batch.pid, signal.SIGKILL)
            return
        if batch.returncode != 0:
            failed.append(f"rc {batch.returncode}: {log.read_text(errors='replace')[-_TOLD:]}")
            continue
        scored.append(int(json.loads((target / "_report.json").read_text())["rows"]))


class _Memory(threading.Thread):
    """Samples the resident memory of every process of the service."""

    def __init__(self, root: int, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self._root, self._stopped = root, stopped
        self._taken: list[tuple[float, dict[int, float]]] = []

    def run(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            found: dict[int, float] = {}
            for pid in processes(self._root, ""):
                with suppress(OSError):
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                    found[pid] = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
            self._taken.append((time.monotonic(), found))

    def slope(self) -> dict[str, Any]:
        """MB an hour of those that live all the time, after the first minute, and the slope's standard error."""
        late = [(at, found) for at, found in self._taken if at >= self._taken[0][0] + EVERY_S]
        lasting = set.intersection(*(set(found) for _, found in late))
        hours = np.array([at for at, _ in late]) / 3600.0
        total = np.array([sum(found[pid] for pid in lasting) for _, found in late])
        (slope, _), covariance = np.polyfit(hours, total, 1, cov=True)
        return {
            "rss_slope_mb_per_h": round(float(slope), 1),
            "rss_slope_error_mb_per_h": round(float(np.sqrt(covariance[0, 0])), 1),
            "rss_mb": {"first": round(float(total[0]), 1), "last": round(float(total[-1]), 1)},
            "processes": len(lasting),
        }


if __name__ == "__main__":
    main()
