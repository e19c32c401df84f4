"""Other processes: all that one has started, and waiting for what they are about to do."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["descendants", "wait_for"]


def wait_for(condition: Callable[[], object], what: str, within_s: float) -> None:
    """Wait until `condition` holds; raises `TimeoutError` naming `what`."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} not within {within_s:.0f} s")
        time.sleep(0.2)


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, nearest first, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has just ended
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is walked
        found += children.get(child, ())
    return found
