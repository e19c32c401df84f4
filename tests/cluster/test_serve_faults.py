"""The service, two replicas on two nodes and under load, while parts of the cluster die: failures are counted."""

import hashlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.mlflow_server import MlflowServer
from support.nodes import RayCluster, Record, kill_driver, wait_for

from defectnet.client import Client
from defectnet.errors import ServiceError
from defectnet.released import released_model

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

TOKEN = "a token of the tests"
CLIENTS = 4
# Under load before the fault, and after it, so that late consequences are seen.
BEFORE_S, AFTER_S = 5.0, 20.0
# Longer than the service's own limit: what fails, fails there.
CLIENT_TIMEOUT_S = 90.0
SPECTRUM = {"id": "one", "host": "Si", "unit": "THz", "frequency": [0.1 * i for i in range(1, 151)], "dos": [1.0] * 150}


class Load:
    """Some of the project's own clients that ask without a pause; a context manager.

    Attributes:
        said: counts what they were told: "good", or why they gave up.
        retries: requests that were sent again because an answer was cut off or said to come back.
        seconds: how long each took, retries included.
    """

    def __init__(self, url: str) -> None:
        self._url, self._stopped = url, threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        self.said: Counter[str] = Counter()
        self.retries = 0
        self.seconds: list[float] = []

    def _send(self) -> None:
        with Client(self._url, token=TOKEN, timeout_s=CLIENT_TIMEOUT_S) as client:
            while not self._stopped.is_set():
                begun = time.monotonic()
                try:
                    (answer,) = client.predict([SPECTRUM])
                    said = "good" if answer.error is None else answer.error
                except ServiceError as error:
                    said = str(error)
                self.said[said] += 1
                self.seconds.append(time.monotonic() - begun)
            self.retries += client.retries

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def mlflow(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    from training import registry
    from training.tracking import tracking_client

    with MlflowServer(tmp_path_factory.mktemp("mlflow"), cluster.outside) as server:
        patch = pytest.MonkeyPatch()
        patch.setenv("MLFLOW_TRACKING_URI", server.uri)
        client = tracking_client(server.uri)
        registry.promote(registry.register(released_model(), client=client), client=client)
        patch.undo()
        yield server


@pytest.fixture(scope="module")
def settings(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    two: dict[str, Any] = {"minimum": 2, "maximum": 2}
    arguments = {
        "replicas": two | {"cpus": 1.0},
        "ingress": two | {"cpus": 0.5},
        "tokens": {"test": hashlib.sha256(TOKEN.encode()).hexdigest()},
    }
    document = {
        # Behind HAProxy every replica listens on this address of its own node.
        "http_options": {"host": "0.0.0.0", "port": 8000, "request_timeout_s": 60},
        "applications": [{"name": "defectnet", "args": arguments}],
    }
    path = tmp_path_factory.mktemp("serve") / "serve.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    "fault", ["worker_process", "worker_node", "driver", "network_cut_30_s", "mlflow_stopped_20_s"]
)
def test_requests_are_answered(
    cluster: RayCluster, mlflow: MlflowServer, settings: Path, record: Record, tmp_path: Path, fault: str
) -> None:
    log, url = tmp_path / "driver.log", f"http://{cluster.head.address}:8000"
    driver = cluster.driver("serve", "--config", str(settings), log=log, MLFLOW_TRACKING_URI=mlflow.uri)
    try:
        wait_for(lambda: "serving models" in log.read_text() or driver.poll() is not None, "the service is ready")
        assert driver.poll() is None, log.read_text()[-3000:]
        wait_for(lambda: all(node.workers("ServeReplica") for node in cluster.workers), "replicas on both nodes")
        with Load(url) as load:
            time.sleep(BEFORE_S)
            before = load.said["good"]
            if fault == "worker_process":
                os.kill(cluster.workers[0].workers("ServeReplica")[0], signal.SIGKILL)
            elif fault == "worker_node":
                cluster.workers[0].kill()
            elif fault == "network_cut_30_s":
                cluster.workers[0].cut_for()
            elif fault == "mlflow_stopped_20_s":
                mlflow.stop_for()
            elif fault == "driver":
                kill_driver(driver)
            time.sleep(AFTER_S)
        answered = load.said["good"]
        failed = load.said.total() - answered
        record(
            "serve",
            fault,
            rows_expected=load.said.total(),
            rows_once=answered,
            rows_missing=failed,
            rows_twice=0,  # an answer is to one request by the protocol
            resumed_from=before,
            longest_s=round(max(load.seconds), 1),
            failures={said: count for said, count in load.said.items() if said != "good"},
            retries=load.retries,
        )
        assert before > 0
        assert answered > before  # it went on
        assert failed == 0
    except TimeoutError:
        pytest.fail(log.read_text()[-3000:])
    finally:
        kill_driver(driver)
        cluster.run("import ray; from ray import serve; ray.init(logging_level=50); serve.shutdown()")
