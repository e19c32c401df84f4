"""What the page's tests share: a service with the released model, and windows onto it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from support.browser import SEEN, Seen, Window, browser, open_window
from support.page_server import PageServer, served

from defectnet.released import released_model
from serving.settings import ServiceSettings


@pytest.fixture(scope="session")
def seen(request: pytest.FixtureRequest) -> Seen:
    """What all windows of the run did that they should not."""
    return request.config.stash.setdefault(SEEN, Seen())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser a module: an open Playwright is a running event loop, and other tests start their own."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def service(chromium: Any) -> Iterator[PageServer]:
    """The page before the released model; asked for after the browser, so that without one nothing is loaded."""
    with served(ServiceSettings(model="released"), released_model()) as server:
        yield server


@pytest.fixture
def look(chromium: Any, seen: Seen) -> Iterator[Callable[..., Window]]:
    """Opens windows; at the end of the test nothing foreign was asked for and no error stood in a console."""
    windows: list[Window] = []
    with ExitStack() as stack:

        def make(server: PageServer, **options: Any) -> Window:
            windows.append(stack.enter_context(open_window(chromium, server.url, seen, **options)))
            return windows[-1]

        yield make
    assert [window.foreign for window in windows if window.foreign] == []
    assert [window.errors for window in windows if window.errors] == []
