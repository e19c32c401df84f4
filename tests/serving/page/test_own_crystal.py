"""A crystal that a user gives on the page: its CIF, its job, and an answer by its own responses."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import Window
from support.given_hosts import silicon_cif
from support.local_api import ProcessJobs
from support.page_server import PageServer, served

from serving.loading import loader
from serving.models_source import open_source
from serving.settings import HostSettings, ServiceSettings

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

# A job is a process of its own, which imports torch and computes forces; on a busy machine that takes minutes.
READY_WITHIN_MS = 400_000


@pytest.fixture(scope="module")
def preparing(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """The page of a service that prepares hosts, in processes as its jobs are."""
    store = str(tmp_path_factory.mktemp("hosts"))
    settings = ServiceSettings(model="released", hosts=HostSettings(prepare=True, store=store))
    source = open_source(settings.model, None)
    jobs = ProcessJobs()
    with served(settings, loader(settings)(source, source.current()).predictor, jobs=jobs) as server:
        yield server
    jobs.stop_all()


def give(window: Window, content: str, name: str) -> None:
    given = {"name": name, "mimeType": "", "buffer": content.encode()}
    window.page.set_input_files("#structure", given)


def test_a_cif_becomes_a_host_whose_responses_answer(
    preparing: PageServer, look: Callable[..., Window], repository: Path
):
    window = look(preparing)
    window.goto()
    page = window.page
    page.wait_for_selector("#give", state="visible")
    give(window, silicon_cif(), "my crystal.cif")
    page.wait_for_selector("#given progress")
    page.wait_for_selector("#given .good", timeout=READY_WITHIN_MS)
    assert page.input_value("#host") == "Si"
    window.drop(*(repository / "examples" / f"Si{end}.csv" for end in ("", "-pristine")))
    sentence = window.ask()
    host_id = page.inner_text("#given .good").rpartition("(")[2].partition(")")[0]
    page.click(".made summary")
    assert f"responses of\n{host_id}" in page.inner_text(".made")
    page.get_by_role("button", name="curl").click()
    page.get_by_text("The command copied.").wait_for()
    assert f'"host_id":"{host_id}"' in page.evaluate("navigator.clipboard.readText()")
    assert page.get_by_role("button", name="command line").count() == 0  # nobody else has this crystal
    assert window.axe("a crystal of one's own") == []
    # Without it the released library answers, and the same question has another answer.
    page.uncheck("#use-given")
    assert window.ask() != sentence
    page.click(".made summary")
    assert host_id not in page.inner_text(".made")
    # Its own density stands in for a reference that nobody measured.
    page.check("#use-given")
    page.check("input[name=reference][value=computed]")
    page.get_by_text("my crystal.cif (yours or a colleague's)").click()
    window.ask()
    page.click(".made summary")
    assert f"{host_id} (computed)" in page.inner_text(".made")


def test_a_cif_that_is_none_says_why(preparing: PageServer, look: Callable[..., Window]):
    window = look(preparing)
    window.expected = ["422"]
    window.goto()
    page = window.page
    page.wait_for_selector("#give", state="visible")
    give(window, "data_x\n", "no crystal.cif")
    page.wait_for_selector("#given .error")
    assert "neither a CIF with a cell and atoms nor phonopy.yaml" in page.inner_text("#given .error")
    give(window, silicon_cif(share=0.5), "shared.cif")
    page.wait_for_selector("#given progress")
    page.wait_for_selector("#given .error", timeout=READY_WITHIN_MS)
    assert "shared or partly empty" in page.inner_text("#given .error")
    assert page.locator("#use-given").count() == 0
