"""Pictures of the page for people to look at: `make screenshots` writes them; here it is seen that they can be made."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.browser import PHONE, WIDE, Window
from support.page_server import PageServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FOLDER = "DEFECTNET_SCREENSHOTS"
SAMPLE = "RbScO2"


@pytest.mark.parametrize(("size", "theme"), [(WIDE, "light"), (WIDE, "dark"), (PHONE, "light")])
def test_pictures(
    service: PageServer,
    look: Callable[..., Window],
    repository: Path,
    tmp_path: Path,
    size: tuple[int, int],
    theme: str,
):
    folder = Path(os.environ.get(FOLDER, tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    kind = f"{'phone' if size == PHONE else 'wide'}-{theme}"
    window = look(service, size=size, theme=theme)
    page = window.page

    def picture(name: str, *, whole: bool = True) -> None:
        path = folder / f"{name}-{kind}.png"
        page.evaluate("document.querySelector('.go') && (document.querySelector('.go').style.position = 'static')")
        page.screenshot(path=path, full_page=whole)
        assert path.stat().st_size > 10_000

    window.goto("/status")
    page.wait_for_selector("text=Processes that hold the model")
    picture("status", whole=False)
    window.goto("/")
    window.drop(*(repository / "examples" / f"{SAMPLE}{end}.csv" for end in ("", "-pristine")))
    window.host(SAMPLE)
    page.check("input[name=elements][value=some]")
    page.click("#take-expected")
    window.ask()
    page.click("#elements .pick >> nth=0")
    picture("answer")
    window.drop(*[(f"wafer-{k}.csv", (repository / "examples" / "Si.csv").read_bytes()) for k in range(5)])
    page.check("input[name=elements][value=all]")
    page.wait_for_selector("#ask:has-text('6 spectra'):not([disabled])")
    page.click("#ask")
    page.wait_for_selector("#many")
    page.fill("#limits", "Ge 2")
    picture("many")
