"""How every stage gets a Ray: the one place where it is joined or started.

Ray is imported when a session is asked for, never before: the library itself works without it.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from defectnet.errors import DefectNetError

__all__ = ["ONE_THREAD", "ray_session"]

# Processes are what scales: several threads in each of several processes wait for one another.
ONE_THREAD: Mapping[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
# Where a submitted job finds its cluster; "local" starts one, whatever else runs on the machine.
_ADDRESS_VARIABLE, _LOCAL = "RAY_ADDRESS", "local"
# A local Ray comes up in three seconds on an idle machine. With a load of ten on two cores it has taken more than the
# half minute that Ray 2.60 waits for it.
START_S = 180.0
_LOOK_EVERY_S = 0.5
_GCS_WAIT_VARIABLE = "RAY_gcs_server_port_wait_time_s"
_LONGEST_REASON = 200


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

    Raises:
        DefectNetError: a local one does not come up, or the cluster cannot be joined.
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
    with _as_sentence(address), _free_job_port(), _patience():
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
def _as_sentence(address: str) -> Iterator[None]:
    """Turn whatever Ray raises when it does not come up, be it a plain `Exception`, into one sentence."""
    began = time.monotonic()
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = lines[0][:_LONGEST_REASON].rstrip(". ")
        if address != _LOCAL:
            raise DefectNetError(
                f"cannot join the Ray at {address} ({said}); check {_ADDRESS_VARIABLE} and that the cluster runs"
            ) from error
        load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else "busy"
        waited = f"{time.monotonic() - began:.0f} s"
        raise DefectNetError(
            f"a local Ray did not come up in {waited}, likely because the machine is busy ({load}) or out of memory or "
            f"disk ({said}); let other work end and run it again, or name a cluster by {_ADDRESS_VARIABLE}"
        ) from error


@contextmanager
def _patience() -> Iterator[None]:
    """Have a local Ray wait `START_S` for its own processes.

    Ray 2.60 has a setting for how long it waits for its control service, and none for how long for the node itself:
    `ray._private.node` asks `services.get_node` for half a minute and gives up. Here one question takes as long as the
    node needs.
    """
    from ray._private import services

    ask = services.get_node

    def ask_until_it_is_there(gcs_address: str, node_id: str) -> Any:
        give_up = time.monotonic() + START_S
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(_LOOK_EVERY_S)

    before = os.environ.get(_GCS_WAIT_VARIABLE)
    os.environ.setdefault(_GCS_WAIT_VARIABLE, str(int(START_S)))
    services.get_node = ask_until_it_is_there
    try:
        yield
    finally:
        services.get_node = ask
        if before is None:
            del os.environ[_GCS_WAIT_VARIABLE]


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
