"""cluster.yaml, checked as far as that goes without a cloud."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from defectnet.io.ray_session import ONE_THREAD
from serving.proxy import HAPROXY_ENVIRONMENT


@pytest.fixture(scope="module")
def cluster(repository: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "cluster.yaml").read_text())
    return loaded


def test_ray_accepts_it(cluster: dict[str, Any]):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_the_head_computes_nothing_and_both_kinds_of_worker_scale(cluster: dict[str, Any]):
    kinds = cluster["available_node_types"]
    assert kinds[cluster["head_node_type"]]["resources"]["CPU"] == 0
    for kind in ("cpu_worker", "gpu_worker"):
        assert kinds[kind]["min_workers"] == 0 < kinds[kind]["max_workers"]


def test_only_ssh_is_open_and_not_to_the_world(cluster: dict[str, Any]):
    rules = cluster["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]
    assert not [network for rule in rules for network in rule["IpRanges"] if network["CidrIp"].endswith("/0")]


def test_every_start_command_asks_for_tokens(cluster: dict[str, Any]):
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)
    assert any(path.endswith("auth_token") for path in cluster["file_mounts"])


def test_every_start_command_has_the_proxy_and_the_threads_of_the_service(cluster: dict[str, Any], repository: Path):
    wanted = {**HAPROXY_ENVIRONMENT, "OMP_NUM_THREADS": ONE_THREAD["OMP_NUM_THREADS"]}
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    for command in (command for command in starts if "ray start" in command):
        given = dict(word.split("=", 1) for word in shlex.split(command.partition(";")[2]) if word[0].isupper())
        assert {name: given.get(name) for name in wanted} == wanted
    told = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    assert all(name in told for name in HAPROXY_ENVIRONMENT)


def test_simulation_and_scoring_run_on_spare_capacity(cluster: dict[str, Any]):
    market = cluster["available_node_types"]["cpu_worker"]["node_config"]["InstanceMarketOptions"]
    assert market == {"MarketType": "spot"}


def test_nodes_install_from_the_lock(cluster: dict[str, Any], repository: Path):
    installs = [line for line in cluster["setup_commands"] if "-e " in line]
    assert installs
    assert all("-c constraints.txt" in line for line in installs)
    wheel = next(line for line in (repository / "Makefile").read_text().splitlines() if line.startswith("NEP89_WHEEL"))
    assert any(wheel.split()[-1] in line for line in cluster["setup_commands"])


def test_nodes_run_the_ray_and_python_of_this_project(cluster: dict[str, Any], repository: Path):
    pins = (repository / "constraints.txt").read_text().splitlines()
    version = next(pin for pin in pins if pin.startswith("ray==")).removeprefix("ray==")
    images = [cluster["docker"]["image"], cluster["available_node_types"]["gpu_worker"]["docker"]["worker_image"]]
    assert all(image.startswith(f"rayproject/ray:{version}-py311") for image in images)
