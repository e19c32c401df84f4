"""The registry of docs/cluster.md for several machines: an MLflow server with PostgreSQL and an object store."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.mlflow_server import MlflowServer
from support.nodes import wait_for

from defectnet.models import CHAMPION, ModelReference
from defectnet.released import released_model
from serving.hot_swap import load_model
from serving.models_source import RegistrySource
from training import registry
from training.tracking import tracking_client

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]


def tool(name: str) -> str | None:
    """A program of PostgreSQL: on the path, or where Debian keeps it."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(places[0]) if places else shutil.which(name)


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URI of an empty database in a PostgreSQL of its own, on loopback."""
    initdb, server = tool("initdb"), tool("postgres")
    if initdb is None or server is None:
        pytest.skip("needs PostgreSQL: apt install postgresql")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="dn-pg-") as folder:
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        data.mkdir()
        user = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(data, "postgres", "postgres")
            user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        subprocess.run(
            [*user, initdb, "-D", str(data), "-U", "mlflow", "--auth=trust"], check=True, capture_output=True, cwd="/"
        )
        process = subprocess.Popen(
            [*user, server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(data)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )

        def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_for(listens, "PostgreSQL listens")
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


def test_register_promote_and_follow(postgres: str, bucket: str, tmp_path: Path) -> None:
    with MlflowServer(tmp_path / "mlflow", "127.0.0.1", postgres, f"{bucket}/mlflow") as server:
        client = tracking_client(server.uri)
        version = registry.register(released_model(), client=client)
        registry.promote(version, client=client)
        source = RegistrySource(ModelReference(alias=CHAMPION), server.uri)
        loaded = load_model(source, source.current())
        assert loaded.version.version == version

        second = registry.register(released_model(), client=client)
        registry.promote(second, client=client)
        assert source.current().version == second
        assert registry.rollback(client=client) == version

        # A server that comes back finds everything where it was.
        server.stop()
        server.start()
        assert source.current().version == version
        assert load_model(source, source.current()).weights_sha256 == loaded.weights_sha256
