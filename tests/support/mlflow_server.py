"""An MLflow server that a test can stop and start again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from support.processes import wait_for

_PATIENCE_S = 60.0


class MlflowServer:
    """A tracking server, by default with sqlite and files in its folder; a context manager."""

    def __init__(
        self,
        folder: Path,
        host: str,
        database: str | None = None,
        artifacts: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        with socket.socket() as probe:
            probe.bind((host, 0))
            self._port = probe.getsockname()[1]
        self._folder, self._host = folder, host
        self._environment = dict(environment or {})
        self._database = database or f"sqlite:///{folder}/mlflow.db"
        self._artifacts = artifacts or str(folder / "artifacts")
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def uri(self) -> str:
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", self._host, "--port", str(self._port)]
        command += ["--backend-store-uri", self._database, "--artifacts-destination", self._artifacts]
        # It asks whose address it was called by, against DNS rebinding.
        command += ["--workers", "1", "--allowed-hosts", f"{self._host}:{self._port}"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | self._environment
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self._folder
            )
        wait_for(self._answers, f"MLflow (see {self._folder / 'server.log'}) answers", _PATIENCE_S)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
            self._process.wait()
            self._process = None

    def stop_for(self, seconds: float = 20.0) -> None:
        """Away and back."""
        self.stop()
        time.sleep(seconds)
        self.start()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.uri}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def __enter__(self) -> "MlflowServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
