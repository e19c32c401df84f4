"""The service on one machine: Ray, proxy and application started together and stopped together."""

import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from defectnet.errors import RegistryError
from defectnet.io.ray_session import ray_session
from serving.hot_swap import HotSwap
from serving.loading import loader
from serving.models_source import open_source
from serving.proxy import BINARY_VARIABLE, drain, free_port, proxy_environment
from serving.settings import ServiceSettings

__all__ = ["running_service"]

logger = logging.getLogger(__name__)

# Torch, MLflow and the model are imported and loaded in some 15 s; a cold disk or a busy machine takes several times as
# long.
_READY_WITHIN_S = 180.0
# Replicas finish their requests first; they have no more than a request's time for it.
_STOPPED_WITHIN_S = 60.0
# The last line of a traceback, such as "defectnet.errors.SettingsError: refusing to listen".
_EXCEPTION = re.compile(r"[\w.]+(Error|Exception): ")


@contextmanager
def running_service(settings: ServiceSettings) -> Iterator[str]:
    """Run the service until the context ends, which leaves nothing of it running.

    Yields:
        its address, such as "http://127.0.0.1:8000", once it answers.

    Raises:
        RegistryError: there is no such model, or the service did not come up.
        SettingsError: HAProxy was asked for and there is none.
    """
    # Loaded once here, to say in one sentence and at once what every replica would otherwise fail on.
    # It also writes the response library where all replicas map it.
    HotSwap(open_source(settings.model, settings.tracking_uri), settings.poll_interval_s, load=loader(settings))
    settings = settings.model_copy(update={"port": settings.port or free_port()})
    with ExitStack() as stack:
        variables = stack.enter_context(proxy_environment(settings.proxy))
        stack.enter_context(
            ray_session(_cores(settings), dashboard=bool(settings.batches.roots) or settings.hosts.prepare)
        )
        # Imported only now: Ray Serve reads the environment when it is imported.
        from ray import serve

        from serving.app import APPLICATION, build

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it tells of every step, in a format of its own
        stack.callback(_shut_down)
        stack.callback(drain, variables, settings.request_timeout_s)
        serve.start(
            proxy_location="HeadOnly",
            http_options={
                "host": settings.host,
                "port": settings.port,
                "request_timeout_s": settings.request_timeout_s,
            },
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        try:
            serve.run(
                build(settings),
                name=APPLICATION,
                route_prefix="/",
                logging_config={"log_level": "WARNING", "enable_access_log": False},
            )
        except RuntimeError as error:
            raise RegistryError(f"the service did not start ({_reason()}); see Ray's logs") from error
        url = f"http://{settings.host}:{settings.port}"
        _wait_until_ready(url)
        kind = "HAProxy" if BINARY_VARIABLE in variables else "Python proxy"
        logger.info("%s answers at %s (%s)", settings.model, url, kind)
        yield url


def _cores(settings: ServiceSettings) -> int:
    """What Ray must have to give so that nothing waits for cores for ever: the service, and its batches one by one."""
    kinds = (settings.replicas,) if settings.joined else (settings.replicas, settings.ingress)
    service = sum(kind.maximum * kind.cpus for kind in kinds)
    challenger = settings.replicas.cpus if settings.shadow.model else 0.0
    batch = settings.batches.workers + 1 if settings.batches.roots else 0
    hosts = settings.hosts.max_active if settings.hosts.prepare else 0
    return max(2, math.ceil(service + challenger + batch + hosts))


def _shut_down() -> None:
    """Stop Serve and wait for the end of it.

    `serve.shutdown` alone asks the controller in a call that the controller's own end cuts off, of which Ray then
    prints a failure; so the controller is first asked without waiting.
    """
    import ray
    from ray import serve

    from serving.app import CONTROLLER, SERVE_NAMESPACE

    deadline = time.monotonic() + _STOPPED_WITHIN_S
    try:
        controller = ray.get_actor(CONTROLLER, namespace=SERVE_NAMESPACE)
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=_STOPPED_WITHIN_S)
        while time.monotonic() < deadline:
            ray.get_actor(CONTROLLER, namespace=SERVE_NAMESPACE)
            time.sleep(0.1)
    except (ValueError, ray.exceptions.RayError):
        pass  # it is gone
    serve.shutdown()


def _wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    said = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{url}/v2/health/ready", timeout=5.0, trust_env=False)
            if answer.status_code == httpx.codes.OK:
                return
            said = f"status {answer.status_code}"
        except httpx.HTTPError as error:
            said = type(error).__name__
        time.sleep(0.1)
    raise RegistryError(f"the service at {url} is not ready after {_READY_WITHIN_S:.0f} s ({said}); see Ray's logs")


def _reason() -> str:
    """The line of a replica's traceback that says what went wrong."""
    from ray import serve

    from serving.app import APPLICATION

    status = serve.status().applications[APPLICATION]
    messages = [status.message, *(deployment.message for deployment in status.deployments.values())]
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    told = [line for line in lines if _EXCEPTION.match(line)]
    return (told or lines or ["no reason given"])[-1][:300]
