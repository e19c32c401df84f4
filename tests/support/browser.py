"""A headless chromium that notes what a page does: its requests, its console, and what axe finds wrong with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

__all__ = ["MISSING", "PHONE", "SEEN", "WIDE", "Seen", "Window", "browser", "open_window"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = "" if CHROMIUM else "no chromium; on Debian: apt install chromium"
WIDE, PHONE = (1400, 1000), (390, 844)


@dataclass
class Seen:
    """What the pages of a run did that they should not do, summed over its tests."""

    console_errors: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)
    accessibility: list[str] = field(default_factory=list)
    first_answer_s: float | None = None


# Read by benchmarks/page.py, which runs the tests of the page and writes the figures down.
SEEN = pytest.StashKey[Seen]()


@dataclass
class Window:
    """One page with its notes.

    Attributes:
        page: Playwright's page.
        expected: texts of console errors that a test causes on purpose, such as a status of 422.
    """

    page: Any
    origin: str
    seen: Seen
    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def goto(self, path: str = "/") -> None:
        self.page.goto(self.origin + path)

    def said(self) -> str:
        """The verdict's sentence, once it is there."""
        self.page.wait_for_selector("#sentence", timeout=60_000)
        return str(self.page.inner_text("#sentence"))

    def drop(self, *files: Any) -> None:
        """Give files as a drop does: paths, or (name, bytes)."""
        pairs = [file if isinstance(file, tuple) else (file.name, file.read_bytes()) for file in files]
        given = [{"name": name, "mimeType": "", "buffer": content} for name, content in pairs]
        self.page.set_input_files("#browse", given)

    def host(self, formula: str) -> None:
        self.page.fill("#host", formula)
        self.page.press("#host", "Enter")

    def ask(self) -> str:
        """Ask, and wait for a new answer."""
        self.page.wait_for_selector("#ask:not([disabled])", timeout=60_000)
        self.page.evaluate("document.getElementById('sentence')?.remove()")
        self.page.click("#ask")
        return self.said()

    def axe(self, where: str) -> list[str]:
        """What axe calls serious or critical; noted, and returned."""
        from axe_playwright_python.sync_playwright import Axe

        found = [
            f"{where}: {one['id']} ({one['impact']}): {one['nodes'][0]['html'][:160]}"
            for one in Axe().run(self.page).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        self.seen.accessibility += found
        return found


@contextmanager
def browser() -> Iterator[Any]:
    """Playwright's browser; the test is skipped where there is none."""
    if MISSING:
        pytest.skip(MISSING)
    sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright; pip install playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        try:
            yield started
        finally:
            started.close()


@contextmanager
def open_window(
    started: Any, origin: str, seen: Seen, *, size: tuple[int, int] = WIDE, theme: str = "light", **options: Any
) -> Iterator[Window]:
    """A fresh window, whose network and console are watched until the context ends."""
    context = started.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=theme, accept_downloads=True, **options
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
    page = context.new_page()
    page.set_default_timeout(60_000)  # a busy machine
    window = Window(page, origin, seen)

    def request(asked: Any) -> None:
        if asked.url.startswith(("blob:", "data:")):
            return
        if urlsplit(asked.url)[:2] != urlsplit(origin)[:2]:
            window.foreign.append(asked.url)

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            window.errors.append(message.text)

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: window.errors.append(str(error)))
    try:
        yield window
    finally:
        context.close()
        window.errors = [text for text in window.errors if not any(part in text for part in window.expected)]
        seen.console_errors += window.errors
        seen.foreign_requests += window.foreign
