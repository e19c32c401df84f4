"""The process that holds the model: batches what waits, answers, and follows the registry."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from defectnet.predictor import Prediction, Predictor
from defectnet.query import Query
from serving.batching import Batcher
from serving.hot_swap import HotSwap
from serving.models_source import open_source
from serving.settings import ServiceSettings

__all__ = ["Model", "answer"]

logger = logging.getLogger(__name__)

_NO_ANSWER = "the model could not answer this spectrum; check it for extreme values, or report it"


def answer(predictor: Predictor, queries: Sequence[Query]) -> list[Prediction]:
    """Predict; a query that makes the model fail costs only itself, not those that were batched with it."""
    try:
        return predictor.predict(queries)
    except Exception:
        logger.exception("a batch of %d failed; its spectra are tried one by one", len(queries))
    return [prediction for query in queries for prediction in _alone(predictor, query)]


def _alone(predictor: Predictor, query: Query) -> list[Prediction]:
    try:
        return predictor.predict([query])
    except Exception:
        nothing = Prediction(query.sample_id, query.host.formula, (), None, (), predictor.name, predictor.version)
        return [replace(nothing, error=_NO_ANSWER)]


class Model:
    """One replica. Its only state is the loaded model, so any replica can answer any request, and answer it again."""

    def __init__(self, settings: ServiceSettings) -> None:
        # One thread: replicas are what scales, and two threads on one small matrix wait for one another.
        torch.set_num_threads(1)
        self._reference = settings.model
        self._swap = HotSwap(open_source(settings.model, settings.tracking_uri), settings.poll_interval_s)
        self._batcher = Batcher(self._compute, settings.max_batch_size)
        self._swap.start()

    async def predict(self, queries: list[Query]) -> list[dict[str, Any]]:
        """Answer at most `max_batch_size` queries, in order, together with whatever else is waiting."""
        return await self._batcher.submit(queries)

    def _compute(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        predictor = self._swap.current.predictor  # taken once: a swap meanwhile cannot split a batch
        return [prediction.to_dict() for prediction in answer(predictor, queries)]

    async def describe(self) -> dict[str, Any]:
        """What `GET /v1/model` shows."""
        current = self._swap.current
        config = current.predictor.config
        return {
            "name": current.version.name,
            "version": current.version.version,
            "run_id": current.version.run_id,
            "reference": self._reference if self._reference.startswith("models:") else "a folder",
            "weights_sha256": current.weights_sha256,
            "loaded_at": current.loaded_at.isoformat(timespec="seconds"),
            "vocabulary": list(current.predictor.vocabulary),
            "hosts_seen": list(config.trained_on.host_elements),
            "kinds": list(config.trained_on.kinds),
            "grid": config.grid.model_dump(),
            "card": current.predictor.card,
            "problem": self._swap.problem,
        }

    def __del__(self) -> None:
        if swap := getattr(self, "_swap", None):  # absent where the first model could not be loaded
            swap.stop()
