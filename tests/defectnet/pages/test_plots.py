from pathlib import Path

import pyarrow as pa
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from defectnet.errors import TableError
from defectnet.model.predictor import ElementVerdict, Prediction
from defectnet.pages import plots
from defectnet.pages.plots import plot_prediction, plot_table_overview
from defectnet.query import Query, iterate_rows

PNG = b"\x89PNG\r\n\x1a\n"
FOUND = ElementVerdict("Ge", True, 0.97, 0.05, 0.03, 0.07)
HESITANT = ElementVerdict("Sn", False, 0.2, 0.004, 0.001, 0.012)
UNLIKELY = ElementVerdict("C", False, 0.02, 0.002, 0.001, 0.004)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text of the figures that are saved during the test."""
    seen: list[str] = []

    def save(figure: Figure, path: str | Path) -> None:
        FigureCanvasAgg(figure).draw()
        seen.extend(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))
        original(figure, path)

    original = plots._save
    monkeypatch.setattr(plots, "_save", save)
    return seen


def query(spectra: pa.Table, index: int = 0) -> Query:
    return Query.from_row(list(iterate_rows(spectra))[index])


def verdict(*elements: ElementVerdict, error: str | None = None, warnings: tuple[str, ...] = ()) -> Prediction:
    return Prediction("s", "Si", elements, 0.1, warnings, "defectnet", "7", error)


def test_a_verdict(tmp_path: Path, spectra: pa.Table, words: list[str]) -> None:
    path = tmp_path / "new" / "verdict.png"
    plot_prediction(query(spectra), verdict(FOUND, HESITANT, UNLIKELY, warnings=("beware",)), path)
    assert path.read_bytes().startswith(PNG)
    said = "\n".join(words)
    for expected in ("Ge", "5.0 at.%", "p = 0.97", "Sn", "not found", "beware", "defectnet 7", "pristine host", "meV"):
        assert expected in said
    assert "C" not in words  # ruled out without hesitation


@pytest.mark.parametrize("elements", [(), (HESITANT,)])
def test_nothing_found_is_said(
    tmp_path: Path, spectra: pa.Table, words: list[str], elements: tuple[ElementVerdict, ...]
) -> None:
    plot_prediction(query(spectra, 3), verdict(*elements), tmp_path / "x.png")
    said = "\n".join(words)
    assert "No foreign element found" in said
    assert ("closest: Sn" in said) == bool(elements)
    assert "pristine host" not in said


def test_an_error_is_said(tmp_path: Path, spectra: pa.Table, words: list[str]) -> None:
    plot_prediction(query(spectra), verdict(error="dos: $no^ [density]"), tmp_path / "x.png")
    assert any("dos: $no^ [density]" in text for text in words)


def test_an_overview_counts_what_it_cannot_draw(tmp_path: Path, spectra: pa.Table, words: list[str]) -> None:
    plot_table_overview(spectra, tmp_path / "overview.png")
    assert (tmp_path / "overview.png").read_bytes().startswith(PNG)
    assert "4 of 5 spectra, 1 without a spectrum" in words
    assert "Si: Ge 5.0 %" in words
    assert "Si, pristine" in words


def test_a_large_table_is_sampled(tmp_path: Path, spectra: pa.Table, words: list[str]) -> None:
    plot_table_overview(pa.concat_tables([spectra] * 20), tmp_path / "overview.png")
    assert "24 of 100 spectra, 20 without a spectrum" in words


def test_a_table_without_spectra(tmp_path: Path, spectra: pa.Table) -> None:
    with pytest.raises(TableError, match="no row has a spectrum"):
        plot_table_overview(spectra.slice(4), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
