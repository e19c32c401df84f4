"""The drawing: where points land, what is not drawn, and that no text becomes markup."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from defectnet.pages.panels import Curve, Panel, draw_panels

SVG = "{http://www.w3.org/2000/svg}"
X = np.linspace(0.0, 10.0, 101)


def drawn(*panels: Panel, **options: float) -> ElementTree.Element:
    text = draw_panels(panels, summary='a < b & "c"', **options)
    return ElementTree.fromstring(text.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def points(root: ElementTree.Element, style: str, kind: str = "curve") -> np.ndarray:
    (path,) = root.findall(f".//{SVG}path[@class='{kind} {style}']")
    return np.array(re.findall(r"([\d.-]+) ([\d.-]+)", path.get("d", "")), dtype=float)


def test_points_land_where_the_axis_says() -> None:
    root = drawn(Panel("y", [Curve("a", "sample", X, np.sin(X))]), top_thz=10.0)
    where = points(root, "sample")
    assert where.shape == (*X.shape, 2)
    assert np.ptp(np.diff(where[:, 0])) < 0.15  # even steps, but for rounding to a tenth of a pixel
    ticks = {text.text: float(text.get("x", "nan")) for text in root.iter(f"{SVG}text") if text.get("class") == "tick"}
    assert where[60, 0] == pytest.approx(ticks["6"], abs=0.1)
    zero = next(line for line in root.iter(f"{SVG}line") if line.get("class") == "zero")
    scale = np.polyfit(np.sin(X), where[:, 1], 1)
    assert scale[1] == pytest.approx(float(zero.get("y1", "nan")), abs=0.1)
    assert scale[0] < 0


def test_the_second_axis_is_in_mev() -> None:
    root = drawn(Panel("y", [Curve("a", "sample", X, np.ones_like(X))]), top_thz=10.0)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Frequency (THz)", "Energy (meV)", "40"} <= set(texts)


def test_a_gap_in_the_errors_parts_the_band() -> None:
    error = np.full_like(X, 0.1)
    error[40:60] = np.nan
    root = drawn(Panel("y", [Curve("a", "sample", X, np.ones_like(X), error)]), top_thz=10.0)
    bands = root.findall(f".//{SVG}path[@class='band sample']")
    assert len(bands) == 2
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_the_axis_ends_where_the_curves_do() -> None:
    curve = np.where(X < 5.0, 1.0, 0.0)
    root = drawn(Panel("y", [Curve("a", "sample", X, curve)]))
    assert points(root, "sample")[-1, 0] > 800  # the last point that is drawn, not the fifth of ten
    assert points(root, "sample").shape[0] < 60


def test_names_are_text() -> None:
    root = drawn(Panel("<script>", [Curve("</svg><script>alert(1)</script>", "sample", X, X)]))
    assert root.get("aria-label") == 'a < b & "c"'
    assert not list(root.iter(f"{SVG}script"))
    assert "</svg><script>alert(1)</script>" in [text.text for text in root.iter(f"{SVG}text")]


def test_nothing_to_draw_is_a_picture_all_the_same() -> None:
    root = drawn(Panel("y", [Curve("a", "sample", X, np.zeros_like(X))]), top_thz=10.0)
    assert np.isfinite(points(root, "sample")).all()
