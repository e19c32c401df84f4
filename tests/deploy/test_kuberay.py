"""The Kubernetes manifests, checked as far as that goes without Kubernetes.

KubeRay publishes its CRD schemas in its repository only, in no package: the names and types below are those of its API
reference (ray.io/v1, KubeRay 1.5), so that a misspelt field fails here as `kubectl apply` would fail there. What lies
inside a pod template is checked for what Ray and this project need of it.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.proxy import HAPROXY_ENVIRONMENT
from serving.settings import ServiceSettings

CLUSTER: dict[str, Any] = {
    "rayVersion": str,
    "authOptions": {"mode": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"idleTimeoutSeconds": int, "upscalingMode": str, "version": str},
    "headGroupSpec": {"serviceType": str, "enableIngress": bool, "rayStartParams": {str: str}, "template": dict},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "idleTimeoutSeconds": int,
            "numOfHosts": int,
            "rayStartParams": {str: str},
            "template": dict,
        }
    ],
    "gcsFaultToleranceOptions": {
        "redisAddress": str,
        "redisUsername": {"value": str, "valueFrom": dict},
        "redisPassword": {"value": str, "valueFrom": dict},
        "externalStorageNamespace": str,
    },
    "suspend": bool,
}
SPECS: dict[str, Any] = {
    "RayCluster": CLUSTER,
    "RayJob": {
        "entrypoint": str,
        "runtimeEnvYAML": str,
        "clusterSelector": {str: str},
        "submissionMode": str,
        "submitterConfig": {"backoffLimit": int},
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": CLUSTER,
    },
    "RayService": {
        "serveConfigV2": str,
        "excludeHeadPodFromServeSvc": bool,
        "rayClusterConfig": CLUSTER,
        "upgradeStrategy": {"type": str},
    },
}
MANIFESTS = ("raycluster.yaml", "rayjob.yaml", "rayservice.yaml")


def check(value: Any, schema: Any, where: str) -> None:
    """Compare a manifest with the names and types of the API reference."""
    if isinstance(schema, type):
        assert type(value) is schema, f"{where} is {type(value).__name__}, not {schema.__name__}"
    elif isinstance(schema, list):
        assert isinstance(value, list), f"{where} is no list"
        for index, item in enumerate(value):
            check(item, schema[0], f"{where}[{index}]")
    elif str in schema:  # any names
        for name, item in value.items():
            check(item, schema[str], f"{where}.{name}")
    else:
        for name, item in value.items():
            assert name in schema, f"{where} has no field {name}"
            check(item, schema[name], f"{where}.{name}")


def load(repository: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((repository / "deploy" / name).read_text(encoding="utf-8"))
    return loaded


def clusters(repository: Path) -> list[dict[str, Any]]:
    return [
        load(repository, "raycluster.yaml")["spec"],
        load(repository, "rayservice.yaml")["spec"]["rayClusterConfig"],
    ]


@pytest.mark.parametrize("name", MANIFESTS)
def test_fields_are_those_of_the_api_reference(repository: Path, name: str) -> None:
    manifest = load(repository, name)
    assert manifest["apiVersion"] == "ray.io/v1"
    check(manifest["spec"], SPECS[manifest["kind"]], manifest["kind"])


def test_a_misspelt_field_would_fail() -> None:
    with pytest.raises(AssertionError, match="RayCluster has no field headGroupSpecs"):
        check({"headGroupSpecs": {}}, CLUSTER, "RayCluster")
    with pytest.raises(AssertionError, match="is int, not str"):
        check({"headGroupSpec": {"rayStartParams": {"num-cpus": 0}}}, CLUSTER, "RayCluster")


def test_tokens_are_asked_for_and_nothing_is_open_to_the_world(repository: Path) -> None:
    for cluster in clusters(repository):
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
        assert not cluster["headGroupSpec"].get("enableIngress")


def test_what_the_head_knows_outlives_it_and_its_password_is_a_secret(repository: Path) -> None:
    documents = list(yaml.safe_load_all((repository / "deploy" / "valkey.yaml").read_text(encoding="utf-8")))
    store, service = (next(one for one in documents if one["kind"] == kind) for kind in ("StatefulSet", "Service"))
    (port,) = service["spec"]["ports"]
    for cluster in clusters(repository):
        options = cluster["gcsFaultToleranceOptions"]
        assert options["redisAddress"] == f"redis://{service['metadata']['name']}:{port['port']}"
        (container,) = store["spec"]["template"]["spec"]["containers"]
        (password,) = container["env"]
        assert options["redisPassword"]["valueFrom"] == password["valueFrom"]
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["selector"] == store["spec"]["template"]["metadata"]["labels"]


def test_nobody_is_root_and_nothing_is_written_but_to_tmp(repository: Path) -> None:
    store = list(yaml.safe_load_all((repository / "deploy" / "valkey.yaml").read_text(encoding="utf-8")))[1]
    pods = [store["spec"]["template"]["spec"]]
    for cluster in clusters(repository):
        groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        pods += [group["template"]["spec"] for group in groups]
    assert len(pods) == 6
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {mount["mountPath"] for mount in container["volumeMounts"]} <= {"/tmp", "/data"}


def test_pods_run_the_pinned_ray_and_have_limits(repository: Path) -> None:
    pins = (repository / "constraints.txt").read_text().splitlines()
    version = next(pin for pin in pins if pin.startswith("ray==")).removeprefix("ray==")
    assert f"rayproject/ray:{version}-py311" in (repository / "deploy" / "Dockerfile").read_text()
    for cluster in clusters(repository):
        assert cluster["rayVersion"] == version
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
            assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
            assert any(entry["name"] == "MLFLOW_TRACKING_URI" for entry in container["env"])


def test_the_service_is_the_one_of_configs_with_a_token(repository: Path) -> None:
    deployed = yaml.safe_load(load(repository, "rayservice.yaml")["spec"]["serveConfigV2"])
    local = yaml.safe_load((repository / "configs" / "serve.yaml").read_text())
    (application,), (of_configs,) = deployed["applications"], local["applications"]
    for key in ("name", "route_prefix", "import_path"):
        assert application[key] == of_configs[key]
    settings = ServiceSettings(**application["args"], host=deployed["http_options"]["host"])
    assert settings.tokens
    assert settings.replicas.minimum == 2


def test_the_service_has_the_proxy_of_defectnet_serve(repository: Path) -> None:
    cluster = load(repository, "rayservice.yaml")["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        given = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert {name: given.get(name) for name in HAPROXY_ENVIRONMENT} == dict(HAPROXY_ENVIRONMENT)


def test_the_job_is_a_verb_on_the_cluster_beside_it(repository: Path) -> None:
    job = load(repository, "rayjob.yaml")["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": load(repository, "raycluster.yaml")["metadata"]["name"]}
    assert job["entrypoint"].startswith("defectnet score s3://")
