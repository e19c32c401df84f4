"""The notebook of the documentation runs from top to bottom, and what it shows is HTML without a script."""

import ast
import json
import os
from pathlib import Path
from typing import Any

import pytest

from defectnet.prediction import ElementVerdict, Prediction


def shown_by(code: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does and return what its last line shows."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if isinstance(last, ast.Expr) else None


def test_it_runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    notebook = json.loads(Path("docs/notebook.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs are not kept: they would grow old"
            shown.append(shown_by("".join(cell["source"]), names))
    pages = [one._repr_html_() for one in shown if hasattr(one, "_repr_html_")]
    assert len(pages) == 5
    assert sum("<polyline" in page for page in pages) == 2
    assert sum(page.count("<th>Ge</th>") for page in pages) >= 2
    assert not any("<script" in page for page in pages)
    assert os.fspath(repository) not in "".join(pages)


def test_nothing_from_a_file_becomes_markup() -> None:
    verdict = ElementVerdict("Ge", True, 0.9, 0.04, 0.02, 0.06)
    page = Prediction("<b>s", "Si", (verdict,), 0.1, ("<script>x",), "<i>m", "1")._repr_html_()
    assert not any(mark in page for mark in ("<b>", "<script", "<i>"))
    failed = Prediction.failed("s", "Si", "<b>no")._repr_html_()
    assert "No answer: &lt;b&gt;no" in failed
