"""The page in a browser, as its users meet it."""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.browser import PHONE, WIDE, Seen, Window
from support.page_server import PageServer, served

from defectnet.io.strict_json import loads_strict
from defectnet.pages.verdict_sentence import say
from defectnet.readers.query import read_query
from defectnet.released import released_model
from serving.auth import hash_token
from serving.settings import ServiceSettings

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Look = Callable[..., Window]
EXAMPLES = ("Si", "CsF", "RbScO2")


def plain_columns(path: Path) -> bytes:
    """An example's numbers without the line that says the unit."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if line[:1].isdigit()).encode()


@pytest.fixture
def examples(repository: Path) -> Path:
    return repository / "examples"


@pytest.mark.parametrize("name", EXAMPLES)
def test_drop_an_example_and_get_the_librarys_answer(service: PageServer, look: Look, examples: Path, name: str):
    window = look(service)
    window.goto()
    window.drop(examples / f"{name}.csv", examples / f"{name}-pristine.csv")
    window.host(name)
    sentence = window.ask()
    asked = read_query(examples / f"{name}.csv", name, reference=examples / f"{name}-pristine.csv")
    (expected,) = service.backend.predictor.predict([asked.query])
    assert sentence == say(expected).sentence
    rows = window.page.locator("#elements tbody tr.present th").all_inner_texts()
    assert rows == [verdict.element for verdict in expected.elements if verdict.present]
    for warning in expected.warnings:
        assert warning in window.page.inner_text(".warnings")


def test_the_first_answer_of_a_first_day(service: PageServer, look: Look, seen: Seen):
    window = look(service)
    began = time.monotonic()
    window.goto()
    window.page.click("#example")
    window.ask()
    seen.first_answer_s = round(time.monotonic() - began, 2)
    assert "taken as the reference" in window.page.inner_text("#files").lower()


def test_a_unit_is_asked_for_and_mended(service: PageServer, look: Look, examples: Path):
    window = look(service)
    window.expected = ["422"]
    window.goto()
    window.drop(("mine.csv", plain_columns(examples / "Si.csv")))
    card = window.page.locator("[data-file='mine.csv']")
    assert "does not say its unit" in card.locator(".error").inner_text()
    assert window.page.is_disabled("#ask")
    card.get_by_role("button", name="meV").click()
    card.locator("dl").wait_for()
    assert "meV (as you said)" in card.inner_text()
    card.get_by_role("button", name="THz", exact=True).click()
    card.get_by_text("THz (as you said)").wait_for()
    window.host("Si")
    sentence = window.ask()
    (expected,) = service.backend.predictor.predict([read_query(examples / "Si.csv", "Si").query])
    assert sentence == say(expected).sentence


def test_a_wrong_unit_is_overridden(service: PageServer, look: Look, examples: Path):
    """The file says meV and means THz: whoever presses THz is taken at his word, and both units stay named."""
    window = look(service)
    window.goto()
    rows = plain_columns(examples / "Si.csv")
    window.drop(("wrong.csv", b"Energy (meV),dos\n" + rows))
    card = window.page.locator("[data-file='wrong.csv']")
    card.locator("dl").wait_for()
    card.get_by_role("button", name="THz", exact=True).click()
    # The card says "as you said" at once, and what was read when it is read again.
    card.get_by_text("it says meV (the column's name 'Energy (meV)'), but was read in THz").wait_for()
    assert "THz (as you said)" in card.inner_text()
    window.host("Si")
    sentence = window.ask()
    (expected,) = service.backend.predictor.predict([read_query(examples / "Si.csv", "Si").query])
    assert sentence == say(expected).sentence


def test_units_elements_hover_and_zoom(service: PageServer, look: Look):
    window = look(service)
    window.goto()
    window.page.click("#example")
    window.ask()
    page = window.page
    for unit, label in (("meV", "Energy (meV)"), ("cm-1", "Wavenumber (cm⁻¹)"), ("THz", "Frequency (THz)")):
        page.click(f"[data-unit='{unit}']")
        assert page.get_attribute(f"[data-unit='{unit}']", "aria-pressed") == "true"
        assert label in page.locator("#plot .plot-picture").text_content()
    page.click("#elements .pick[data-element='Ge']")
    assert "Ge" in page.inner_text("#speaks")
    assert page.is_visible("#spoke svg")
    stage = page.locator("#plot .plot-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 80)
    assert re.match(r"[\d.]+ THz: measured change .*sample", page.inner_text("#plot .readout"))

    def ticks() -> list[str]:
        texts: list[str] = page.locator("#plot .plot-picture .tick").all_text_contents()
        return texts

    whole = ticks()
    stage.focus()
    page.keyboard.press("+")
    assert ticks() != whole
    page.keyboard.press("0")
    assert ticks() == whole
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 80, steps=4)
    page.mouse.up()
    assert ticks() != whole
    page.get_by_role("button", name="All", exact=True).first.click()
    assert ticks() == whole
    page.get_by_role("button", name="pristine reference").click()
    assert page.locator("#plot .plot-picture .curve.reference").count() == 0


def test_an_element_is_chosen_in_the_periodic_table(service: PageServer, look: Look, examples: Path):
    window = look(service)
    window.goto()
    page = window.page
    page.click("#example")
    page.check("input[name=elements][value=some]")
    assert page.is_disabled("#ask")
    assert page.get_attribute(".element:text-is('Cl')", "class") in ("element unexpected", "element unknown")
    assert page.is_disabled(".element:text-is('Si')")
    page.click(".element:text-is('Ge')")
    page.focus(".element:text-is('Ge')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.inner_text("#chosen") == "Ge, Sn"
    sentence = window.ask()
    asked = read_query(examples / "Si.csv", "Si", reference=examples / "Si-pristine.csv", candidates=["Ge", "Sn"])
    assert sentence == say(service.backend.predictor.predict([asked.query])[0]).sentence


@pytest.mark.parametrize("reference", ["file", "computed"])
def test_what_is_copied_gives_the_same_numbers(
    service: PageServer, look: Look, examples: Path, tmp_path: Path, reference: str
):
    window = look(service)
    window.goto()
    files = [examples / "Si.csv", examples / "Si-pristine.csv"][: 2 if reference == "file" else 1]
    window.drop(*files)
    window.host("Si")
    page = window.page
    if reference == "computed":
        page.wait_for_selector("input[name=reference][value=computed]:not([disabled])")
        page.check("input[name=reference][value=computed]")
    page.uncheck("#prior")
    page.check("input[name=elements][value=some]")
    page.click(".element:text-is('Ge')")
    window.ask()
    if reference == "computed":
        assert "computed, not measured" in page.inner_text(".warnings")
    shown = answer_of(window)
    for path in files:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = copied(window, "command line")
    assert command.startswith("defectnet predict Si.csv --host Si")
    run = [sys.executable, "-c", "from defectnet.cli.main import main; main()", *command.split()[1:], "--json"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["elements"] == shown["elements"]
    program = copied(window, "Python")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert repr(shown["elements"][0]["probability"]) in done.stdout
    done = subprocess.run(["sh", "-c", copied(window, "curl")], capture_output=True, text=True, timeout=300)
    assert json.loads(done.stdout)["predictions"][0]["elements"] == shown["elements"]


def copied(window: Window, what: str) -> str:
    window.page.get_by_role("button", name=what, exact=True).click()
    window.page.locator(".actions [role=status]", has_text="copied").wait_for()
    return str(window.page.evaluate("navigator.clipboard.readText()"))


def answer_of(window: Window) -> dict[str, Any]:
    """The prediction, as the page gives it as a file."""
    with window.page.expect_download() as waiting:
        window.page.get_by_role("button", name="JSON", exact=True).click()
    prediction: dict[str, Any] = json.loads(Path(waiting.value.path()).read_text(encoding="utf-8"))
    return prediction


def test_everything_can_be_downloaded(service: PageServer, look: Look, tmp_path: Path):
    window = look(service)
    window.goto()
    window.page.click("#example")
    sentence = window.ask()
    got = {}
    for name in ("report", "JSON", "CSV", "PNG"):
        with window.page.expect_download() as waiting:
            window.page.get_by_role("button", name=name, exact=True).click()
        got[name] = Path(waiting.value.path()).read_bytes()
        assert waiting.value.suggested_filename.startswith("Si.")
    prediction = loads_strict(got["JSON"])
    assert prediction["model_version"] == "3"
    rows = got["CSV"].decode().splitlines()
    assert len(rows) == 1 + len(prediction["elements"])
    assert rows[1].split(",")[3] == prediction["elements"][0]["element"]
    assert got["PNG"].startswith(b"\x89PNG")
    report = got["report"].decode()
    assert "<script" not in report
    assert "Si.csv" in report
    assert sentence


def checked(route: Any) -> None:
    """The service's answers, each with a fit that explains the change: only a checked answer can pass."""
    answer = route.fetch()
    body = answer.json()
    for one in body["answers"]:
        if one["prediction"]["error"] is None:
            one["prediction"]["fit"] = {"host_id": "mp-149", "explained": 0.9, "sources": [], "alternatives": []}
            one["said"] = one["said"] | {"trust": "plain", "doubts": []}
    route.fulfill(response=answer, json=body)


def test_fifty_files_at_once_with_limits(service: PageServer, look: Look, examples: Path):
    window = look(service)
    window.expected = ["422"]
    window.page.route("**/v1/study", checked)
    window.goto()
    content = (examples / "Si.csv").read_bytes()
    many = [(f"wafer-{k:02d}.csv", content) for k in range(49)]
    window.drop(*many, ("broken.csv", b"nothing at all"), examples / "Si-pristine.csv")
    window.host("Si")
    page = window.page
    page.wait_for_selector("#ask:not([disabled])")
    page.click("#ask")
    page.wait_for_selector("#many")
    assert page.locator("#many tbody tr").count() == 50
    (verdict,) = service.backend.predictor.predict(
        [read_query(examples / "Si.csv", "Si", reference=examples / "Si-pristine.csv").query]
    )
    ge = next(one for one in verdict.elements if one.element == "Ge")
    assert ge.present
    for limit, mark in ((100 * ge.high + 0.1, "✓ pass"), (50 * (ge.low + ge.high), "? undecided"), (0.25, "✗ fail")):
        page.fill("#limits", f"Ge {limit:.2f}")
        assert page.locator(f"#many td.judged:has-text('{mark}')").count() == 49 + (mark[0] == "?")
        assert page.locator("#many tr:has-text('broken.csv') td.judged").inner_text().startswith("? undecided")
    page.fill("#limits", "Ge two")
    assert page.get_attribute("#limits", "aria-invalid") == "true"
    page.click("#many button:text-is('wafer-07.csv')")
    assert "Ge" in window.said()
    page.click("text=← all samples")
    assert page.is_visible("#many")


def test_a_broken_file_says_what_is_wrong(service: PageServer, look: Look):
    window = look(service)
    window.expected = ["422"]
    window.goto()
    window.drop(("<img src=x onerror=alert(1)>.csv", b"1 2\n3 <script>alert(1)</script>\n"))
    card = window.page.locator(".card.wrong")
    card.wait_for()
    assert "<img src=x onerror=alert(1)>.csv" in card.inner_text()
    assert card.locator(".error").inner_text()
    assert window.page.is_disabled("#ask")
    card.get_by_role("button", name=re.compile("^Remove")).click()
    assert window.page.locator(".card").count() == 0


def test_the_service_is_restarted_under_the_page(chromium: Any, look: Look):
    with served(ServiceSettings(model="released"), released_model()) as server:
        window = look(server)
        window.expected = ["Failed to load resource", "ERR_"]
        window.goto()
        window.page.click("#example")
        window.page.wait_for_selector("#ask:not([disabled])")
        server.stop()
        again = threading.Timer(1.5, server.start)
        again.start()
        try:
            window.page.click("#ask")
            window.page.wait_for_selector("#waiting:not([hidden])")
            assert "Ge" in window.said()
            window.page.wait_for_selector("#waiting", state="hidden")
        finally:
            again.join()


def test_a_token_is_asked_for_once(chromium: Any, look: Look):
    tokens = {
        "anna": {"sha256": hash_token("sesame"), "roles": ["score"]},
        "op": {"sha256": hash_token("operator"), "roles": ["admin"]},
    }
    settings = ServiceSettings.model_validate({"model": "released", "tokens": tokens})
    with served(settings, released_model()) as server:
        window = look(server)
        window.expected = ["401", "403"]
        window.goto()
        page = window.page
        page.wait_for_selector("#sign-in[open]")
        assert window.axe("signing in") == []
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        page.wait_for_selector("text=That token is not valid.")
        page.fill("#token", "sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#sign-in", state="hidden")
        page.click("#example")
        assert "Ge" in window.ask()
        assert server.url not in str(page.context.cookies())
        window.goto("/status")
        page.wait_for_selector("text=this token may not admin")
        page.click("#sign")
        page.wait_for_selector("#sign-in[open]")
        page.fill("#token", "operator")
        page.press("#token", "Enter")
        page.wait_for_selector("text=Processes that hold the model")
        assert window.axe("status") == []


def test_with_the_keyboard_alone(service: PageServer, look: Look):
    window = look(service)
    window.goto()
    page = window.page
    page.wait_for_selector("#example")
    order = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate("(({id, name, tagName}) => id || name || tagName)(document.activeElement)")
        order.append(name)
        if name == "example":
            page.keyboard.press("Enter")
            page.wait_for_selector("#ask:not([disabled])")
        if name == "ask":
            page.keyboard.press("Enter")
            break
    assert order[-1] == "ask", order
    assert {"browse", "host", "kind", "reference", "elements", "prior"} <= set(order)
    assert "Ge" in window.said()


def test_hosts_are_completed(service: PageServer, look: Look):
    window = look(service)
    window.expected = ["422"]
    window.goto()
    page = window.page
    page.locator("#host").press_sequentially("MgO", delay=30)
    page.wait_for_selector("#host-list li")
    assert page.locator("#host-list li").first.inner_text().startswith("MgO")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#host", "aria-activedescendant") == "host-option-0"
    page.keyboard.press("Enter")
    assert page.input_value("#host") == "MgO"
    assert page.is_hidden("#host-list")
    window.host("Nonsense1")
    page.wait_for_selector("#host[aria-invalid=true]")
    assert page.inner_text("#host-problem")


def test_a_history_of_this_browser(service: PageServer, look: Look):
    window = look(service)
    window.goto()
    window.page.click("#example")
    sentence = window.ask()
    window.page.reload()
    window.page.click("#runs button")
    assert window.said() == sentence
    window.page.click("#forget")
    assert window.page.is_hidden("#history")


def test_an_answer_that_explains_little_is_doubted_first(service: PageServer, look: Look):
    """A fit is laid over the service's answer: what the page makes of curves, sources and next-best sets."""
    window = look(service)

    def with_fit(route: Any) -> None:
        answer = route.fetch()
        body = answer.json()
        (one,) = body["answers"]
        curves = one["curves"]
        curves["each"] = {"Ge": [0.2 * value for value in curves["measured"]], "As": [0.01] * len(curves["measured"])}
        curves["residual"] = [0.8 * value - 0.01 for value in curves["measured"]]
        one["prediction"]["fit"] = {
            "host_id": "mp-149",
            "explained": 0.2,
            "sources": [{"element": "Ge", "source": "endmember"}, {"element": "As", "source": "springs"}],
            "alternatives": [{"elements": ["Sn"], "concentrations": [0.02], "explained": 0.15}],
        }
        one["said"] = {
            "sentence": "Doubtful, the elements found explain only 20 % of the measured change: found Ge.",
            "trust": "doubt",
            "doubts": ["the elements found explain only 20 % of the measured change"],
        }
        route.fulfill(response=answer, json=body)

    window.page.route("**/v1/study", with_fit)
    window.goto()
    window.page.click("#example")
    assert window.ask().startswith("Doubtful")
    page = window.page
    assert page.inner_text(".verdict .trust") == "Doubtful"
    assert "explain 20 % of the measured change; 80 % is left" in page.inner_text("#explained")
    assert "endmember" in page.inner_text("#elements")
    assert page.inner_text("#alternatives li") == "Sn 2.0 at.%: explains 15 %"
    keys = page.locator("#plot .key").all_inner_texts()
    assert [key.strip() for key in keys] == [
        "measured change", "Ge", "As", "fitted sum", "residual", "pristine reference", "sample",
    ]  # fmt: skip
    page.click("#elements .pick[data-element='Ge']")
    assert page.locator("#plot .plot-picture .curve.front").count() == 1
    assert window.axe("a fit") == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
def test_no_serious_finding_of_axe(service: PageServer, look: Look, examples: Path, size: Any, theme: str):
    window = look(service, size=size, theme=theme)
    page = window.page
    found = []
    for path in ("/docs", "/status", "/"):
        window.goto(path)
        page.wait_for_load_state("networkidle")
        found += window.axe(path)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path
    page.click("#example")
    page.check("input[name=elements][value=some]")
    page.click("#take-expected")
    window.ask()
    page.click("#elements .pick >> nth=0")
    found += window.axe("answer")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    window.drop(*[(f"{k}.csv", (examples / "Si.csv").read_bytes()) for k in range(3)])
    page.wait_for_selector("#ask:has-text('4 spectra'):not([disabled])")
    page.click("#ask")
    page.wait_for_selector("#many")
    page.fill("#limits", "Ge 2")
    found += window.axe("many")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert found == []


def test_the_theme_is_kept(service: PageServer, look: Look):
    window = look(service, theme="light")
    window.goto()
    ground = "getComputedStyle(document.body).backgroundColor"
    light = window.page.evaluate(ground)
    window.page.click("#theme")
    window.page.click("#theme")
    dark = window.page.evaluate(ground)
    assert dark != light
    window.page.reload()
    assert window.page.evaluate(ground) == dark
