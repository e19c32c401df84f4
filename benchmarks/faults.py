"""What a steady stream of requests notices of faults: nothing may fail, nothing may be answered wrongly.

The service runs as users run it, behind HAProxy, with two replicas of the model, on an MLflow server of its own. Six
clients ask in a process apart and compare every answer with what the version that it names must say. A client sends a
request again only where the connection itself died, and counts it.

    make bench-faults
"""

import json
import multiprocessing as mp
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from asked_service import Store, processes, save, service, two_versions
from writing import write_result

from defectnet.released import released_model

CLIENTS = 6
# Between two requests of a client: some 60 requests/s in all, a third of what the machine can do.
PAUSE_S = 0.05
# Load before a fault, and after the service is whole again.
BEFORE_S, AFTER_S = 3.0, 6.0
RECOVERED_WITHIN_S = 90.0
LIVE_WITHIN_S = 10.0
# So many, and so many of them in each turn: a single turn says little on a machine whose pace moves by a third.
PROMOTIONS, AT_ONCE = 40, 2
# How long the pace without promotions is measured.
STEADY_S = 5.0
# How often it is looked whether something is so.
LOOK_EVERY_S = 0.1
# A client whose connection died tries for this long.
PATIENCE_S = 60.0
TOLERANCE = 1e-4


def main() -> None:
    """Cause each fault, print what came of it, and write `results/faults.json`."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    write_result("faults", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def measure(folder: Path) -> dict[str, Any]:
    """All faults, one after another."""
    with two_versions(folder) as (store, versions, item, expected):
        result = {}
        for replicas, faults in (("two", _FAULTS), ("auto", _SCALING)):
            wanted = {name: fault for name, fault in faults.items() if name in (sys.argv[1:] or faults)}
            if not wanted:
                continue
            with service(store.uri, replicas, folder / "service.log") as (url, process):
                run = Run(url, process, store, versions, item, expected)
                for name, fault in wanted.items():
                    result[name] = run.under_load(partial(fault, run, folder))
        return result


class Run:
    """A running service under load, and what can befall it."""

    def __init__(
        self,
        url: str,
        process: subprocess.Popen[bytes],
        store: "Store",
        versions: list[str],
        item: dict[str, Any],
        expected: dict[str, Any],
    ) -> None:
        self.url, self.process, self.store = url, process, store
        # One client for all looks: making one takes as long as several answers of the service.
        self._client = httpx.Client(base_url=url, timeout=10.0, trust_env=False)
        self.versions, self.item, self.expected = versions, item, expected

    def under_load(self, fault: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Cause a fault under load; what was sent, what failed, and what the fault itself reports."""
        context = mp.get_context("spawn")
        results: Any = context.Queue()
        stop = context.Event()
        load = context.Process(target=keep_asking, args=(self.url, self.item, self.expected, stop, results))
        load.start()
        results.get(timeout=60)  # its first answer
        time.sleep(BEFORE_S)
        try:
            told = fault()
            time.sleep(AFTER_S)
        finally:
            stop.set()
        counts: dict[str, Any] = results.get(timeout=PATIENCE_S + 60)
        load.join()
        print(json.dumps({**counts, **told}), flush=True)  # noqa: T201
        return {**counts, **told}

    def killed(self, name: str, *, every: bool = False) -> dict[str, Any]:
        """SIGKILL a process of the service, or every one of that name, and wait until another has taken its place."""
        before = processes(self.process.pid, name)
        if not before:
            raise SystemExit(f"the service has no process {name}")
        victims = before if every else before[:1]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        begun, wanted = time.monotonic(), 1 if every else len(before)
        while (
            len(now := processes(self.process.pid, name)) < wanted or not set(victims).isdisjoint(now)
        ) or not self.ready():
            if time.monotonic() > begun + RECOVERED_WITHIN_S:
                return {"recovered_after_s": None}
            time.sleep(0.2)
        return {"recovered_after_s": round(time.monotonic() - begun, 1)}

    def promotions(self) -> dict[str, Any]:
        """Promotions and rollbacks in turn under full load; seconds until every replica has followed, requests/s.

        In turns with as much time without any, as a machine changes its pace; the service is looked at as often then.
        """
        seconds: list[float] = []
        steady, meanwhile = [], []
        for _ in range(PROMOTIONS // AT_ONCE):
            steady.append(self.crowded(lambda: self.look_on(STEADY_S)))
            meanwhile.append(self.crowded(lambda: self.promote_in_turn(seconds)))
        return {
            "promotions": len(seconds),
            "live_within_s": round(max(seconds), 1),
            "requests_per_s_steady": round(float(np.median(steady)), 1),
            "requests_per_s_meanwhile": round(float(np.median(meanwhile)), 1),
            "share_of_steady": round(float(np.median(np.array(meanwhile) / steady)), 3),
            "share_by_turn": [round(one / other, 2) for one, other in zip(meanwhile, steady, strict=True)],
        }

    def promote_in_turn(self, seconds: list[float]) -> None:
        """Some promotions and rollbacks, each one after the other; adds how long each took."""
        for _ in range(AT_ONCE):
            version = self.versions[(len(seconds) + 1) % 2]
            self.store.promote(version)
            seconds.append(self.until(lambda v=version: self.live() == {v}, LIVE_WITHIN_S))  # type: ignore[misc]

    def look_on(self, seconds: float) -> None:
        """Look at the model for a while as `promote_in_turn` does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.live()
            time.sleep(LOOK_EVERY_S)

    def crowded(self, meanwhile: Callable[[], None]) -> float:
        """Requests/s of a crowd that asks without a pause while something goes on."""
        with self.crowd() as counts:
            begun = time.monotonic()
            meanwhile()
            seconds = time.monotonic() - begun
        if counts["failed"] or counts["wrong"]:
            raise SystemExit(f"of a crowd's requests some failed or were answered wrongly: {counts}")
        return counts["sent"] / seconds

    @contextmanager
    def crowd(self) -> Iterator[dict[str, int]]:
        """A crowd that asks without a pause; what came of its requests is filled in when it has gone."""
        context = mp.get_context("spawn")
        more: Any = context.Queue()
        stop = context.Event()
        counts: dict[str, int] = {}
        asking = context.Process(target=keep_asking, args=(self.url, self.item, self.expected, stop, more, 0.0))
        asking.start()
        try:
            more.get(timeout=60)
            yield counts
        finally:
            stop.set()
        counts |= more.get(timeout=PATIENCE_S + 60)
        asking.join()

    def broken(self, folder: Path) -> dict[str, Any]:
        """Force the alias onto a version whose weights were altered, and back."""
        good = self.live()
        save(released_model(), folder)
        weights = bytearray((folder / "weights.safetensors").read_bytes())
        weights[-1] ^= 1
        (folder / "weights.safetensors").write_bytes(weights)
        self.store.promote(self.store.register(folder))
        said_after = self.until(lambda: bool(self.model()["problem"]), LIVE_WITHIN_S)
        problem, metrics = self.model()["problem"], self.get("/metrics").text
        kept = self.live() == good
        self.store.promote(self.versions[0])
        self.until(lambda: self.model()["problem"] is None, LIVE_WITHIN_S)
        gauge = [line for line in metrics.splitlines() if line.startswith("defectnet_model_problem{")]
        told = any(line.endswith(" 1.0") for line in gauge)
        return {"said_after_s": round(said_after, 1), "problem": problem, "kept_old": kept, "in_metrics": told}

    def registry_down(self) -> dict[str, Any]:
        """SIGKILL the MLflow server, leave it dead for a while, start it again."""
        self.store.stop(signal.SIGKILL)
        said_after = self.until(lambda: bool(self.model()["problem"]), 60.0)
        time.sleep(5.0)
        self.store.start()
        self.until(lambda: self.model()["problem"] is None, 60.0)
        return {"said_after_s": round(said_after, 1)}

    def scaled(self) -> dict[str, Any]:
        """More load makes a second replica start; when it is over, the second one goes."""
        with self.crowd() as counts:
            up_s = self.until(lambda: len(self.model()["replicas"]) == 2, 120.0)
            time.sleep(AFTER_S)
        down_s = self.until(lambda: len(self.model()["replicas"]) == 1, 120.0)
        return {"crowd": counts, "second_after_s": round(up_s, 1), "one_again_after_s": round(down_s, 1)}

    def ready(self) -> bool:
        try:
            return self.get("/v2/health/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)

    def model(self) -> dict[str, Any]:
        answer = self.get("/v1/model")
        if answer.status_code != httpx.codes.OK:  # for a moment, while a fault is being repaired
            return {"problem": None, "replicas": []}
        described: dict[str, Any] = answer.json()
        return described

    def live(self) -> set[str]:
        return {replica["version"] for replica in self.model()["replicas"]}

    def until(self, reached: Callable[[], bool], limit_s: float) -> float:
        """Seconds until something is so; the program ends where it never is."""
        begun = time.monotonic()
        while not reached():
            if time.monotonic() > begun + limit_s:
                raise SystemExit(f"not reached within {limit_s} s; /v1/model says {self.model()}")
            time.sleep(LOOK_EVERY_S)
        return time.monotonic() - begun


_FAULTS: dict[str, Callable[[Run, Path], dict[str, Any]]] = {
    "replica_sigkill": lambda run, _: run.killed("ray::ServeReplica:defectnet:model"),
    # After a reload the former proxy stays beside the new one until its clients have gone.
    "proxy_sigkill": lambda run, _: run.killed("haproxy", every=True),
    "proxy_actor_sigkill": lambda run, _: run.killed("ray::HAProxyManager"),
    "controller_sigkill": lambda run, _: run.killed("ray::ServeController"),
    "promotions": lambda run, _: run.promotions(),
    "broken_artifact": lambda run, folder: run.broken(folder / "broken"),
    "registry_down": lambda run, _: run.registry_down(),
}
_SCALING: dict[str, Callable[[Run, Path], dict[str, Any]]] = {"scale_1_2_1": lambda run, _: run.scaled()}


# ── the load ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def keep_asking(
    url: str, item: dict[str, Any], expected: dict[str, Any], stop: Any, results: Any, pause_s: float = PAUSE_S
) -> None:
    """Ask until told to stop; puts the counts into `results`, after a sign of life."""
    counts = {"sent": 0, "failed": 0, "wrong": 0, "client_retries": 0}
    lock = threading.Lock()
    body = json.dumps({"spectra": [item]}).encode()

    def count(name: str) -> None:
        with lock:
            counts[name] += 1

    def ask() -> None:
        client = httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False)
        while not stop.is_set():
            count("sent")
            deadline = time.monotonic() + PATIENCE_S
            while True:
                try:
                    answer = client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
                except httpx.TransportError:  # the connection died, and no answer came
                    if time.monotonic() > deadline:
                        count("failed")
                        break
                    count("client_retries")
                    time.sleep(0.2)
                    continue
                if answer.status_code != httpx.codes.OK:
                    count("failed")
                elif not right(answer.json()["predictions"][0], expected):
                    count("wrong")
                break
            time.sleep(pause_s)

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    results.put("asking")
    for client in clients:
        client.join()
    results.put(counts)


def right(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether an answer is what the version that it names says of this spectrum."""
    wanted = expected.get(answer["model_version"])
    if wanted is None or len(answer["elements"]) != len(wanted):
        return False
    return all(
        abs(verdict["probability"] - wanted.get(verdict["element"], -1.0)) < TOLERANCE for verdict in answer["elements"]
    )


if __name__ == "__main__":
    main()
