"""Who only predicts installs neither Ray nor MLflow nor phonopy; `make wheel-test` does the same with a real wheel."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from defectnet import extras
from defectnet.errors import MissingExtraError

# Makes packages look as if they were not installed, then runs the command line.
PROGRAM = """
import importlib.abc, sys

absent = set(sys.argv.pop(1).split(","))

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from defectnet.cli.main import main
main()
"""
# By which the extras are told, and what came in with them.
ALL = sorted(
    {name for packages in extras.EXTRAS.values() for name in packages} | {"starlette", "symfc", "pandas", "monty"}
)


def run(folder: Path, absent: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, ",".join(absent), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


def test_predict_needs_no_extra(repository: Path, tmp_path: Path) -> None:
    sample = ["predict", "examples/Si.csv", "--host", "Si", "--reference", "library"]
    pages = ["--plot", str(tmp_path / "verdict.png"), "--report", str(tmp_path / "report.html")]
    done = run(repository, ALL, *sample, *pages, "--json")
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert answer["elements"][0]["element"] == "Ge"
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert run(repository, ALL, "plot", "examples/batch.parquet", "--output", str(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    ("absent", "arguments", "sentence"),
    [
        ("phonopy", "simulate", "needs phonopy; install it: pip install 'defectnet[simulate]'"),
        ("mlflow", "train examples/batch.parquet", "needs mlflow; install it: pip install 'defectnet[train]'"),
        ("sklearn", "promote 3", "needs sklearn; install it: pip install 'defectnet[train]'"),
        ("ray", "serve", "needs ray; install it: pip install 'defectnet[serve]'"),
        ("fastapi", "score a b", "needs fastapi; install it: pip install 'defectnet[serve]'"),
        (
            "ase",
            "predict examples/Si.csv --structure a.cif",
            "needs ase; install it: pip install 'defectnet[simulate]'",
        ),
    ],
)
def test_a_missing_extra_is_one_sentence(repository: Path, absent: str, arguments: str, sentence: str) -> None:
    done = run(repository, [absent], *arguments.split())
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_python_hears_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.EXTRAS, "train", ("no_such_package", "json"))
    with pytest.raises(
        ImportError, match=r"training needs no_such_package; install it: pip install 'defectnet\[train\]'"
    ):
        extras.require("train", "training")
    with pytest.raises(MissingExtraError):
        extras.require("train", "training")
    extras.require("train", "training", "json")
