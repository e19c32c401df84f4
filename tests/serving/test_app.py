"""The Serve application, as far as it goes without Ray: what it is told, and what its processes claim."""

import asyncio
import dataclasses
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from defectnet.errors import SettingsError
from defectnet.host import Host
from defectnet.query import Query
from defectnet.spectrum import Spectrum
from serving import loading
from serving.app import build, with_http_options
from serving.auth import hash_token
from serving.replica import Model
from serving.settings import DEFAULT_HOST, ServiceSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_an_open_door_is_refused_by_the_application_itself(host: str):
    assert with_http_options(ServiceSettings(), DEFAULT_HOST, None) == ServiceSettings()
    with_http_options(ServiceSettings(tokens={"beamline": hash_token("t")}), host, None)
    with pytest.raises(SettingsError, match=f"refusing to listen on {host}"):
        with_http_options(ServiceSettings(), host, None)


def test_a_deployed_application_has_the_time_limit_of_http_options():
    assert with_http_options(ServiceSettings(), DEFAULT_HOST, 120.0).request_timeout_s == 120.0
    assert with_http_options(ServiceSettings(request_timeout_s=5), DEFAULT_HOST, None).request_timeout_s == 5.0


def options(settings: ServiceSettings) -> dict[str, float]:
    """What Ray sets aside for a process that holds the model."""
    bound = build(settings)._bound_deployment
    model = bound if settings.joined else bound.init_args[1]._bound_deployment
    assert model.name == "model"
    return dict(model.ray_actor_options or {})


def test_replicas_share_a_gpu_where_they_are_given_one(artifact: Path):
    for form in ("auto", "joined", "split"):
        plain = ServiceSettings(model=str(artifact), form=form)
        assert options(plain)["num_gpus"] == 0
        assert options(plain.model_copy(update={"gpus_per_replica": 0.5}))["num_gpus"] == 0.5


def test_the_processes_of_the_model_listen_themselves_unless_they_hold_a_gpu(artifact: Path):
    def listens(**changes: Any) -> str:
        name: str = build(ServiceSettings(model=str(artifact), **changes))._bound_deployment.name
        return name

    assert listens() == listens(form="joined", gpus_per_replica=1) == "model"
    assert listens(form="split") == listens(gpus_per_replica=1) == "ingress"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_replica_with_a_gpu_computes_there(artifact: Path):
    with pytest.raises(SettingsError, match="cuda"):
        Model(ServiceSettings(gpus_per_replica=0.5), str(artifact))


def test_a_replica_with_a_gpu_computes_where_and_how_it_is_told(artifact: Path):
    """The processor stands in for a device that torch names otherwise."""
    model = Model(ServiceSettings(gpus_per_replica=0.5, device="cpu", precision="bfloat16"), str(artifact))
    try:
        assert model._swap.current is not None
        predictor = model._swap.current.predictor
        assert next(predictor.network.parameters()).device.type == "cpu"
        assert predictor._precision == "bfloat16"
    finally:
        model._swap.stop()


def test_a_replica_computes_as_many_together_as_it_is_told(artifact: Path):
    """Once the predictor cut every batch at its own 64, whatever the settings said."""
    model = Model(ServiceSettings(max_batch_size=200), str(artifact))
    try:
        assert model._swap.current is not None
        assert model._swap.current.predictor.batch_size == 200
    finally:
        model._swap.stop()


def test_a_replica_answers_while_it_loads_the_next_model(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Loading beside the requests, and one reference replaced: no request waits for it."""
    begun, go_on = threading.Event(), threading.Event()
    loaded = loading.load_model

    def slow(source: Any, version: Any, **kwargs: Any) -> Any:
        if version.version == "next":
            begun.set()
            assert go_on.wait(60)
        return loaded(source, version, **kwargs)

    monkeypatch.setattr(loading, "load_model", slow)
    model = Model(ServiceSettings(poll_interval_s=0.05), str(artifact))
    try:
        first = model._swap.current
        assert first is not None
        promoted = dataclasses.replace(first.version, version="next")
        monkeypatch.setattr(model._swap._source, "current", lambda: promoted)
        model._swap.look_now()
        assert begun.wait(60)
        axis = [0.1 * i for i in range(1, 100)]
        query = Query("one", Host("Si"), Spectrum.from_unit(axis, [1.0] * 99, "THz"))
        answers = [asyncio.run(model.predict([query])) for _ in range(3)]
        assert [answer[0]["model_version"] for answer in answers] == 3 * [first.version.version]
        go_on.set()
        deadline = time.monotonic() + 60
        while model._swap.current is first and time.monotonic() < deadline:
            time.sleep(0.02)
        assert asyncio.run(model.predict([query]))[0]["model_version"] == "next"
    finally:
        go_on.set()
        model.close()
