"""The service that the benchmarks of faults, soak and fuzz ask: behind HAProxy, on an MLflow server of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

from defectnet.model.artifact import ModelConfig, load_artifact, save_artifact
from defectnet.model.predictor import Predictor
from defectnet.query import Query
from defectnet.released import released_model
from serving.proxy import free_port

HERE = Path(__file__).resolve().parent
NAME = "defectnet"
READY_WITHIN_S = 180.0


def answer_of(model: Path, item: dict[str, Any]) -> dict[str, float]:
    """What a model says of a spectrum: element → probability."""
    (prediction,) = Predictor.load(model).predict([Query.from_json(item)])
    return {verdict.element: verdict.probability for verdict in prediction.elements}


def save(source: Path, folder: Path, scale: float = 1.0) -> Path:
    """A copy of a model, its weights multiplied by `scale`."""
    network, config = load_artifact(source)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    save_artifact(folder, network=network, config=ModelConfig(**config.model_dump()), card="# A copy")
    return folder


def variant(folder: Path) -> Path:
    """A second model that answers differently."""
    return save(released_model(), folder, scale=0.9)


class Store:
    """An MLflow server with a registry."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        options = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db", "--port", str(self._port)]
        options += ["--artifacts-destination", str(self._folder / "artifacts"), "--workers", "1"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", *options],
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            try:
                if httpx.get(self.uri + "/health", trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.HTTPError:
                time.sleep(0.3)
        raise SystemExit("the MLflow server did not come up")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, how)
            self._process.wait()

    def register(self, folder: Path) -> str:
        client = self._client
        if not client.search_registered_models():
            client.create_registered_model(NAME)
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"runs:/{run.info.run_id}/model"
        return str(client.create_model_version(NAME, source, run.info.run_id).version)

    def promote(self, version: str) -> None:
        self._client.set_registered_model_alias(NAME, "champion", version)

    @property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        return MlflowClient(self.uri, self.uri)


@contextmanager
def registry(folder: Path) -> Iterator[Store]:
    """An MLflow server until the context ends."""
    store = Store(folder)
    store.start()
    try:
        yield store
    finally:
        store.stop()


@contextmanager
def two_versions(folder: Path) -> Iterator[tuple[Store, list[str], dict[str, Any], dict[str, Any]]]:
    """A registry with the released model promoted and a variant beside it, a question, and each version's answer."""
    item = json.loads((HERE.parent / "examples" / "request.json").read_text(encoding="utf-8"))["spectra"][0]
    with registry(folder) as store:
        models = [released_model(), variant(folder / "second")]
        versions = [store.register(model) for model in models]
        expected = {version: answer_of(model, item) for version, model in zip(versions, models, strict=True)}
        store.promote(versions[0])
        yield store, versions, item, expected


@contextmanager
def service(tracking_uri: str, replicas: str, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The service in a process of its own until the context ends; yields its address."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, str(port), tracking_uri, replicas], stdout=output, stderr=output
        )
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + READY_WITHIN_S
        try:
            while True:
                try:
                    if httpx.get(url + "/v2/health/ready", timeout=5.0, trust_env=False).status_code == httpx.codes.OK:
                        break
                except httpx.HTTPError:
                    time.sleep(0.3)
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the service did not come up: {log.read_text()[-2000:]}")
            time.sleep(2.0)
            yield url, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=120)


def serve(port: int, tracking_uri: str, replicas: str) -> None:
    """Run the service until SIGTERM, with two replicas or with one that the autoscaler may add a second to."""
    from serving.local import running_service
    from serving.settings import Replicas, ServiceSettings

    counts = {
        "two": Replicas(minimum=2, maximum=2, cpus=0.25),
        "auto": Replicas(maximum=2, cpus=0.25, target_ongoing_requests=3, upscale_delay_s=2, downscale_delay_s=5),
    }
    stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with running_service(ServiceSettings(port=port, tracking_uri=tracking_uri, replicas=counts[replicas])):
        while not stop:
            time.sleep(0.2)


def processes(root: int, name: str) -> list[int]:
    """Process ids of `root`'s descendants whose title begins with `name`, or whose program is called so."""
    children: dict[int, list[int]] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(folder.name)
        if stat.rpartition(")")[2].split()[0] != "Z":
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(pid)
            titles[pid] = title
    found, todo = [], [root]
    while todo:
        fresh = children.get(todo.pop(), [])
        found += fresh
        todo += fresh
    return sorted(
        pid for pid in found if titles[pid].startswith(name) or Path(titles[pid].split(" ")[0] or "-").name == name
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
