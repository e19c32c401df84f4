"""How every stage gets a Ray: the one place where it is joined or started.

Ray is imported when a session is asked for, never before: the library itself works without it.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["ONE_THREAD", "ray_session"]

# Processes are what scales: several threads in each of several processes wait for one another.
ONE_THREAD: Mapping[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
# Where a submitted job finds its cluster; "local" starts one, whatever else runs on the machine.
_ADDRESS_VARIABLE, _LOCAL = "RAY_ADDRESS", "local"


@contextmanager
def ray_session(
    num_cpus: int = 1,
    *,
    dashboard: bool = False,
    log_to_driver: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """A Ray that this process may use: the one it is connected to already, the cluster that RAY_ADDRESS names, or a
    local one; one that was not there before ends with this context.

    Args:
        num_cpus: cores that a local one offers at least, be it by sharing them.
        dashboard: whether a local one has a dashboard, and with it a job server and a state API, on loopback.
        log_to_driver: whether what the workers print is printed here too.
        environment: variables for the workers; those that this process has are theirs already.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get(_ADDRESS_VARIABLE, _LOCAL)
    local: dict[str, Any] = {}
    if address == _LOCAL:
        cpus = max(num_cpus, os.cpu_count() or 1)
        local = {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1", "num_cpus": cpus}
    # Ray refuses a variable that the job's own environment sets, be it to the same.
    variables = {name: value for name, value in (environment or {}).items() if name not in os.environ}
    with _free_job_port():
        ray.init(
            address=address,
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
            runtime_env={"env_vars": variables} if variables else None,
            **local,
        )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _free_job_port() -> Iterator[None]:
    """Have a local Ray run its jobs on a free port.

    Ray 2.60 gives every local one the same port, and `ray.init` has no argument for another: the second on a machine
    comes up, logs that it cannot listen, and refuses every job after ten seconds.
    """
    from ray._private.parameter import RayParams

    made = RayParams.__init__

    def with_free_port(self: RayParams, *args: Any, **named: Any) -> None:
        made(self, *args, **{"dashboard_agent_listen_port": 0, **named})

    RayParams.__init__ = with_free_port  # type: ignore[method-assign]
    try:
        yield
    finally:
        RayParams.__init__ = made  # type: ignore[method-assign]
