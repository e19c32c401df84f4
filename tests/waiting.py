"""Waiting for what another process is about to do."""

import time
from collections.abc import Callable

__all__ = ["wait_for"]


def wait_for(condition: Callable[[], object], what: str, within_s: float) -> None:
    """Wait until `condition` holds; raises `TimeoutError` naming `what`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {within_s:.0f} s")
        time.sleep(0.2)
