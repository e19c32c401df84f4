"""The Ray Serve application: replicas that hold the model and read requests themselves, or an ingress before them.

Joined, one process goes from the proxy to the answer, which is the shortest way on CPUs. Split, a few processes read
and check requests, and those that hold a GPU do nothing but compute. `serving.app:build` is what `configs/serve.yaml`
names, so `serve deploy configs/serve.yaml` and `defectnet serve` run the same application. Where a challenger is set, a
deployment of its own holds it.
"""

from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from prometheus_client import Metric
from ray import serve
from ray.serve.handle import DeploymentHandle

from defectnet.errors import SettingsError
from defectnet.io.ray_session import ONE_THREAD
from defectnet.io.storage import Location
from defectnet.models import ModelReference, tracking_uri
from defectnet.responses import PACKAGED
from serving.api import make_api
from serving.backends import APPLICATION, OwnModel, ReplicaBackend, process_name
from serving.batch.book import BatchBook
from serving.batch.jobs import RayJobs
from serving.replica import Model
from serving.settings import DEFAULT_HOST, Replicas, ServiceSettings, is_loopback
from serving.tracing import Tracing, open_tracing

__all__ = ["APPLICATION", "CONTROLLER", "SERVE_NAMESPACE", "Ingress", "Replica", "build", "with_http_options"]

# The name and the namespace under which Ray Serve keeps its controller.
CONTROLLER, SERVE_NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"

# An MLflow server that is down must be noticed in seconds (its client would go on trying for minutes), so that the next
# look finds it when it is back.
_ENVIRONMENT = {
    **ONE_THREAD,
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class _Http:
    """The HTTP interface, built in the process that runs it: `make_api` needs handles, which exist only there."""

    _settings: ServiceSettings
    _backend: OwnModel | ReplicaBackend
    _tracing: Tracing

    def __serve_build_asgi_app__(self) -> FastAPI:
        settings, backend = self._settings, self._backend
        book = BatchBook(settings.batches, RayJobs(), tracking_uri(settings.tracking_uri), settings.hosts)
        return make_api(settings, backend, book, backend.registry, self._tracing)


@serve.ingress()
class Ingress(_Http):
    """Reads and checks requests, and asks the replicas; holds no model."""

    def __init__(
        self, settings: ServiceSettings, model: DeploymentHandle, challenger: DeploymentHandle | None = None
    ) -> None:
        self._settings = settings = with_http_options(settings, *_http_options())
        self._backend = ReplicaBackend(model, challenger, settings.max_batch_size)
        self._tracing = open_tracing(settings.trace_endpoint, self._backend.process)

    async def metrics(self) -> tuple[str, list[Metric]]:
        """This process's name and counters."""
        return self._backend.process, list(self._backend.registry.collect())


@serve.ingress()
class Replica(_Http):
    """Holds the model, and reads and checks requests itself: one process from the proxy to the answer."""

    def __init__(self, settings: ServiceSettings, challenger: DeploymentHandle | None = None) -> None:
        self._settings = settings = with_http_options(settings, *_http_options())
        self._tracing = open_tracing(settings.trace_endpoint, process_name("model"))
        self._model = Model(settings, settings.model, tracing=self._tracing)
        self._backend = OwnModel(self._model, challenger, settings.max_batch_size)

    async def describe(self) -> dict[str, Any]:
        """As `Model.describe`."""
        return await self._model.describe()

    async def look_now(self) -> None:
        """As `Model.look_now`."""
        await self._model.look_now()

    async def metrics(self) -> tuple[str, list[Metric]]:
        """This process's name, and the counters of its requests and of its model."""
        process, counted = await self._model.metrics()
        return process, [*counted, *self._backend.registry.collect()]


def build(args: ServiceSettings) -> serve.Application:
    """Build the application; the entry point of `serve deploy`, which passes the YAML's `args`."""
    settings = _with_absolute_paths(args)
    challenger = None
    if settings.shadow.model is not None:
        one = Replicas(cpus=settings.replicas.cpus)
        challenger = _models("challenger", settings, one).bind(settings, settings.shadow.model, optional=True)
    if settings.joined:
        return _listening("model", Replica, settings, settings.replicas).bind(settings, challenger)
    model = _models("model", settings, settings.replicas).bind(settings, settings.model)
    return _listening("ingress", Ingress, settings, settings.ingress).bind(settings, model, challenger)


def _listening(name: str, kind: type[_Http], settings: ServiceSettings, replicas: Replicas) -> serve.Deployment:
    return serve.deployment(
        name=name,
        # Those beyond what the model queues must get in as well, to be sent away with a clear answer.
        max_ongoing_requests=4 * settings.max_queued_requests,
        **_scaling(replicas, settings, gpus=settings.gpus_per_replica if kind is Replica else 0.0),
    )(kind)


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

    hosts = settings.hosts
    shadow, batches, secret = settings.shadow, settings.batches, settings.webhook_secret_file
    return settings.model_copy(
        update={
            "model": meant(settings.model),
            "tracking_uri": tracking_uri(settings.tracking_uri),
            "webhook_secret_file": secret and absolute(secret),
            "hosts": hosts.model_copy(
                update={
                    "store": str(Location.of(hosts.store)),
                    "library": hosts.library if hosts.library in (None, PACKAGED) else str(Location.of(hosts.library)),
                }
            ),
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
