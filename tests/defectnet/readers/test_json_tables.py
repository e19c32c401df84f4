"""Tables between bars, and tables in JSON: the same spectrum as in columns of text, whatever way they are laid out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from defectnet.errors import InputError
from defectnet.readers import Reading, parse_text, read_file

MEV = np.round(np.arange(1, 121) * 0.5, 4)
DOS = np.round(np.exp(-0.5 * ((MEV - 30) / 8) ** 2) + 0.002, 6)
ERROR = np.full(MEV.size, 0.02)
ROWS = [{"energy_mev": float(x), "dos": float(y), "error": float(e)} for x, y, e in zip(MEV, DOS, ERROR, strict=True)]
PAIRS = [[row["energy_mev"], row["dos"]] for row in ROWS]
TRUTH = parse_text("energy_mev,dos\n" + "".join(f"{x},{y}\n" for x, y in PAIRS))


def read(path: Path, content: Any, **wish: Any) -> Reading:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_file(path, **wish)


def same(found: Reading) -> None:
    np.testing.assert_allclose(found.spectrum.frequency_thz, TRUTH.spectrum.frequency_thz, rtol=1e-12)
    np.testing.assert_allclose(found.spectrum.dos, TRUTH.spectrum.dos, rtol=1e-12)


@pytest.mark.parametrize(
    ("content", "errors"),
    [
        (ROWS, True),
        ("\n".join(map(json.dumps, ROWS)), True),
        ({"unit": "meV", "title": "Si", "points": [{"frequency": x, "dos": y} for x, y in PAIRS]}, False),
        ([{**row, "sample": "Si 300 K"} for row in ROWS], True),
        ([{name: str(value) for name, value in row.items()} for row in ROWS], True),
        ({"columns": ["Energy (meV)", "DOS"], "index": list(range(len(PAIRS))), "data": PAIRS}, False),
        ({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}, True),
        ({str(i): row for i, row in enumerate(ROWS)}, True),
        ({"units": "meV", "data": PAIRS}, False),
        ({"unit": "meV", "spectrum": [MEV.tolist(), DOS.tolist()]}, False),
        ({"$schema": "vega", "data": {"values": ROWS}, "mark": "line"}, True),
        ({"e_lo_mev": (MEV - 0.25).tolist(), "e_hi_mev": (MEV + 0.25).tolist(), "counts": DOS.tolist()}, False),
    ],
)
def test_every_layout_is_read(tmp_path: Path, content: Any, errors: bool) -> None:
    found = read(tmp_path / "a.json", content)
    same(found)
    assert (found.error is not None) == errors
    if found.error is not None:
        np.testing.assert_allclose(found.error, 0.02 * 4.135667696923859, rtol=1e-9)


def test_rows_may_lack_what_others_have(tmp_path: Path) -> None:
    rows = [dict(row) for row in ROWS]
    del rows[5]["error"]
    rows[9]["error"] = None  # type: ignore[assignment]
    found = read(tmp_path / "a.json", rows)
    same(found)
    assert found.error is not None
    assert np.flatnonzero(np.isnan(found.error)).tolist() == [5, 9]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"frequency": x, "dos": y} for x, y in PAIRS], "does not say its unit"),
        (PAIRS, "does not say its unit"),
        ([{"raman_shift_cm-1": x, "intensity": y} for x, y in PAIRS], "it speaks of 'raman'"),
        ([{"temperature": x, "heat_capacity": y} for x, y in PAIRS], "is no density of vibrational states"),
        ([{"energy_mev": x, "dos": "much" if x == 8 else y} for x, y in PAIRS], "is not numbers"),
        ([{"energy_mev": x, "doped": y, "pristine": y} for x, y in PAIRS], "'pristine', is no error"),
        ({"unit": "furlong", "rows": [{"frequency": x, "dos": y} for x, y in PAIRS]}, "unknown unit 'furlong'"),
        ({"a": ROWS, "b": ROWS}, r"holds 2 spectra \(1 'a', 2 'b'\); name one with --spectrum"),
        ([{"frequency": {"value": x}, "dos": {"value": y}} for x, y in PAIRS], "holds no spectrum"),
        (ROWS[:2], "holds no spectrum"),
        ([1, 2, 3], "holds no spectrum"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path / "a.json", content)


def test_one_of_several_is_chosen(tmp_path: Path) -> None:
    same(read(tmp_path / "a.json", {"a": ROWS[::-1][:50], "b": ROWS}, spectrum="b"))
    lists = {"energy_mev": MEV.tolist(), "dos_Ga": (DOS + 1).tolist(), "dos_As": DOS.tolist()}
    same(read(tmp_path / "b.json", lists, column="dos_As"))
    same(read(tmp_path / "c.json", [{"energy_mev": x, "doped": y, "pristine": 1} for x, y in PAIRS], column="doped"))
    with pytest.raises(InputError, match="has no single column 'dos_In'"):
        read(tmp_path / "b.json", lists, column="dos_In")


def test_what_stands_beside_the_rows_counts(tmp_path: Path) -> None:
    content = {"weighting": "neutron", "units": "meV", "fwhm": "2 meV", "rows": PAIRS}
    found = read(tmp_path / "a.json", content)
    assert (found.kind, found.unit.name) == ("neutron", "meV")
    assert found.broadening is not None
    assert found.broadening.sigma_thz == pytest.approx(2 / 4.135667696923859 / 2.3548, rel=1e-3)


def markdown(rule: str, cell: Callable[[float], str] = str) -> str:
    body = [f"| {cell(x)} | {cell(y)} | {cell(e)} |" for (x, y), e in zip(PAIRS, ERROR, strict=True)]
    return "\n".join(["# measured at 300 K", "", "| Energy (meV) | GDOS | error |", rule, *body, ""])


@pytest.mark.parametrize(
    "text",
    [
        markdown("|---|---:|:---|"),
        markdown("|--------------+------+-------|"),
        markdown("+--------------+------+-------+"),
        markdown("├──────────────┼──────┼───────┤").replace("|", "│"),
        markdown("|---|---|---|", lambda value: f"{value:.6f}".replace(".", ",")),
        "Energy (meV)|GDOS|error\n" + "".join(f"{x}|{y}|{e}\n" for (x, y), e in zip(PAIRS, ERROR, strict=True)),
        "Energy (meV) | GDOS | error\n"
        + "".join(f"{x} | {y} | {e} |\n" for (x, y), e in zip(PAIRS, ERROR, strict=True)),
    ],
)
def test_tables_between_bars(text: str) -> None:
    found = parse_text(text)
    same(found)
    assert [column.name for column in found.columns] == ["Energy (meV)", "GDOS", "error"]
    assert found.error is not None


def test_bars_elsewhere_mean_nothing() -> None:
    """In a remark, or in a column's name."""
    text = "# |E| up to 60 meV\n# Frequency (THz)  |DOS|\n" + "".join(f"{x} {y}\n" for x, y in PAIRS)
    found = parse_text(text)
    assert found.unit.name == "THz"
    assert found.spectrum.frequency_thz.size == MEV.size
