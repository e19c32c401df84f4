"""Following a moving alias without dropping a request.

A thread looks at the source every few seconds. A new version is fetched, its sums are checked, it is loaded and warmed
up, all beside the requests; then one reference is replaced. Requests take that reference once and keep it, so that an
answer is always one version's. Whatever goes wrong leaves the old version serving and a sentence in `problem`.
"""

import logging
import threading
import time
from collections.abc import Callable

from defectnet.errors import ArtifactError, DefectNetError
from defectnet.models import ModelVersion
from serving.loading import LoadedModel, load_model
from serving.models_source import ModelSource

__all__ = ["HotSwap"]

logger = logging.getLogger(__name__)

# A refused version is tried again after this long: someone may have repaired its files in place.
RETRY_REFUSED_AFTER_S = 60.0


class HotSwap:
    """Holds the model that answers, and keeps it up to date.

    Args:
        source: which model to serve.
        poll_interval_s: seconds between two looks.
        load: fetches, verifies, loads and warms up a version.
        clock: seconds, monotonic.
        optional: whether it may begin without a model, as a challenger does.

    Attributes:
        current: the model that answers; None only where it is optional.
        problem: None, or a sentence on why the model that was asked for is not the one that answers.
        swaps: models swapped in since the start.
    """

    def __init__(
        self,
        source: ModelSource,
        poll_interval_s: float,
        *,
        load: Callable[[ModelSource, ModelVersion], LoadedModel] = load_model,
        clock: Callable[[], float] = time.monotonic,
        optional: bool = False,
    ) -> None:
        self._source, self._interval_s, self._load, self._clock = source, poll_interval_s, load, clock
        self._refused: tuple[ModelVersion, float] | None = None
        self._stopped = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="hot-swap", daemon=True)
        self.problem: str | None = None
        self.swaps = 0
        self.current: LoadedModel | None = None
        if optional:
            self.check()
        else:
            self.current = self._first()

    def start(self) -> None:
        """Begin to follow the source."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following it; the model stays."""
        self._stopped = True
        self._wake.set()

    def look_now(self) -> None:
        """Have the thread look at once instead of at the end of the interval."""
        self._wake.set()

    def check(self) -> bool:
        """Look once and swap if there is something new; returns whether it did. Never raises."""
        try:
            wanted = self._source.current()
        except Exception as error:
            self._complain("the model registry does not answer", error)
            return False
        serving = self.current.version if self.current else None
        if wanted == serving:
            self.problem = self._refused = None
            return False
        if self._refused and self._refused[0] == wanted and self._clock() < self._refused[1] + RETRY_REFUSED_AFTER_S:
            return False
        try:
            loaded = self._load(self._source, wanted)
        except ArtifactError as error:
            self._refused = (wanted, self._clock())
            self._complain(f"version {wanted.version} is broken or altered and was refused", error)
            return False
        except Exception as error:  # the registry or the disk, perhaps: tried again at the next look
            self._complain(f"version {wanted.version} cannot be loaded", error)
            return False
        self.current, self.problem, self._refused = loaded, None, None
        self.swaps += 1
        before = serving.version if serving else "none"
        logger.info("version %s of %s serves, after %s", wanted.version, wanted.name, before)
        return True

    def _first(self) -> LoadedModel:
        wanted = self._source.current()
        try:
            return self._load(self._source, wanted)
        except DefectNetError as error:
            # A process that starts (or restarts) after a bad promotion must not take the service down with it.
            fallback = self._source.fallback()
            if fallback is None or fallback == wanted:
                raise
            loaded = self._load(self._source, fallback)
            self._refused = (wanted, self._clock())
            self.problem = f"version {wanted.version} cannot be loaded; version {fallback.version} serves in its place"
            logger.warning("%s (%s)", self.problem, error)
            return loaded

    def _complain(self, what: str, error: Exception) -> None:
        # The sentence is public: what the exception says (paths, hosts) goes to the log only, once for each change.
        serving = f"version {self.current.version.version} goes on serving" if self.current else "there is no model"
        problem = f"{what}; {serving}"
        if problem != self.problem:
            logger.error("%s (%s)", problem, error)
        self.problem = problem

    def _follow(self) -> None:
        while not self._stopped:
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if not self._stopped:
                self.check()
