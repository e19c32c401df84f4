"""The page of one verdict: what is in it, that nothing from a file can break out of it, and that a browser shows it."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from defectnet.check import Simulated, check_answer
from defectnet.host import Host
from defectnet.model.explain import Neighbour, explain
from defectnet.model.predictor import Prediction, Predictor
from defectnet.pages.report import write_report
from defectnet.pages.verdict_sentence import say
from defectnet.prediction import Alternative, Curves, Fit
from defectnet.query import Query
from defectnet.released import released_model
from defectnet.spectrum import Spectrum, bin_centres_thz

AXIS = bin_centres_thz(200, 0.1)
HOSTILE = '<script>document.title="owned"</script><img src=x onerror=alert(1)> & "5 %"'


def spectrum(share: float) -> Spectrum:
    dos = (1 - share) * np.exp(-((AXIS - 5.0) ** 2)) + share * np.exp(-(((AXIS - 9.0) / 0.4) ** 2))
    return Spectrum(AXIS, dos)


def simulate(wished: Mapping[str, float], count: int) -> list[Simulated]:
    return [Simulated(spectrum(sum(wished.values())), spectrum(0.0), wished) for _ in range(count)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prediction]:
    predictor = Predictor.load(released_model())
    query = Query(
        HOSTILE, Host("Si"), spectrum(0.1), spectrum(0.0), ("Ge", "Sn", "C"), uncertainty=np.full(AXIS.size, 0.01)
    )
    (prediction,) = predictor.predict([query])
    # The host is made up, so no known one fits it: the fit is made up too.
    rival = Alternative(("Sn", "C"), (0.02, 0.01), 0.7)
    prediction = replace(prediction, fit=Fit("mp-149", 0.9, {"Ge": "endmember"}, (rival,), moved=0.1))
    change = spectrum(0.1).dos - spectrum(0.0).dos
    curves = Curves(AXIS, change, {"Ge": 0.9 * change}, 0.1 * change)
    path = tmp_path_factory.mktemp("report") / "deep" / "out.html"
    write_report(
        path,
        query,
        prediction,
        explanation=explain(predictor, query, prediction),
        curves=curves,
        neighbours=[Neighbour("x<y", "Si", "Ge 9.0 %", 0.02)],
        check=check_answer(query.spectrum, spectrum(0.0), {"Ge": 0.05}, simulate),
        source="Si.csv (text)",
        card="# A card & its <limits>",
    )
    return path, prediction


def test_it_holds_everything_and_loads_nothing(page: tuple[Path, Prediction]) -> None:
    text = page[0].read_text(encoding="utf-8")
    for words in ("Elements", "Which part of the spectrum spoke", "Check by simulation", "Nearest simulated spectra"):
        assert words in text
    assert "<script" not in text
    assert "onerror=alert(1)&gt;" in text
    assert "&lt;limits&gt;" in text
    assert "default-src 'none'; style-src 'unsafe-inline'\"" in text
    assert re.findall(r'(?:src|href)="', text) == []
    # The page's own words, its drawing, and what explains the change.
    said = say(page[1])
    assert escape(said.sentence) in text
    assert f'<div class="verdict {said.trust}">' in text
    first = text[text.index("<svg") : text.index("</svg>")]
    for style in ("measured", "each-0", "fitted", "residual", "reference", "sample"):
        assert f'class="curve {style}"' in first
    assert 'class="band sample"' in first
    assert "responses of mp-149" in text
    assert "<li>Sn 2.0 at.%, C 1.0 at.%: explains 70 %</li>" in text


def test_its_curves_look_as_on_the_page(repository: Path) -> None:
    """One drawing in two languages: the report has the page's rules for curves, and its colours by day."""
    page = (repository / "serving" / "page" / "static" / "page.css").read_text(encoding="utf-8")
    report = (repository / "defectnet" / "pages" / "report.html").read_text(encoding="utf-8")
    wanted = re.compile(r"svg \.(?:tick|label|axis|grid|zero|curve|area|band)[^{]*\{[^}]*\}")
    rules = {rule for rule in wanted.findall(page) if ".front" not in rule}
    assert len(rules) > 20
    assert rules <= set(wanted.findall(report))
    day = page[page.index(":root {") : page.index("@media")]
    for name, colour in re.findall(r"--([\w-]+): (#\w+);", report):
        assert f"--{name}: {colour};" in day


def test_a_browser_shows_it(page: tuple[Path, Prediction]) -> None:
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver; on Debian: apt install chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        window.get(page[0].as_uri())
        assert window.title == f"DefectNet: Si {HOSTILE}"
        pictures = window.find_elements("css selector", "svg.plot-picture")
        assert len(pictures) == 3
        for picture in pictures:
            assert picture.is_displayed()
            assert picture.size["width"] > 300
            assert picture.size["height"] > 150
        rows = window.find_elements("css selector", "#elements tr")
        shown = [row.find_element("tag name", "td").text for row in rows[1:]]
        assert shown == [verdict.element for verdict in page[1].elements]
        assert window.find_element("id", "check").text.startswith("check: simulating the answer leaves")
        # Nothing wider than the window, so that it prints.
        width = window.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
        assert width <= 0
        assert [entry for entry in window.get_log("browser") if entry["level"] == "SEVERE"] == []
    finally:
        window.quit()
