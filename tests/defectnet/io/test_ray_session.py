"""A local Ray beside others on the machine."""

import socket
import sys
import time

import pytest

from defectnet.io.ray_session import ray_session

# The port on which Ray 2.60 has every local one run its jobs (`ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT`).
USUAL_PORT = 52365
WITHIN_S = 120.0


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
