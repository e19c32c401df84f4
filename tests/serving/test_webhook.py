"""A real MLflow server tells of a promotion, and the service believes what it sends over the network."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from support.mlflow_server import MlflowServer

from serving.webhook import verify

SECRET = "a secret of the webhook"


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """An address on the loopback, and what was sent to it."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/webhooks/mlflow", received
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_promotion_made_in_mlflow_is_told_with_a_signature_that_holds(
    receiver: tuple[str, list[tuple[dict[str, str], bytes]]], tmp_path: Path
) -> None:
    address, received = receiver
    allowed = {"MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https", "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true"}
    with MlflowServer(tmp_path / "mlflow", "127.0.0.1", environment=allowed) as mlflow:
        client = MlflowClient(mlflow.uri)
        client.create_webhook("defectnet", address, events=["model_version_alias.created"], secret=SECRET)
        client.create_registered_model("defectnet")
        run = client.create_run("0").info
        client.create_model_version("defectnet", source=f"{run.artifact_uri}/model", run_id=run.run_id)
        client.set_registered_model_alias("defectnet", "champion", "1")
        deadline = time.monotonic() + 30
        while not received and time.monotonic() < deadline:
            time.sleep(0.05)
    assert received, "MLflow sent nothing within 30 s"
    headers, body = received[0]
    assert b"champion" in body
    assert verify(headers, body, SECRET.encode(), time.time())
    assert not verify(headers, body + b" ", SECRET.encode(), time.time())
    assert not verify(headers, body, b"another secret", time.time())
