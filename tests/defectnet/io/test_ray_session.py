"""A local Ray beside others on the machine."""

import os
import socket
import sys
import time

import pytest

from defectnet.errors import DefectNetError
from defectnet.io.ray_session import ray_session

# The port on which Ray 2.60 has every local one run its jobs (`ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT`).
USUAL_PORT = 52365
WITHIN_S = 120.0
# How long Ray waits for its control service.
GCS_WAIT = "RAY_gcs_server_port_wait_time_s"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Exception("The current node timed out during startup. This could happen because"), "timed out during startup"),
        (RuntimeError("first line\nTraceback of a page"), "(first line)"),
        (ConnectionError(), "(ConnectionError)"),
    ],
)
@pytest.mark.parametrize("address", [None, "10.1.2.3:6379"])
def test_a_ray_that_does_not_come_up_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, address: str | None
):
    import ray

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(DefectNetError) as caught, ray_session(1):
        pass
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert said in sentence
    if address:
        assert sentence.startswith("cannot join the Ray at 10.1.2.3:6379")
    else:
        assert sentence.startswith("a local Ray did not come up in 0 s, likely because the machine is busy (load ")
        assert "let other work end and run it again, or name a cluster by RAY_ADDRESS" in sentence


def test_a_slow_node_is_waited_for_longer_than_ray_does(monkeypatch: pytest.MonkeyPatch):
    import ray
    from ray._private import services

    now = [0.0]
    up_after_s = 100.0

    def get_node(gcs_address: str, node_id: str) -> dict[str, str]:
        if now[0] < up_after_s:
            raise RuntimeError("not registered yet")
        return {"node_id": node_id, "gcs": gcs_address}

    def sleep(seconds: float) -> None:
        now[0] += seconds

    found = []

    def init(**_: object) -> None:
        assert os.environ[GCS_WAIT] == "180"
        found.append(services.get_node("gcs", "node"))

    monkeypatch.setattr(services, "get_node", get_node)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    for name in ("RAY_ADDRESS", GCS_WAIT):
        monkeypatch.delenv(name, raising=False)
    with ray_session(1):
        assert services.get_node is get_node
    assert found == [{"node_id": "node", "gcs": "gcs"}]
    assert 100 <= now[0] < 102
    assert GCS_WAIT not in os.environ
    now[0], up_after_s = 0.0, 1e9
    with pytest.raises(DefectNetError, match=r"did not come up in 180 s.*not registered yet"), ray_session(1):
        pass


def test_ray_still_asks_as_the_wait_for_a_slow_node_needs():
    """What is replaced is what Ray looks up by its module's name; where that changes, this fails first."""
    import inspect

    from ray._private import node

    source = inspect.getsource(node.Node.__init__)
    assert "ray._private.services.get_node(" in source
    assert "except RuntimeError" in source


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_jobs_run_where_another_ray_has_the_usual_port():
    import ray
    from ray.job_submission import JobStatus, JobSubmissionClient

    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("0.0.0.0", USUAL_PORT))
            taken.listen()
        except OSError:
            pass  # another Ray has it
        with ray_session(1, dashboard=True):
            client = JobSubmissionClient(ray.get_runtime_context().gcs_address)
            name = client.submit_job(entrypoint=f'"{sys.executable}" -c "print(7)"')
            deadline = time.monotonic() + WITHIN_S
            while not client.get_job_status(name).is_terminal() and time.monotonic() < deadline:
                time.sleep(0.2)
            assert client.get_job_status(name) == JobStatus.SUCCEEDED
