"""Training by two workers on two nodes, while parts of the cluster die: from the last checkpoint, in one run."""

import json
import os
import signal
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest
import yaml
from support.mlflow_server import MlflowServer
from support.nodes import RayCluster, Record, kill_driver, wait_for

from defectnet.io.tables import read_spectra, write_table
from defectnet.model.artifact import load_artifact

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1800)]

EPOCHS, ROWS = 12, 600
SETTINGS = {
    "network": {"width": 16, "encoder_layers": 1, "decoder_layers": 1, "stem_channels": 4, "patch_bins": 16},
    "epochs": EPOCHS,
    "patience": EPOCHS,
    "batch_size": 16,
    "workers": 2,
    "cpus_per_worker": 2,  # all of a node: the two workers must be on two
    "max_failures": 3,
}


@pytest.fixture(scope="module")
def mlflow(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory):
    with MlflowServer(tmp_path_factory.mktemp("mlflow"), cluster.outside) as server:
        yield server


@pytest.fixture(scope="module")
def spectra(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = read_spectra(repository / "data")
    path = tmp_path_factory.mktemp("data") / "spectra.parquet"
    write_table(table.filter(pc.is_null(table["error"])).slice(0, ROWS), path)
    return path


def checkpoint_epoch(output: Path) -> int:
    """The epoch of the latest checkpoint; 0 without one."""
    epochs = [0]
    for file in (output / "checkpoints").glob("checkpoint_*/progress.json"):
        try:
            epochs.append(json.loads(file.read_text())["epoch"])
        except (OSError, ValueError, KeyError):
            continue  # being written or removed
    return max(epochs)


@pytest.mark.parametrize(
    "fault", ["worker_process", "worker_node", "driver", "network_cut_30_s", "mlflow_stopped_20_s"]
)
def test_training_goes_on(
    cluster: RayCluster, mlflow: MlflowServer, spectra: Path, record: Record, tmp_path: Path, fault: str
) -> None:
    from mlflow import MlflowClient

    output, log = tmp_path / fault, tmp_path / "driver.log"
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(SETTINGS))
    arguments = ["train", str(spectra), "--config", str(tmp_path / "train.yaml"), "--output", str(output)]
    begun = time.monotonic()
    driver = cluster.driver(*arguments, log=log, MLFLOW_TRACKING_URI=mlflow.uri)
    try:
        wait_for(lambda: checkpoint_epoch(output) >= 2 or driver.poll() is not None, "the second checkpoint")
        assert driver.poll() is None, log.read_text()[-3000:]
        resumed_from = checkpoint_epoch(output)
        if fault == "worker_process":
            os.kill(cluster.workers[0].workers("RayTrainWorker")[0], signal.SIGKILL)
        elif fault == "worker_node":
            # The node without the controller: that one is resumed like a driver.
            without = [node for node in cluster.workers if not node.workers("TrainController")]
            without[0].kill()
            cluster.start(without[0])  # as an autoscaler would: two workers need two nodes
        elif fault == "network_cut_30_s":
            cluster.workers[0].cut_for()
        elif fault == "mlflow_stopped_20_s":
            mlflow.stop_for()
        elif fault == "driver":
            kill_driver(driver)
            driver = cluster.driver(*arguments, log=log, MLFLOW_TRACKING_URI=mlflow.uri)
        cluster.wait(driver, 600)
    except TimeoutError:
        pytest.fail(f"{fault}: {log.read_text()[-3000:]}")
    finally:
        kill_driver(driver)
    assert driver.returncode == 0, log.read_text()[-3000:]

    client = MlflowClient(mlflow.uri, mlflow.uri)
    run_id = json.loads((output / "run.json").read_text())["mlflow_run_id"]
    experiment = client.get_run(run_id).info.experiment_id
    runs = [run for run in client.search_runs([experiment]) if run.info.run_name == fault]
    steps = [metric.step for metric in client.get_metric_history(run_id, "validation_loss")]
    figures = {
        "epochs_expected": EPOCHS,
        "epochs_once": sum(steps.count(step) == 1 for step in set(steps)),
        "epochs_missing": EPOCHS - len(set(steps)),
        "epochs_twice": sum(steps.count(step) > 1 for step in set(steps)),
        "resumed_from": resumed_from,
        "mlflow_runs": len(runs),
    }
    record("train", fault, **figures, seconds=round(time.monotonic() - begun, 1))
    load_artifact(output / "model")
    assert len(runs) == 1
    assert sorted(steps) == list(range(1, EPOCHS + 1))
    assert client.get_run(run_id).info.status == "FINISHED"
