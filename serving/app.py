"""The Ray Serve application: an ingress that reads and checks requests, before replicas that hold the model.

`serving.app:build` is what `configs/serve.yaml` names, so `serve deploy configs/serve.yaml` and `defectnet serve` run
the same application.
"""

import asyncio
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from defectnet.errors import SettingsError
from defectnet.query import Query
from serving.api import BusyError, make_api
from serving.models_source import absolute_tracking_uri
from serving.replica import Model
from serving.settings import Replicas, ServiceSettings, is_loopback

__all__ = ["APPLICATION", "CONTROLLER", "Ingress", "ReplicaBackend", "build", "refuse_open_door"]

APPLICATION = "defectnet"
# The name under which Ray Serve keeps its controller.
CONTROLLER = "SERVE_CONTROLLER_ACTOR"

# Every process of the service computes with one thread: processes are what scales. An MLflow server that is down must
# be noticed in seconds (its client would go on trying for minutes), so that the next look finds it when it is back.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class ReplicaBackend:
    """The replicas, as the HTTP interface sees them."""

    def __init__(self, model: DeploymentHandle, max_batch_size: int) -> None:
        self._model, self._max_batch_size = model, max_batch_size

    async def predict(self, queries: list[Query]) -> list[dict[str, Any]]:
        """Send queries in groups of at most a batch, which may be answered by several replicas at once."""
        step = self._max_batch_size
        groups = [queries[start : start + step] for start in range(0, len(queries), step)]
        try:
            answers = await asyncio.gather(*(self._model.predict.remote(group) for group in groups))
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None
        return [answer for group in answers for answer in group]

    async def describe(self) -> dict[str, Any]:
        """Ask one replica which model it holds."""
        try:
            description: dict[str, Any] = await self._model.describe.remote()
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None
        return description


@serve.ingress()
class Ingress:
    """The HTTP interface, built in the replica (`make_api` needs the handle, which exists only there)."""

    def __init__(self, settings: ServiceSettings, model: DeploymentHandle) -> None:
        refuse_open_door(settings, _listening_on())
        self._settings = settings
        self._backend = ReplicaBackend(model, settings.max_batch_size)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_api(self._settings, self._backend)


def build(args: ServiceSettings) -> serve.Application:
    """Build the application; the entry point of `serve deploy`, which passes the YAML's `args`."""
    # Absolute, because the replicas do not share the working folder of whoever started them.
    model_at = args.model if args.model.startswith("models:") else str(Path(args.model).absolute())
    settings = args.model_copy(update={"model": model_at, "tracking_uri": absolute_tracking_uri(args.tracking_uri)})
    model = serve.deployment(
        name="model",
        # At least a batch's worth must be let in, or no batch could ever fill; twice, so that the next one gathers.
        max_ongoing_requests=2 * settings.max_batch_size,
        max_queued_requests=settings.max_queued_requests,
        **_scaling(settings.replicas),
    )(Model).bind(settings)
    ingress = serve.deployment(
        name="ingress",
        # Those beyond what the model queues must get in as well, to be sent away with a clear answer.
        max_ongoing_requests=4 * settings.max_queued_requests,
        **_scaling(settings.ingress),
    )(Ingress)
    return ingress.bind(settings, model)


def _scaling(replicas: Replicas) -> dict[str, Any]:
    return {
        "autoscaling_config": {
            "min_replicas": replicas.minimum,
            "max_replicas": replicas.maximum,
            "target_ongoing_requests": replicas.target_ongoing_requests,
        },
        "ray_actor_options": {"num_cpus": replicas.cpus, "runtime_env": {"env_vars": _ENVIRONMENT}},
    }


def refuse_open_door(settings: ServiceSettings, host: str) -> None:
    """Raise `SettingsError` where `host` can be reached from outside and no token is asked for."""
    if not settings.tokens and not is_loopback(host):
        raise SettingsError(
            f"refusing to listen on {host} without a token; add one under `tokens`, or set http_options.host: 127.0.0.1"
        )


def _listening_on() -> str:
    """The address that the proxies listen on.

    `serve deploy` takes it from the file's `http_options`, or from a cluster that already listens, which the
    application's own settings do not see; so the controller is asked.
    """
    controller = ray.get_actor(CONTROLLER, namespace="serve")
    options: Any = ray.get(controller.get_http_config.remote())
    return options.host or "127.0.0.1"
