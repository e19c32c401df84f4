"""The Ray Serve application: an ingress that reads and checks requests, before replicas that hold the model.

`serving.app:build` is what `configs/serve.yaml` names, so `serve deploy configs/serve.yaml` and `defectnet serve` run
the same application. Where a challenger is set, a third deployment holds it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Metric
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle

from defectnet.errors import BusyError, SettingsError
from defectnet.io.ray_session import ONE_THREAD
from defectnet.models import ModelReference, tracking_uri
from defectnet.query import Query
from serving.api import make_api
from serving.batch.book import BatchBook
from serving.batch.jobs import RayJobs
from serving.replica import Model
from serving.settings import DEFAULT_HOST, Replicas, ServiceSettings, is_loopback

__all__ = ["APPLICATION", "CONTROLLER", "SERVE_NAMESPACE", "Ingress", "ReplicaBackend", "build", "with_http_options"]

logger = logging.getLogger(__name__)

APPLICATION = "defectnet"
# The name and the namespace under which Ray Serve keeps its controller.
CONTROLLER, SERVE_NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"

# An MLflow server that is down must be noticed in seconds (its client would go on trying for minutes), so that the next
# look finds it when it is back.
_ENVIRONMENT = {
    **ONE_THREAD,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
# A question to every replica, one of which may be starting or dying.
_BROADCAST_S = 5.0
# How soon a question whose replica died is asked again: Serve needs some tenths of a second to notice it.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class ReplicaBackend:
    """The replicas, as the HTTP interface sees them."""

    def __init__(self, model: DeploymentHandle, challenger: DeploymentHandle | None, max_batch_size: int) -> None:
        # Among the service's own processes; Ray's default, cloudpickle, takes ten times as long for a small answer.
        self._model = model.options(request_serialization="pickle", response_serialization="pickle")
        self._challenger, self._max_batch_size = challenger, max_batch_size
        self.process = f"ingress-{socket.gethostname()}-{os.getpid()}"
        self.registry = CollectorRegistry()

    async def predict(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Send queries in groups of at most a batch, which may be answered by several replicas at once."""
        step = self._max_batch_size
        if len(queries) <= step:
            return await self._predict(list(queries))
        groups = [list(queries[start : start + step]) for start in range(0, len(queries), step)]
        made = await asyncio.gather(*(self._predict(group) for group in groups))
        return [answer for group in made for answer in group]

    async def _predict(self, group: list[Query]) -> list[dict[str, Any]]:
        """Ask one replica; where it dies with the question, ask another. The request's own deadline ends it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                answers: list[dict[str, Any]] = await self._model.predict.remote(group)
            except BackPressureError as error:
                raise BusyError(error.retry_after_s or 1.0) from None
            except RayActorError:
                logger.warning("a replica is gone; what it was asked goes to another")
                await asyncio.sleep(pause_s)
                pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
            else:
                return answers

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        """Ask one replica for an answer and what is behind it."""
        try:
            studied: dict[str, Any] = await self._model.study.remote(query, source)
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None
        return studied

    async def challenge(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        """Ask the challenger, of which one batch is enough to compare."""
        if self._challenger is None:
            return []
        answers: list[dict[str, Any]] = await self._challenger.challenge.remote(list(queries[: self._max_batch_size]))
        return answers

    async def ready(self) -> None:
        """Ask one replica whether it is there."""
        try:
            await self._model.ready.remote()
        except BackPressureError as error:
            raise BusyError(error.retry_after_s or 1.0) from None

    async def describe(self) -> list[dict[str, Any]]:
        """Ask every replica which model it holds."""
        described: list[dict[str, Any]] = await _ask_all(self._model, "describe")
        if not described:
            raise BusyError
        return described

    async def refresh(self) -> None:
        """Have every replica, and the challenger's, look at the registry now."""
        for handle in (self._model, self._challenger):
            if handle is not None:
                await _ask_all(handle, "look_now")

    async def metrics(self) -> list[tuple[str, list[Metric]]]:
        """The counters of all processes: this one asks the others."""
        handles = [self._model, self._challenger, serve.get_deployment_handle("ingress", APPLICATION)]
        answers = await asyncio.gather(*(_ask_all(handle, "metrics") for handle in handles if handle is not None))
        return sorted((answer for group in answers for answer in group), key=lambda answer: str(answer[0]))


async def _ask_all(handle: DeploymentHandle, method: str) -> list[Any]:
    """The answers of those replicas that answer."""
    try:
        answers = await handle.broadcast(method).results_async(timeout_s=_BROADCAST_S, return_exceptions=True)
    except TimeoutError:
        return []
    return [answer for answer in answers if not isinstance(answer, BaseException)]


@serve.ingress()
class Ingress:
    """The HTTP interface, built in the replica (`make_api` needs the handles, which exist only there)."""

    def __init__(
        self, settings: ServiceSettings, model: DeploymentHandle, challenger: DeploymentHandle | None = None
    ) -> None:
        self._settings = settings = with_http_options(settings, *_http_options())
        self._backend = ReplicaBackend(model, challenger, settings.max_batch_size)

    def __serve_build_asgi_app__(self) -> FastAPI:
        settings, backend = self._settings, self._backend
        book = BatchBook(settings.batches, RayJobs(), tracking_uri(settings.tracking_uri))
        return make_api(settings, backend, book, backend.registry)

    async def metrics(self) -> tuple[str, list[Metric]]:
        """This process's name and counters."""
        return self._backend.process, list(self._backend.registry.collect())


def build(args: ServiceSettings) -> serve.Application:
    """Build the application; the entry point of `serve deploy`, which passes the YAML's `args`."""
    settings = _with_absolute_paths(args)
    model = _models("model", settings, settings.replicas).bind(settings, settings.model)
    challenger = None
    if settings.shadow.model is not None:
        one = Replicas(cpus=settings.replicas.cpus)
        challenger = _models("challenger", settings, one).bind(settings, settings.shadow.model, optional=True)
    ingress = serve.deployment(
        name="ingress",
        # Those beyond what the model queues must get in as well, to be sent away with a clear answer.
        max_ongoing_requests=4 * settings.max_queued_requests,
        **_scaling(settings.ingress, settings),
    )(Ingress)
    return ingress.bind(settings, model, challenger)


def _models(name: str, settings: ServiceSettings, replicas: Replicas) -> serve.Deployment:
    return serve.deployment(
        name=name,
        # At least a batch's worth must be let in, or no batch could ever fill; twice, so that the next one gathers.
        max_ongoing_requests=2 * settings.max_batch_size,
        max_queued_requests=settings.max_queued_requests,
        **_scaling(replicas, settings, gpus=settings.gpus_per_replica),
    )(Model)


def _with_absolute_paths(settings: ServiceSettings) -> ServiceSettings:
    """The replicas do not share the working folder of whoever started them."""

    def absolute(path: str) -> str:
        return str(Path(path).absolute())

    def meant(model: str) -> str:
        return str(ModelReference.parse(model).absolute())

    shadow, batches, secret = settings.shadow, settings.batches, settings.webhook_secret_file
    return settings.model_copy(
        update={
            "model": meant(settings.model),
            "tracking_uri": tracking_uri(settings.tracking_uri),
            "webhook_secret_file": secret and absolute(secret),
            "shadow": shadow.model_copy(update={"model": shadow.model and meant(shadow.model)}),
            "batches": batches.model_copy(
                update={
                    "roots": tuple(absolute(root) for root in batches.roots),
                    "results": absolute(batches.results),
                }
            ),
        }
    )


def _scaling(replicas: Replicas, settings: ServiceSettings, *, gpus: float = 0.0) -> dict[str, Any]:
    return {
        "autoscaling_config": {
            "min_replicas": replicas.minimum,
            "max_replicas": replicas.maximum,
            "target_ongoing_requests": replicas.target_ongoing_requests,
            "upscale_delay_s": replicas.upscale_delay_s,
            "downscale_delay_s": replicas.downscale_delay_s,
        },
        # A replica that is told to go may finish what it has begun, which is no longer than a request may take.
        "graceful_shutdown_timeout_s": settings.request_timeout_s,
        "ray_actor_options": {
            "num_cpus": replicas.cpus,
            "num_gpus": gpus,
            "runtime_env": {"env_vars": _ENVIRONMENT},
        },
    }


def with_http_options(settings: ServiceSettings, host: str, request_timeout_s: float | None) -> ServiceSettings:
    """`settings` with the address and the time limit that Serve's own proxies were told.

    `serve deploy` takes both from the file's `http_options`, or from a cluster that already listens, which the
    application's own settings do not see.

    Raises:
        SettingsError: `host` can be reached from outside and no token is asked for.
    """
    if not settings.tokens and not is_loopback(host):
        raise SettingsError(
            f"refusing to listen on {host} without a token; add one under `tokens`, or set http_options.host: 127.0.0.1"
        )
    limit_s = settings.request_timeout_s if request_timeout_s is None else request_timeout_s
    return settings.model_copy(update={"host": host, "request_timeout_s": limit_s})


def _http_options() -> tuple[str, float | None]:
    """The address that the proxies listen on and their time limit in seconds, of which the controller knows."""
    controller = ray.get_actor(CONTROLLER, namespace=SERVE_NAMESPACE)
    options: Any = ray.get(controller.get_http_config.remote())
    return options.host or DEFAULT_HOST, options.request_timeout_s
