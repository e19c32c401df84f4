"""What Prometheus is told. Each process counts for itself; `/metrics` of any of them shows all, told apart by a label.

Queue time is what a spectrum waits in the replica for the batch before it; compute time is its own batch's. The share
of spectra unlike the training data is `rate(defectnet_out_of_distribution_total) / rate(defectnet_spectra_total)`.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from defectnet.model.calibration import OOD_LIMIT
from defectnet.prediction import Prediction
from serving.hot_swap import HotSwap

__all__ = ["ObservedRequests", "ReplicaMetrics", "exposition"]

# From a lone spectrum on an idle core (2 ms) to the longest request that is let live (60 s).
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
_SPECTRA = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ReplicaMetrics:
    """What one process that holds a model counts."""

    def __init__(self, swap: HotSwap) -> None:
        self.registry = CollectorRegistry()
        self._swap = swap
        self.queue = Histogram(
            "defectnet_queue_seconds", "Waiting for a batch", buckets=_SECONDS, registry=self.registry
        )
        self.compute = Histogram(
            "defectnet_compute_seconds", "Computing a batch", buckets=_SECONDS, registry=self.registry
        )
        self.batch = Histogram(
            "defectnet_batch_spectra", "Spectra of a batch", buckets=_SPECTRA, registry=self.registry
        )
        version = ["model_version"]
        self._spectra = Counter("defectnet_spectra", "Spectra answered", version, registry=self.registry)
        self._unlike = Counter(
            "defectnet_out_of_distribution", "Spectra unlike the training data", version, registry=self.registry
        )
        self._errors = Counter(
            "defectnet_spectrum_errors", "Spectra without an answer", version, registry=self.registry
        )
        self._model = Gauge(
            "defectnet_model_info", "1 for the model that answers", ["model_name", *version], registry=self.registry
        )
        self._problem = Gauge(
            "defectnet_model_problem", "1 while a promoted model is refused or unreachable", registry=self.registry
        )
        self._swaps = Gauge("defectnet_model_swaps", "Models swapped in since the start", registry=self.registry)
        # To find the counters of a version takes longer than to count.
        self._counters_of = cache(
            lambda version: [one.labels(version) for one in (self._spectra, self._unlike, self._errors)]
        )

    def batch_done(self, waits_s: Sequence[float], compute_s: float, n_spectra: int) -> None:
        """Count a batch: how long each of its groups waited, and what it took."""
        for wait_s in waits_s:
            self.queue.observe(wait_s)
        self.compute.observe(compute_s)
        self.batch.observe(n_spectra)

    def answered(self, predictions: Sequence[Prediction]) -> None:
        """Count answers; all are one version's."""
        if not predictions:
            return
        spectra, unlike, errors = self._counters_of(predictions[0].model_version)
        spectra.inc(len(predictions))
        unlike.inc(sum(p.ood_score is not None and p.ood_score > OOD_LIMIT for p in predictions))
        errors.inc(sum(p.error is not None for p in predictions))

    def collect(self) -> list[Metric]:
        """The counters now."""
        self._model.clear()
        current = self._swap.current
        if current is not None:
            self._model.labels(current.version.name, current.version.version).set(1)
        self._problem.set(self._swap.problem is not None)
        self._swaps.set(self._swap.swaps)
        return list(self.registry.collect())


class ObservedRequests:
    """ASGI middleware that counts and times requests by route and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter("defectnet_requests", "Requests", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            "defectnet_request_seconds", "From the first header to the last byte", ["route"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._open = Gauge("defectnet_requests_in_progress", "Requests not yet answered", registry=registry)
        self._of_route = cache(self._seconds.labels)
        self._of_status = cache(self._requests.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"  # the client went away, or was cut off

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        begun = time.perf_counter()
        self._open.inc()
        try:
            await self._app(scope, receive, observed)
        finally:
            self._open.dec()
            # The route's pattern, never the path: a label whose values a stranger chooses would fill the memory.
            route = getattr(scope.get("route"), "path", "none")
            self._of_status(route, status).inc()
            self._of_route(route).observe(time.perf_counter() - begun)


class _Merged(Collector):
    """The counters of several processes as one, each sample with the label `process`."""

    def __init__(self, processes: Iterable[tuple[str, Sequence[Metric]]]) -> None:
        self._processes = processes

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for process, metrics in self._processes:
            for metric in metrics:
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                family.samples += [
                    sample._replace(labels={**sample.labels, "process": process})
                    for sample in metric.samples
                    if not sample.name.endswith("_created")  # when each was first counted: of no use, and as many again
                ]
        yield from families.values()


def exposition(processes: Iterable[tuple[str, Sequence[Metric]]]) -> bytes:
    """The text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Merged(processes))
    return generate_latest(registry)
