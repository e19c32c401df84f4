"""What HAProxy, as the wrapper has it, makes of replicas that die, and of nodes that fall silent, with a request.

The replicas are sockets of this test: one dies with every request or never answers it, the other answers.
"""

import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.nodes import unavailable

from serving.proxy import BINARY_VARIABLE, HAPROXY_ENVIRONMENT, PID_VARIABLE, WRAPPER, drain, free_port, haproxy_binary

pytestmark = [pytest.mark.slow, pytest.mark.skipif(haproxy_binary() is None, reason="there is no HAProxy")]

# Those parts of what Ray 2.60 writes (serve/_private/haproxy_templates.py) that decide what becomes of a request.
_CONFIGURATION = """global
    nbthread 1
    tune.bufsize {buffer}
defaults
    mode http
    timeout connect {connect}s
    timeout client 3600s
    timeout server 60s
    option abortonclose
    option redispatch 1
    retry-on {retry}
    balance first
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    http-reuse always
    server one {one} check inter 60s
    server two {two} check inter 60s
"""
# How long a request may take that was with a silent node: its own time, and two seconds.
BOUND_S = 2.0


def _read_request(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(65536)):
            return
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < length:
        body += connection.recv(65536)


def dies(connection: socket.socket) -> None:
    """As a killed process: the kernel resets its connections."""
    _read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answers(connection: socket.socket) -> None:
    _read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ngood")
    connection.close()


def takes_its_time(connection: socket.socket) -> None:
    _read_request(connection)
    time.sleep(4.0)
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlate")
    connection.close()


@contextmanager
def replica(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of this process; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=behave, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def started(file: Path, port: int, *arguments: str) -> subprocess.Popen[bytes]:
    """HAProxy by the wrapper, as Ray starts it, when it listens; somebody must wait for it."""
    environment = {**os.environ, "DEFECTNET_HAPROXY": str(haproxy_binary()), PID_VARIABLE: str(file.with_name("pids"))}
    environment.pop(BINARY_VARIABLE, None)
    command = [str(WRAPPER), "-db", "-f", str(file), *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return process


@contextmanager
def haproxy(tmp_path: Path, one: str, two: str) -> Iterator[int]:
    """HAProxy before two replicas, of which it prefers the first; yields its port."""
    port, file = free_port(), tmp_path / "haproxy.cfg"
    file.write_text(
        _CONFIGURATION.format(
            one=one,
            two=two,
            port=port,
            buffer=HAPROXY_ENVIRONMENT["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"],
            connect=HAPROXY_ENVIRONMENT["RAY_SERVE_HAPROXY_TIMEOUT_CONNECT_S"],
            retry=HAPROXY_ENVIRONMENT["RAY_SERVE_HAPROXY_RETRY_ON"],
        )
    )
    with started(file, port) as process:
        try:
            yield port
        finally:
            process.terminate()


def ask(port: int, size: int) -> tuple[int, bytes]:
    """One plain request, as `http.client` sends it: the body in a packet of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/v1/predict", body=b"x" * size)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("size", [1000, 100_000])
def test_what_a_dying_replica_took_with_it_is_answered_by_another(tmp_path: Path, size: int):
    with replica(dies) as one, replica(answers) as two, haproxy(tmp_path, one, two) as port:
        assert [ask(port, size) for _ in range(5)] == 5 * [(200, b"good")]


def test_draining_waits_for_a_former_haproxy_too(tmp_path: Path):
    """Ray starts another at each change of the replicas; what the former one had accepted is its to answer."""
    answered: list[tuple[int, bytes]] = []
    with replica(takes_its_time) as one, haproxy(tmp_path, one, one) as port:
        under_way = threading.Thread(target=lambda: answered.append(ask(port, 1000)))
        under_way.start()
        time.sleep(0.5)  # accepted
        file = tmp_path / "haproxy.cfg"
        former = (tmp_path / "pids").read_text().strip()
        with started(file, port, "-sf", former) as present:
            threading.Thread(target=present.wait).start()  # as Ray does: one that has ended is not left behind
            drain({PID_VARIABLE: str(tmp_path / "pids")}, 0.2)
            assert not answered, "it waits no longer than it is told"
            drain({PID_VARIABLE: str(tmp_path / "pids")}, 20)
            under_way.join(1)
    assert answered == [(200, b"late")]


def test_what_does_not_fit_into_a_buffer_is_not_sent_again(tmp_path: Path):
    """The limit that docs/serving.md states."""
    too_long = 2 * int(HAPROXY_ENVIRONMENT["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"])
    with replica(dies) as one, replica(answers) as two, haproxy(tmp_path, one, two) as port:
        assert ask(port, too_long)[0] == 502


_SILENT = """
import socket
server = socket.create_server(("{address}", 80))
held = []
while True:
    held.append(server.accept())
"""
# Answers, and keeps the connection for the next request.
_LASTING = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"node")
http.server.ThreadingHTTPServer(("{address}", 80), Handler).serve_forever()
"""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """A network namespace of its own with a server, by default one that never answers; yields name and address."""
    if reason := unavailable():
        pytest.skip(reason)
    name, link, subnet = f"dnp{os.getpid()}", f"dnp{os.getpid()}h", f"10.78.{os.getpid() % 250 + 1}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", f"{subnet}.1/24", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", name, "addr", "add", f"{subnet}.2/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        code = getattr(request, "param", _SILENT).format(address=f"{subnet}.2")
        command = ["ip", "netns", "exec", name, sys.executable, "-S", "-c", code]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
            time.sleep(1.0)
            yield name, f"{subnet}.2:80"
            server.kill()
    finally:
        subprocess.run(["ip", "link", "delete", link], capture_output=True)  # the other end goes with it, at once
        _ip("netns", "delete", name)


def test_what_a_silent_node_was_asked_is_answered_by_another_within_two_seconds(tmp_path: Path, node: tuple[str, str]):
    name, address = node
    with replica(answers) as two, haproxy(tmp_path, address, two) as port:
        made: list[tuple[int, bytes]] = []
        asking = threading.Thread(target=lambda: made.append(ask(port, 10_000)))
        asking.start()
        time.sleep(1.5)  # the node has the request, acknowledges every packet, and is busy
        assert made == []
        _ip("-n", name, "link", "set", "eth0", "down")
        cut_at = time.monotonic()
        asking.join(30)
        assert made == [(200, b"good")]
        assert time.monotonic() - cut_at < BOUND_S + 0.5  # the test's own threads have their turn
        begun = time.monotonic()
        assert ask(port, 10_000) == (200, b"good")  # one that begins while the node is away
        assert time.monotonic() - begun < BOUND_S


@pytest.mark.parametrize("node", [_LASTING], indirect=True)
def test_what_goes_to_a_silent_node_over_a_connection_that_was_there_is_answered_by_another(
    tmp_path: Path, node: tuple[str, str]
):
    name, address = node
    with replica(answers) as two, haproxy(tmp_path, address, two) as port:
        assert ask(port, 10_000) == (200, b"node")
        _ip("-n", name, "link", "set", "eth0", "down")
        begun = time.monotonic()
        assert ask(port, 10_000) == (200, b"good")
        assert time.monotonic() - begun < BOUND_S + 0.5
