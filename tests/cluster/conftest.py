"""The cluster that the tests share, and the file that their figures go to."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.nodes import RayCluster, Record, proxy_variables, unavailable, wait_for


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster-results", default=None, help="write the figures of the cluster tests to this JSON file")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head and two workers, for all tests; each test takes it whole and leaves it whole (see `_mended`)."""
    if reason := unavailable():
        pytest.skip(reason)
    with RayCluster(tmp_path_factory.mktemp("cluster"), environment=proxy_variables()) as started:
        yield started


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start again what a test has killed."""
    yield
    name = next((name for name in ("cluster", "lasting_cluster") if name in request.fixturenames), None)
    if name is None:
        return
    cluster: RayCluster = request.getfixturevalue(name)
    for node in cluster.nodes:
        node.mend()

    def whole() -> bool:
        cluster.revive(killed=True)
        return cluster.alive() == len(cluster.nodes)

    wait_for(whole, "the cluster is whole again")


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Record:
    """Takes down the figures of one stage and fault."""
    path = request.config.getoption("--cluster-results", default=None)  # unknown where all of tests/ is run

    def take(stage: str, fault: str | None = None, **values: Any) -> None:
        print(f"{stage}, {fault}: {values}")  # noqa: T201  (`pytest -s` shows how far it is)
        if path:  # at once: a run that is cut off keeps what it has
            file = Path(path)
            known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            if fault is None:
                known[stage] = values
            else:
                known.setdefault(stage, {})[fault] = values
            file.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")

    return take
