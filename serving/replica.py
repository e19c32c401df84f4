"""The process that holds the model: batches what waits, answers, and follows the registry."""

import asyncio
import gc
import os
import socket
from collections.abc import Sequence
from typing import Any

import torch
from prometheus_client import Metric

from defectnet.models import ModelReference
from defectnet.query import Query
from serving.hot_swap import HotSwap
from serving.loading import loader
from serving.metrics import ReplicaMetrics
from serving.micro_batching import Batcher
from serving.models_source import open_source
from serving.page.study import study
from serving.settings import ServiceSettings
from serving.tracing import Tracing, open_tracing

__all__ = ["Model"]


class Model:
    """One replica. Its only state is the loaded model, so any replica can answer any request, and answer it again.

    Args:
        settings: which registry, how often to look, how much at once.
        reference: the model, as `settings.model` has it.
        optional: whether to begin without a model, as a challenger does.
        tracing: where its batches are traced; by default as `settings.trace_endpoint` says.
    """

    def __init__(
        self, settings: ServiceSettings, reference: str, *, optional: bool = False, tracing: Tracing | None = None
    ) -> None:
        # One thread: replicas are what scales, and two threads on one small matrix wait for one another.
        torch.set_num_threads(1)
        self._reference = ModelReference.parse(reference)
        self._process = f"{'challenger' if optional else 'model'}-{socket.gethostname()}-{os.getpid()}"
        source = open_source(self._reference, settings.tracking_uri)
        self._swap = HotSwap(source, settings.poll_interval_s, load=loader(settings), optional=optional)
        self._metrics = ReplicaMetrics(self._swap)
        self._batcher = Batcher(
            self._compute,
            settings.max_batch_size,
            observe=self._metrics.batch_done,
            max_waiting=settings.max_queued_requests,
            around=(tracing or open_tracing(settings.trace_endpoint, self._process)).batch,
        )
        # What has been imported and loaded stays: the collector need not look through it again and again, some 0.1 s
        # each time, while requests wait.
        gc.collect()
        gc.freeze()
        self._swap.start()

    async def predict(self, queries: list[Query], parent: str | None = None) -> list[dict[str, Any]]:
        """Answer at most `max_batch_size` queries, in order, together with whatever else is waiting.

        Args:
            parent: the span of the request (`serving.tracing.current_parent`).
        """
        return await self._batcher.submit(queries, parent)

    async def challenge(self, queries: list[Query]) -> list[dict[str, Any]]:
        """As `predict`; no answers while there is no model."""
        return [] if self._swap.current is None else await self._batcher.submit(queries)

    async def study(self, query: Query, source: str | None) -> dict[str, Any]:
        """One answer and what is behind it, for the page (`serving.page.study`)."""
        current = self._swap.current
        assert current is not None  # a challenger is never asked
        return await asyncio.to_thread(study, current.predictor, query, source=source)

    def _compute(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        current = self._swap.current  # taken once: a swap meanwhile cannot split a batch
        assert current is not None  # once there is a model, there always is one
        predictions = current.predictor.predict(queries, isolate=True)
        self._metrics.answered(predictions)
        return [prediction.to_dict() for prediction in predictions]

    async def ready(self) -> None:
        """Return, as a replica that was never ready does not."""

    async def look_now(self) -> None:
        """Look at the registry at once."""
        self._swap.look_now()

    async def metrics(self) -> tuple[str, list[Metric]]:
        """This process's name and counters."""
        return self._process, self._metrics.collect()

    async def describe(self) -> dict[str, Any]:
        """What `GET /v1/model` shows."""
        current = self._swap.current
        assert current is not None  # a challenger is never asked
        config = current.predictor.config
        return {
            "process": self._process,
            "name": current.version.name,
            "version": current.version.version,
            "run_id": current.version.run_id,
            "reference": str(self._reference) if self._reference.registered else "a folder",
            "weights_sha256": current.weights_sha256,
            "loaded_at": current.loaded_at.isoformat(timespec="seconds"),
            "vocabulary": list(current.predictor.vocabulary),
            "hosts_seen": list(config.trained_on.host_elements),
            "kinds": list(config.trained_on.kinds),
            "grid": config.grid.model_dump(),
            "metrics": dict(current.metrics),
            "card": current.predictor.card,
            "problem": self._swap.problem,
        }

    def close(self) -> None:
        """Follow the registry no longer."""
        self._swap.stop()

    def __del__(self) -> None:
        if swap := getattr(self, "_swap", None):  # absent where the first model could not be loaded
            swap.stop()
