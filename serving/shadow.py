"""A challenger in the shadow: it reads a share of the traffic, answers nobody, and is compared.

Nothing of it can reach a user: it is asked after the answer was made, its failures are counted and dropped, and where
it is slow it is left out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter

from defectnet.query import Query

__all__ = ["Shadowing", "disagreement"]

logger = logging.getLogger(__name__)

# A challenger that does not answer in this time is stuck.
_PATIENCE_S = 30.0


def disagreement(answer: dict[str, Any], challenge: dict[str, Any]) -> bool:
    """Whether two models give different verdicts: another set of elements present, or an error on one side only."""

    def verdict(prediction: dict[str, Any]) -> tuple[bool, frozenset[str]]:
        present = (verdict["element"] for verdict in prediction["elements"] if verdict["present"])
        return prediction["error"] is None, frozenset(present)

    return verdict(answer) != verdict(challenge)


class Shadowing:
    """Asks the challenger in the background.

    Args:
        challenge: asks the challenger; gives no answers where there is no challenger.
        max_waiting: requests that may wait for it at a time.
        registry: where the counters go.
    """

    def __init__(
        self,
        challenge: Callable[[Sequence[Query]], Awaitable[list[dict[str, Any]]]],
        max_waiting: int,
        registry: CollectorRegistry,
    ) -> None:
        self._challenge, self._max_waiting = challenge, max_waiting
        self._waiting: set[asyncio.Task[None]] = set()
        versions = ["model_version", "challenger_version"]
        self._compared = Counter(
            "defectnet_shadow_spectra", "Spectra read by the challenger too", versions, registry=registry
        )
        self._differed = Counter(
            "defectnet_shadow_disagreements", "Of those, with other elements present", versions, registry=registry
        )
        self._left_out = Counter(
            "defectnet_shadow_left_out", "Requests the challenger was too slow for, or failed on", registry=registry
        )

    def compare(self, queries: Sequence[Query], answers: Sequence[dict[str, Any]]) -> None:
        """Ask the challenger the same and count the differences; returns at once."""
        if len(self._waiting) >= self._max_waiting:
            self._left_out.inc()
            return
        task = asyncio.create_task(self._compare(queries, answers))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _compare(self, queries: Sequence[Query], answers: Sequence[dict[str, Any]]) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                challenges = await self._challenge(queries)
        except Exception as error:  # whatever it is, it is the challenger's alone
            logger.warning("the challenger failed: %s", type(error).__name__)
            self._left_out.inc()
            return
        for answer, challenge in zip(answers, challenges, strict=False):  # none where no challenger is loaded
            versions = (answer["model_version"], challenge["model_version"])
            self._compared.labels(*versions).inc()
            if disagreement(answer, challenge):
                self._differed.labels(*versions).inc()
