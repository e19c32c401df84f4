"""Processes that run beside the service: jobs of the Ray cluster that it belongs to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

from defectnet.errors import BusyError
from defectnet.io.ray_session import ONE_THREAD

__all__ = ["CLUSTER_VARIABLE", "RETRY_AFTER_S", "JobRunner", "RayJobs", "State"]

logger = logging.getLogger(__name__)

# Where several Rays run on a machine, a job is told to join the youngest; this variable names the one that is meant.
CLUSTER_VARIABLE = "DEFECTNET_RAY_ADDRESS"
# Jobs take seconds to start: who is sent away may as well wait a little longer.
RETRY_AFTER_S = 30.0

State = Literal["pending", "running", "succeeded", "failed", "stopped"]


class JobRunner(Protocol):
    """What runs a batch's process."""

    def start(self, name: str, command: str) -> None:
        """Start a job under a name that was never used; one that is there already is left alone."""

    def state(self, name: str) -> State | None:
        """How it is, or None where nobody knows of it any more."""

    def stop(self, name: str) -> None:
        """Ask it to end."""


class RayJobs:
    """Jobs of the Ray cluster that this process belongs to; raises `BusyError` while its job server is away."""

    def __init__(self) -> None:
        self._made: Any = None

    @property
    def _client(self) -> Any:
        if self._made is None:
            import ray
            from ray.job_submission import JobSubmissionClient

            self._made = JobSubmissionClient(ray.get_runtime_context().gcs_address)
        return self._made

    def start(self, name: str, command: str) -> None:
        if self.state(name) is None:
            import ray

            variables = {**ONE_THREAD, CLUSTER_VARIABLE: ray.get_runtime_context().gcs_address}
            with _job_server():
                self._client.submit_job(submission_id=name, entrypoint=command, runtime_env={"env_vars": variables})

    def state(self, name: str) -> State | None:
        from ray.job_submission import JobStatus

        with _job_server():
            try:
                status = self._client.get_job_status(name)
            except RuntimeError as error:
                if "does not exist" in str(error):
                    return None
                raise
        states: dict[Any, State] = {
            JobStatus.PENDING: "pending",
            JobStatus.RUNNING: "running",
            JobStatus.SUCCEEDED: "succeeded",
            JobStatus.FAILED: "failed",
            JobStatus.STOPPED: "stopped",
        }
        return states[status]

    def stop(self, name: str) -> None:
        if self.state(name) in ("pending", "running"):
            with _job_server():
                self._client.stop_job(name)


@contextmanager
def _job_server() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError) as error:
        logger.error("the job server does not answer", exc_info=error)
        raise BusyError(RETRY_AFTER_S) from None
