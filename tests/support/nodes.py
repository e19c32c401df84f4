"""A Ray cluster of several nodes on one machine, for tests that kill, cut off and starve them.

Each node has a network, a process and a mount namespace of its own: an address, processes that die together, its own
/tmp/ray and /dev/shm. They share the disk, as nodes of a cluster share a network file system, and meet at a bridge on
which only this machine is reachable:

    this process and MLflow  10.77.N.1 ──┬── 10.77.N.2  head (drivers run here)
                                         ├── 10.77.N.3  worker
                                         └── 10.77.N.4  worker
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from serving.proxy import BINARY_VARIABLE, HAPROXY_ENVIRONMENT, PATIENCE, WRAPPER, haproxy_binary
from support import processes
from support.processes import descendants

REPOSITORY = Path(__file__).resolve().parents[2]
# A node that is slow to start because the machine is busy is not a failure.
PATIENCE_S = 400.0
OBJECT_STORE_BYTES = 100_000_000
# How long a node is cut off.
CUT_S = 30.0
# The network of a node, seen from inside.
INTERFACE = "eth0"
# Where Redis or Valkey listens, on the bridge.
_STORE_PORT = 6380

# Takes down the figures of one stage and fault: record("score", "driver", rows_once=…).
Record = Callable[..., None]


def unavailable() -> str | None:
    """Why there can be no cluster here, or None."""
    if missing := [tool for tool in ("ip", "unshare", "nsenter", "mount") if shutil.which(tool) is None]:
        return f"needs {missing[0]} (iproute2, util-linux)"
    probe = ["unshare", "--net", "--mount", "--pid", "--fork", "true"]
    if os.geteuid() or subprocess.run(probe, capture_output=True).returncode:
        return "needs the right to make namespaces: run as root, or under `unshare --map-root-user --net --mount`"
    return None


def store_binary() -> str | None:
    """The server that keeps what a head knows: Valkey, or the Redis that it comes from."""
    return shutil.which("valkey-server") or shutil.which("redis-server")


def proxy_variables() -> dict[str, str]:
    """What each node's environment says of the proxy, as cluster.yaml has it."""
    return {
        **PATIENCE,
        **HAPROXY_ENVIRONMENT,
        BINARY_VARIABLE: str(WRAPPER),
        "DEFECTNET_HAPROXY": str(haproxy_binary()),
    }


def wait_for(condition: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait until `condition` holds; raises `TimeoutError` naming `what`."""
    processes.wait_for(condition, what, within_s)


def title(pid: int) -> str:
    """The command line of a process, which Ray sets to what its worker is doing; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class Node:
    """One node: a network namespace, and while it lives the process at the root of its process namespace."""

    namespace: str
    address: str
    folder: Path
    link: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def root(self) -> int:
        """The first process of the node's process namespace, seen from outside."""
        process = self.process
        assert process is not None
        wait_for(lambda: descendants(process.pid), f"{self.namespace} has a process")
        return descendants(process.pid)[0]

    def workers(self, name: str) -> list[int]:
        """The Ray worker processes of this node whose title contains `name`."""
        if self.process is None:
            return []
        return [pid for pid in descendants(self.process.pid) if "ray::" in title(pid) and name in title(pid)]

    def kill(self) -> None:
        """SIGKILL every process of the node at once."""
        if self.process is not None:
            if self.process.poll() is None:  # else it has ended by itself, and all its processes with it
                with contextlib.suppress(TimeoutError, ProcessLookupError):
                    os.kill(self.root, signal.SIGKILL)  # the kernel kills whoever shares its namespace
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> None:
        """Take the node off the network; its processes go on."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Put it back."""
        _ip("link", "set", self.link, "up")

    def cut_for(self, seconds: float = CUT_S) -> None:
        """Off the network and back."""
        self.cut()
        time.sleep(seconds)
        self.mend()


@dataclass
class RayCluster:
    """A head that computes nothing and some workers; a context manager that leaves nothing behind.

    Attributes:
        folder: for logs, and what would be /tmp/ray on each node.
        n_workers: worker nodes, each with `cpus`.
        environment: added to that of every node and driver.
        object_store_bytes: of each node.
        lasting: whether what the head knows is kept in Redis (or Valkey), so that a new head goes on from there.
    """

    folder: Path
    n_workers: int = 2
    cpus: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    object_store_bytes: int = OBJECT_STORE_BYTES
    lasting: bool = False
    nodes: list[Node] = field(default_factory=list)
    _store: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> "RayCluster":
        number = os.getpid() % 250 + 1
        self._bridge, self._subnet = f"dnb{os.getpid()}", f"10.77.{number}"
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._subnet}.1/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        try:
            if self.lasting:
                self._store = self._start_store()
            for index in range(self.n_workers + 1):
                self.nodes.append(self._namespace(index))
            # One after another: Ray gives a node 30 s to start, which several at once on two busy cores do not keep.
            for number, node in enumerate(self.nodes):
                self.start(node)
                wait_for(lambda least=number + 1: self._grown_to(least), f"the cluster has {number + 1} nodes")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            node.kill()
            subprocess.run(["ip", "netns", "delete", node.namespace], capture_output=True)
        if self._store is not None:
            self._store.kill()
            self._store.wait()
        subprocess.run(["ip", "link", "delete", self._bridge], capture_output=True)

    def _grown_to(self, least: int) -> bool:
        self.revive()
        return self.alive() >= least

    @property
    def head(self) -> Node:
        return self.nodes[0]

    @property
    def workers(self) -> list[Node]:
        return self.nodes[1:]

    @property
    def address(self) -> str:
        """Where drivers find the cluster."""
        return f"{self.head.address}:6379"

    @property
    def outside(self) -> str:
        """The address of this process, as the nodes see it."""
        return f"{self._subnet}.1"

    def start(self, node: Node) -> None:
        """Start Ray on a node that does not run."""
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        ray += [f"--node-ip-address={node.address}", f"--object-store-memory={self.object_store_bytes}"]
        if node is self.head:
            ray += ["--head", "--port=6379", "--num-cpus=0", "--dashboard-host=0.0.0.0"]
        else:
            ray += [f"--address={self.address}", f"--num-cpus={self.cpus}"]
        tmp = f"mount --bind {node.folder} /tmp/ray"
        # Twice the object store, for Ray refuses a store larger than half of the shared memory.
        prepare = f'{tmp} && mount -t tmpfs -o size={2 * self.object_store_bytes} tmpfs /dev/shm && exec "$@"'
        Path("/tmp/ray").mkdir(exist_ok=True)  # where the node's own is mounted, in its namespace only
        command = ["ip", "netns", "exec", node.namespace, "unshare", "--mount", "--pid", "--fork", "--kill-child"]
        command += ["--mount-proc", "bash", "-c", prepare, "node", *ray]
        kept = {"RAY_REDIS_ADDRESS": f"{self.outside}:{_STORE_PORT}", "RAY_external_storage_namespace": "test"}
        environment = self.environ() | (kept if self.lasting and node is self.head else {})
        with (self.folder / f"{node.namespace}.log").open("ab") as log:
            node.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)

    def wait(self, driver: "subprocess.Popen[bytes]", within_s: float) -> None:
        """Wait for a driver as a cluster's supervisor would: a node that has ended itself is started again.

        The head takes a node for dead that it has not heard of for long; once that node hears of it, it ends.
        """
        deadline = time.monotonic() + within_s
        while driver.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the driver has not ended within {within_s:.0f} s")
            self.revive()
            time.sleep(0.5)

    def revive(self, *, killed: bool = False) -> None:
        """Start the nodes again that have ended themselves, and if `killed` also those that a test has killed."""
        for node in self.nodes:
            if (node.process is None and killed) or (node.process is not None and node.process.poll() is not None):
                node.kill()
                self.start(node)

    def alive(self) -> int:
        """How many nodes the head counts as alive."""
        try:
            answer = httpx.get(f"http://{self.head.address}:8265/api/v0/nodes", timeout=10, trust_env=False)
            nodes = answer.json()["data"]["result"]["result"]
        except (httpx.HTTPError, KeyError, TypeError, ValueError):
            return 0
        return sum(node["state"] == "ALIVE" for node in nodes)

    def command(self, command: Sequence[str]) -> list[str]:
        """`command` as one that runs on the head node."""
        enter = ["nsenter", "--target", str(self.head.root), "--mount", "--net", "--pid"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command]

    def driver(self, *arguments: str, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start `defectnet ARGUMENTS` on the head node; `kill_driver` ends it."""
        code = "from defectnet.cli.main import main; main()"
        command = self.command([sys.executable, "-c", code, *arguments])
        with log.open("ab") as file:
            return subprocess.Popen(command, env=self.environ() | environment, stdout=file, stderr=file)

    def run(self, code: str) -> None:
        """Run some Python on the head node and wait for it."""
        command = self.command([sys.executable, "-c", code])
        subprocess.run(command, env=self.environ(), timeout=PATIENCE_S, check=False, capture_output=True)

    def environ(self) -> dict[str, str]:
        """The environment of every node and driver."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # for the jobs' `defectnet`
            "PYTHONPATH": str(REPOSITORY),
            "RAY_ADDRESS": self.address,
            # Without it, Gloo listens where the machine's name leads to: here, as on Debian, the loopback.
            "GLOO_SOCKET_IFNAME": INTERFACE,
            "RAY_AUTH_MODE": "disabled",  # nobody but this machine reaches the bridge
            # Workers wait for a new head; a machine that runs all nodes on two cores takes a minute to start one.
            **({"RAY_gcs_rpc_server_reconnect_timeout_s": "600"} if self.lasting else {}),
            **self.environment,
        }

    def _start_store(self) -> "subprocess.Popen[bytes]":
        """Redis or Valkey, on the bridge alone, with nothing on disk: it outlives every node of a test."""
        command = [str(store_binary()), "--bind", self.outside, "--port", str(_STORE_PORT), "--protected-mode", "no"]
        command += ["--save", "", "--appendonly", "no"]
        store = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((self.outside, _STORE_PORT)) == 0

        wait_for(answers, "the store answers")
        return store

    def _namespace(self, index: int) -> Node:
        name = f"dn{os.getpid()}n{index}"
        node = Node(name, f"{self._subnet}.{index + 2}", self.folder / name, f"v{os.getpid()}h{index}")
        node.folder.mkdir(parents=True)
        _ip("netns", "add", name)
        _ip("link", "add", node.link, "type", "veth", "peer", "name", INTERFACE, "netns", name)
        _ip("link", "set", node.link, "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"{node.address}/24", "dev", INTERFACE)
        _ip("-n", name, "link", "set", INTERFACE, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        return node


def kill_driver(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a driver: `nsenter` is only its parent."""
    for pid in descendants(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
