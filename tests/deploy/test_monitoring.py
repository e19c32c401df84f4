"""The alert rules and the dashboard ask for metrics that there are, by the labels that they have."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from serving.metrics import ObservedRequests, ReplicaMetrics
from serving.shadow import Shadowing

METRIC = re.compile(r"\bdefectnet_\w+")


class NoSwap:
    """Before the first model."""

    current, problem, swaps = None, None, 0


@pytest.fixture(scope="module")
def names() -> set[str]:
    """The names of all series that the service shows."""
    registry = CollectorRegistry()
    ObservedRequests(None, registry)  # type: ignore[arg-type]
    Shadowing(None, 1, registry)  # type: ignore[arg-type]
    found = set()
    for metric in [*registry.collect(), *ReplicaMetrics(NoSwap()).collect()]:  # type: ignore[arg-type]
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(metric.type, [""])
        found |= {metric.name + ending for ending in endings}
    return found


def expressions(repository: Path) -> Iterator[tuple[str, str]]:
    folder = repository / "deploy" / "monitoring"
    for group in yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board: dict[str, Any] = json.loads((folder / "dashboard.json").read_text(encoding="utf-8"))
    for asked in board["annotations"]["list"]:
        yield asked["name"], asked["expr"]
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_every_metric_that_is_asked_for_is_there(repository: Path, names: set[str]):
    asked = [(where, name) for where, text in expressions(repository) for name in METRIC.findall(text)]
    assert len(asked) > 20
    assert [one for one in asked if one[1] not in names] == []


def test_every_alert_says_what_to_do(repository: Path):
    (group,) = yaml.safe_load((repository / "deploy" / "monitoring" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["annotations"].keys() == {"summary", "action"}
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}


def _promtool(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("needs promtool (apt install prometheus)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)


def test_prometheus_reads_every_expression(repository: Path, tmp_path: Path):
    rules = [
        {"record": f"one:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, (_, text) in enumerate(expressions(repository))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    said = _promtool(tmp_path, "check", "rules", str(file))
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        ("DefectNetModelProblem", {'defectnet_model_problem{process="model-a-1"}': "0 0 1x20"}),
        (
            "DefectNetTwoModels",
            {
                'defectnet_model_info{process="model-a-1",model_version="3"}': "1x20",
                'defectnet_model_info{process="model-b-1",model_version="4"}': "1x20",
            },
        ),
        (
            "DefectNetErrors",
            {
                'defectnet_requests_total{status="200",route="/v1/predict"}': "0+90x20",
                'defectnet_requests_total{status="503",route="/v1/predict"}': "0+10x20",
            },
        ),
        ("DefectNetDown", {'up{job="defectnet"}': "1x20"}),
    ],
)
def test_an_alert_fires_when_it_should_and_not_in_peace(
    repository: Path, tmp_path: Path, alert: str, series: dict[str, str]
):
    def fires(inputs: dict[str, str]) -> bool:
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in inputs.items()],
            "alert_rule_test": [{"eval_time": "15m", "alertname": alert, "exp_alerts": []}],
        }
        file = tmp_path / "test.yaml"
        rules = str(repository / "deploy" / "monitoring" / "alerts.yaml")
        file.write_text(yaml.safe_dump({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]}))
        return _promtool(tmp_path, "test", "rules", str(file)).returncode != 0  # none was expected

    peace = {
        'defectnet_model_info{process="model-a-1",model_version="3"}': "1x20",
        'defectnet_model_info{process="challenger-a-1",model_version="4"}': "1x20",
        'defectnet_model_problem{process="model-a-1"}': "0x20",
        'defectnet_requests_total{status="200",route="/v1/predict"}': "0+90x20",
    }
    assert not fires(peace)
    assert fires(series)
