"""The model of a fleet (`make capacity-fleet`) beside three real nodes under the same step of the load.

A replica is the project's own batcher around a computation that only waits, so that ten of them are ten times as
fast as one whatever the machine's cores; Serve, its proxies and its autoscaling are the real ones.
"""

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from support.nodes import REPOSITORY, RayCluster, Record, proxy_variables, unavailable, wait_for

sys.path.append(str(REPOSITORY / "benchmarks"))

from fleet import STEP_S, Replica, follow, policy

from serving.settings import ServiceSettings

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

PORT, APPLICATION = 8000, "paced"
# A batch of n requests takes 0.2 s and n times as long again; eight make one, and eight batches may wait.
PACED, MOST_WAITING = Replica(first_s=0.2, each_s=0.2, most=8), 64
SCALING = {"min_replicas": 1, "max_replicas": 10, "upscale_delay_s": 10.0, "downscale_delay_s": 60.0}
# The service's own, and a batch's worth, with which Serve takes too many away.
TARGETS = (ServiceSettings().replicas.target_ongoing_requests, float(PACED.most))
# The load: 60 % of what one replica can do, ten times as much, and the first again, each for so many seconds.
LOAD = ((0.6, 40.0), (6.0, 150.0), (0.6, 120.0))
CLIENT_TIMEOUT_S = 60.0

_DEPLOY = """
import time
import ray
from fastapi import FastAPI, HTTPException
from ray import serve
from defectnet.errors import BusyError
from serving.micro_batching import Batcher

api = FastAPI()

def paced(items):
    time.sleep({first_s} + len(items) * {each_s})
    return items

@serve.deployment(
    name="paced", max_ongoing_requests=1000, autoscaling_config={scaling!r}, ray_actor_options={{"num_cpus": 0.2}}
)
@serve.ingress(api)
class Paced:
    def __init__(self):
        self._batcher = Batcher(paced, {most}, max_waiting={most_waiting}, inline_s=0.0)

    @api.get("/")
    async def answer(self) -> int:
        try:
            (got,) = await self._batcher.submit([1])
        except BusyError:
            raise HTTPException(503)
        return got

ray.init(logging_level=50)
serve.start(proxy_location="EveryNode", http_options={{"host": "0.0.0.0", "port": {port}, "request_timeout_s": 60}})
serve.run(Paced.bind(), name={application!r}, route_prefix="/")
"""


@pytest.fixture(scope="module")
def paced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head and three workers."""
    if reason := unavailable():
        pytest.skip(reason)
    with RayCluster(tmp_path_factory.mktemp("fleet"), n_workers=3, environment=proxy_variables()) as cluster:
        yield cluster


def _deploy(cluster: RayCluster, scaling: dict[str, float]) -> None:
    """Serve paced replicas, one at first."""
    values = {"first_s": PACED.first_s, "each_s": PACED.each_s, "most": PACED.most, "scaling": scaling}
    cluster.run(_DEPLOY.format(**values, most_waiting=MOST_WAITING, port=PORT, application=APPLICATION))
    # The head's proxy is always there; a worker has one while it has a replica.
    wait_for(lambda: _answers(cluster.head.address), "the head's proxy answers")
    wait_for(lambda: _states(cluster) == {"RUNNING": 1}, "there is one replica")


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}:{PORT}/", timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _states(cluster: RayCluster) -> Counter[str]:
    """How many replicas are in which state; empty where that cannot be told."""
    url = f"http://{cluster.head.address}:8265/api/serve/applications/"
    try:
        told = httpx.get(url, timeout=10, trust_env=False).json()
        replicas = told["applications"][APPLICATION]["deployments"]["paced"]["replicas"]
    except (httpx.HTTPError, KeyError, ValueError):
        return Counter()
    return Counter(replica["state"] for replica in replicas)


class _Watch(threading.Thread):
    """Takes down how many replicas there are, and how many of them answer; a context manager."""

    def __init__(self, cluster: RayCluster) -> None:
        super().__init__(daemon=True)
        self._cluster, self._stopped = cluster, threading.Event()
        self.seen: list[tuple[float, int, int]] = []

    def run(self) -> None:
        while not self._stopped.wait(0.5):
            if states := _states(self._cluster):
                self.seen.append((time.monotonic(), states["RUNNING"] + states["STARTING"], states["RUNNING"]))

    def __enter__(self) -> "_Watch":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()


async def _ask(rates: list[float], address: str) -> list[tuple[float, float, int]]:
    """Requests at random times, whatever becomes of those before: when each was sent, what it took, and its status."""
    random, said, begun = np.random.default_rng(0), [], time.monotonic()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_S, limits=limits, trust_env=False) as client:

        async def one() -> None:
            sent = time.monotonic()
            answer = await client.get(f"http://{address}:{PORT}/")
            said.append((sent, time.monotonic() - sent, answer.status_code))

        async with asyncio.TaskGroup() as group:
            for step, rate in enumerate(rates):
                for place in np.sort(random.random(random.poisson(rate * STEP_S))):
                    await asyncio.sleep(max(0.0, begun + (step + place) * STEP_S - time.monotonic()))
                    group.create_task(one())
    return said


def _figures(after: np.ndarray, replicas: np.ndarray, refused: np.ndarray, sent: int) -> dict[str, Any]:
    """How a load was followed.

    Args:
        after, replicas: seconds since the step up, and how many replicas answer then.
        refused: seconds since the step up of each refused request.
        sent: requests.
    """
    most = int(replicas.max())
    return {
        "sent": sent,
        "refused_share": round(refused.size / sent, 3),
        "seconds_until_more": round(float(after[np.argmax(replicas > replicas[0])]), 1),
        "seconds_until_most": round(float(after[np.argmax(replicas == most)]), 1),
        "replicas_most": most,
        "seconds_until_none_refused": round(float(refused.max(initial=0.0)), 1),
        "replicas_every_20_s": [int(replicas[np.searchsorted(after, at)]) for at in range(0, 260, 20)],
    }


@pytest.mark.parametrize("target", TARGETS)
def test_the_model_of_a_fleet_beside_three_nodes(paced: RayCluster, record: Record, target: float):
    scaling = SCALING | {"target_ongoing_requests": target}
    _deploy(paced, scaling)
    rates = np.concatenate([np.full(round(s / STEP_S), share * PACED.most_per_s) for share, s in LOAD])
    begun = time.monotonic()
    with _Watch(paced) as watch:
        said = asyncio.run(_ask(rates.tolist(), paced.head.address))
    up = begun + LOAD[0][1]
    at, wanted, running = np.array(watch.seen).T
    assert Counter(status for *_, status in said).keys() <= {200, 503}
    refused = np.array([sent - up for sent, _, status in said if status == 503])
    measured = _figures(at - up, running, refused, len(said))
    # What starting takes is the machine's own affair, and given to the model: between wanted and answering.
    starting = [at[np.argmax(running >= n)] - at[np.argmax(wanted >= n)] for n in range(2, int(running.max()) + 1)]
    start_s = float(np.median(starting))
    told = follow(rates, PACED, policy(target).model_copy(update=scaling), start_s, MOST_WAITING)
    times = np.arange(len(rates)) * STEP_S - LOAD[0][1]
    model = _figures(times, told.replicas, np.repeat(times, told.refused), round(told.refused.sum() + told.answered))
    record("fleet", f"target_{target:g}", measured=measured, model=model, start_s=round(start_s, 1))
    assert abs(measured["seconds_until_more"] - model["seconds_until_more"]) < 15
    assert abs(measured["refused_share"] - model["refused_share"]) < 0.1
    assert abs(measured["replicas_most"] - model["replicas_most"]) <= 2
