"""Clients that know of no retries, while nodes of the cluster die, the head among them: none of them notices.

The service has two replicas on two nodes and a proxy on each; what the head knows is kept in Redis or Valkey. A client
asks the proxy of a node that lives, as behind a load balancer, on a connection of its own for each request.
"""

import hashlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.nodes import Node, RayCluster, Record, proxy_variables, store_binary, unavailable, wait_for

from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

TOKEN = "a token of the tests"
PORT = 8000
CLIENTS = 4
BEFORE_S, AFTER_S = 5.0, 15.0
# How long the cluster is without a head.
HEADLESS_S = 20.0
# A client of an instrument gives up after so long.
CLIENT_TIMEOUT_S = 60.0
BODY = json.dumps(
    {"spectra": [{"host": "Si", "unit": "THz", "frequency": [0.1 * i for i in range(1, 151)], "dos": [1.0] * 150}]}
).encode()

_DEPLOY = """
import ray
from ray import serve
from serving.app import APPLICATION, build
from serving.settings import ServiceSettings

ray.init(logging_level=50)
serve.start(proxy_location="EveryNode", http_options={{"host": "0.0.0.0", "port": {port}, "request_timeout_s": 60}})
settings = ServiceSettings(**{settings!r})
serve.run(build(settings), name=APPLICATION, route_prefix="/")
"""


def ask(address: str) -> str:
    """One plain request; "good", or what was wrong."""
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    try:
        with closing(http.client.HTTPConnection(address, PORT, timeout=CLIENT_TIMEOUT_S)) as connection:
            connection.request("POST", "/v1/predict", body=BODY, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    if answer.status != 200:
        return f"{answer.status} {text[:80]!r}"
    (prediction,) = json.loads(text)["predictions"]
    return "good" if prediction["error"] is None else str(prediction["error"])


class PlainLoad:
    """Clients that ask without a pause; a context manager. `address` may be changed meanwhile."""

    def __init__(self, address: str) -> None:
        self.address, self._stopped = address, threading.Event()
        self.said: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def _ask(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            self.said[ask(self.address)] += 1
            self.seconds.append(time.monotonic() - begun)

    def __enter__(self) -> "PlainLoad":
        for thread in self._threads:
            thread.start()
        time.sleep(BEFORE_S)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(AFTER_S)
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def figures(self) -> dict[str, Any]:
        sent = self.said.total()
        failures = {said: count for said, count in self.said.items() if said != "good"}
        return {
            "sent": sent,
            "failed": sum(failures.values()),
            "slowest_s": round(max(self.seconds), 2),
            "median_s": round(sorted(self.seconds)[sent // 2], 3),
            "failures": failures,
        }


@pytest.fixture(scope="module")
def lasting_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A cluster of which the head may die."""
    if reason := unavailable():
        pytest.skip(reason)
    if store_binary() is None:
        pytest.skip("needs Redis or Valkey (apt install redis-server)")
    folder = tmp_path_factory.mktemp("lasting")
    with RayCluster(folder, environment=proxy_variables(), lasting=True) as started:
        yield started


@pytest.fixture(scope="module")
def service(lasting_cluster: RayCluster) -> RayCluster:
    """The same, with the service on both workers."""
    settings = {
        "model": str(released_model()),
        "replicas": {"minimum": 2, "maximum": 2, "cpus": 2.0},  # a node has two: one replica a node
        "tokens": {"test": hashlib.sha256(TOKEN.encode()).hexdigest()},
        "host": "0.0.0.0",
    }
    lasting_cluster.run(_DEPLOY.format(port=PORT, settings=settings))
    _whole(lasting_cluster)
    return lasting_cluster


def _whole(cluster: RayCluster) -> None:
    def all_there() -> bool:
        cluster.revive()  # a node that the head has taken for dead ends itself once it hears of that
        return cluster.alive() == len(cluster.nodes)

    wait_for(all_there, "all nodes are there")
    for node in cluster.workers:
        wait_for(lambda node=node: node.workers("ServeReplica"), f"{node.namespace} has a replica")
        wait_for(lambda node=node: ask(node.address) == "good", f"the proxy of {node.namespace} answers")
    time.sleep(5)  # each proxy is told of the other's replica


def _restart(cluster: RayCluster, node: Node) -> None:
    node.kill()
    cluster.start(node)
    _whole(cluster)


def test_the_head_dies_and_comes_back(service: RayCluster, record: Record) -> None:
    before = {pid for node in service.workers for pid in node.workers("ServeReplica")}
    with PlainLoad(service.workers[0].address) as load:
        service.head.kill()
        time.sleep(HEADLESS_S)
        answered_headless = load.said["good"]
        service.start(service.head)
        wait_for(lambda: service.alive() == len(service.nodes), "the head is back, and knows its nodes")
    figures = load.figures()
    kept = before == {pid for node in service.workers for pid in node.workers("ServeReplica")}
    record("head_killed", **figures, answered_headless=answered_headless, replicas_kept=kept)
    assert answered_headless > 0
    assert figures["failed"] == 0
    assert kept, "the controller took up the replicas that were there"


@pytest.mark.parametrize("fault", ["node_cut", "node_killed"])
def test_a_node_falls_silent_or_dies(service: RayCluster, record: Record, fault: str) -> None:
    other, node = service.workers
    with PlainLoad(other.address) as load:
        if fault == "node_cut":
            node.cut_for()
        else:
            node.kill()
    figures = load.figures()
    record(fault, **figures)
    if fault == "node_killed":
        service.start(node)
    _whole(service)
    assert figures["failed"] == 0


def test_every_node_is_restarted_in_turn(service: RayCluster, record: Record) -> None:
    with PlainLoad(service.workers[1].address) as load:
        _restart(service, service.head)
        _restart(service, service.workers[0])
        load.address = service.workers[0].address  # the load balancer drains a node before it is restarted
        time.sleep(CLIENT_TIMEOUT_S / 10)
        _restart(service, service.workers[1])
    figures = load.figures()
    record("rolling_restart", **figures)
    assert figures["failed"] == 0
