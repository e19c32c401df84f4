"""What every test needs: quiet third parties, one thread a process, and a home folder that is thrown away."""

import atexit
import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

_HOME = tempfile.TemporaryDirectory(prefix="defectnet-home-")

# Before any test imports Ray, MLflow, torch or matplotlib: they read these once.
os.environ.update(
    {
        "HOME": _HOME.name,  # Ray and matplotlib write there
        "MPLBACKEND": "Agg",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "DO_NOT_TRACK": "true",
        "RAY_AUTH_MODE": "disabled",  # otherwise Ray 2.60 writes a token into the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # 15 by default: beside anything else that is busy, a test would take minutes
        # Two processes with two threads each on two cores wait for one another.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # No colour codes and a fixed width in what the command line prints, whoever runs the tests.
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "160",
    }
)
os.environ.pop("MLFLOW_TRACKING_URI", None)

import pytest  # noqa: E402  (the environment comes first)
from hypothesis import settings  # noqa: E402

# A shared machine pauses a test for longer than hypothesis's 200 ms; the same examples on every run.
settings.register_profile("defectnet", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("defectnet")

_EXIT_STATUS = pytest.StashKey[int]()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep how it ended for `pytest_unconfigure`."""
    session.config.stash[_EXIT_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End here, with the status of the tests, once all has been said and Python's own clean-up has run.

    Threads of native libraries may outlive the interpreter that is taken down around them: one run of 2,833 tests that
    had passed ended as a segmentation fault.
    """
    if _EXIT_STATUS in config.stash:
        with warnings.catch_warnings(action="ignore"):
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[_EXIT_STATUS])


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def examples(repository: Path) -> Path:
    """The example spectra."""
    return repository / "examples"


@pytest.fixture(scope="session")
def bucket() -> "Iterator[str]":
    """The URI of a bucket in a stand-in for S3, which the environment points to until the end."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    boto3.client("s3").create_bucket(Bucket="spectra")
    yield "s3://spectra"
    server.stop()


@pytest.fixture(scope="session")
def untrained_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact folder whose network has learnt nothing: enough for all that does not depend on the answer."""
    import torch

    from defectnet.model.artifact import ModelConfig, save_artifact
    from defectnet.model.network import DefectNetwork

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("untrained") / "model"
    config = ModelConfig()
    save_artifact(folder, network=DefectNetwork(config.network, config.grid), config=config, card="# Untrained")
    return folder


@pytest.fixture
def spectra() -> "pa.Table":
    """Five samples of made-up bands: two dopings, one pristine, one without a reference, one without a spectrum."""
    import numpy as np
    import pyarrow as pa

    from defectnet.io.tables import SPECTRA_SCHEMA
    from defectnet.spectrum import bin_centres_thz

    axis = bin_centres_thz(160, 0.1)
    pristine = np.exp(-((axis - 5.0) ** 2)) + 2.0 * np.exp(-(((axis - 14.0) / 0.5) ** 2))
    pristine *= 3.0 / pristine.sum() / 0.1
    local = np.exp(-(((axis - 11.0) / 0.3) ** 2))
    local *= 3.0 / local.sum() / 0.1

    def row(sample_id: str, share: float, **changes: object) -> dict[str, object]:
        dos = (1.0 - share) * pristine + share * local
        defects = [{"element": "Ge", "replaces": "Si", "concentration": share}] if share else []
        return {
            "sample_id": sample_id,
            "host": "Si",
            "defects": defects,
            "frequency_step_thz": 0.1,
            "dos": dos.tolist(),
            "reference_dos": pristine.tolist(),
        } | changes

    rows = [
        row("Si:Ge 5 %", 0.05),
        row("Si:Ge 10 %", 0.1),
        row("Si", 0.0),
        row("no reference", 0.02, reference_dos=None),
        row("broken", 0.0, dos=None, reference_dos=None, error="the crystal is not stable"),
    ]
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> "Callable[..., tuple[int, str, str]]":
    """Runs the command `defectnet` with some arguments in this process; returns exit code, output and error output."""
    from defectnet.cli.main import main

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["defectnet", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
