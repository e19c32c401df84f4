"""Every stage as docs/cluster.md hands it in: `ray job submit --working-dir .`, small upload, meaningful exit codes."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
import yaml
from support.mlflow_server import MlflowServer
from support.nodes import PATIENCE_S, RayCluster, Record

from defectnet.io.tables import read_spectra, write_table

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

SMALL = {"width": 16, "encoder_layers": 1, "decoder_layers": 1, "stem_channels": 4, "patch_bins": 16}
# Of the upload, beside the data that the packages carry: the model, the library of hosts and the parents.
LARGEST_CODE_BYTES = 3_000_000
PACKAGE_DATA = ("defectnet/released", "defectnet/references", "datagen/library")


def submit(cluster: RayCluster, repository: Path, environment: dict[str, str], *command: str) -> int:
    """Hand a job in as the documentation says and wait for it; its driver's own exit code."""
    from ray.job_submission import JobSubmissionClient

    address = f"http://{cluster.head.address}:8265"
    job = f"{command[1]}-{os.urandom(4).hex()}"
    line = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, "--working-dir", "."]
    line += ["--submission-id", job, "--runtime-env-json", json.dumps({"env_vars": environment}), "--", *command]
    said = subprocess.run(line, cwd=repository, capture_output=True, text=True, timeout=PATIENCE_S)
    code = JobSubmissionClient(address).get_job_info(job).driver_exit_code
    assert (said.returncode == 0) == (code == 0), said.stdout[-3000:] + said.stderr[-1000:]
    assert code is not None, said.stdout[-3000:]
    return code


def test_every_stage(cluster: RayCluster, record: Record, repository: Path, tmp_path: Path) -> None:
    table = read_spectra(repository / "data")
    write_table(table.filter(pc.is_null(table["error"])).slice(0, 400), tmp_path / "spectra" / "a.parquet")
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({"network": SMALL, "epochs": 1, "workers": 2}))
    small = {"fragment_atoms": 64, "min_atoms": 64, "direct_atoms": 54, "max_atoms": 130, "samples_per_parent": 1}
    (tmp_path / "simulate.yaml").write_text(yaml.safe_dump(small | {"parent_ids": ["Si", "GaAs"]}))
    spectra, run = str(tmp_path / "spectra"), str(tmp_path / "run")
    stages = {
        "simulate": ["--config", str(tmp_path / "simulate.yaml"), "--output", str(tmp_path / "simulated")],
        "train": [spectra, "--config", str(tmp_path / "train.yaml"), "--output", run, "--register"],
        "evaluate": [f"{run}/model", spectra, "--output", run],
        "promote": ["1"],
        "score": [spectra, str(tmp_path / "scored"), "--workers", "2"],
    }
    with MlflowServer(tmp_path / "mlflow", cluster.outside) as mlflow:
        environment = {"MLFLOW_TRACKING_URI": mlflow.uri, "OMP_NUM_THREADS": "1"}
        codes = {
            verb: submit(cluster, repository, environment, "defectnet", verb, *arguments)
            for verb, arguments in stages.items()
        }
        record("jobs", "exit_codes", **codes)
        assert set(codes.values()) == {0}
        assert json.loads((tmp_path / "scored" / "_manifest.json").read_text())["rows"] == 400
        wrong = submit(cluster, repository, environment, "defectnet", "score", "/nothing", str(tmp_path / "x"))
        mlflow.stop()
        away = submit(cluster, repository, environment, "defectnet", "score", spectra, str(tmp_path / "y"))
    record("jobs", "failing_exit_codes", no_such_input=wrong, registry_away=away)
    assert (wrong, away) == (2, 1)


def test_the_upload_is_small(record: Record, repository: Path, tmp_path: Path) -> None:
    import zipfile

    from ray._private.runtime_env.packaging import create_package

    create_package(str(repository), tmp_path / "job.zip", include_gitignore=True, logger=logging.getLogger("quiet"))
    names = zipfile.ZipFile(tmp_path / "job.zip").namelist()
    size = (tmp_path / "job.zip").stat().st_size
    record("jobs", "upload", bytes=size, files=len(names))
    carried = [file for folder in PACKAGE_DATA for file in (repository / folder).rglob("*") if file.is_file()]
    assert size < sum(file.stat().st_size for file in carried) + LARGEST_CODE_BYTES
    assert any(name.endswith("defectnet/released/weights.safetensors") for name in names)
    assert any(name.endswith("configs/score.yaml") for name in names)
    assert not [
        name
        for name in names
        if not name.endswith("/") and name.startswith(("data/", ".git/", ".venv/", "runs/", "tests/"))
    ]
