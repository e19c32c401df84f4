"""The shape of the project: who imports whom, what is public, how long a file may be, what the command line shows."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from typer.testing import CliRunner

from defectnet.cli.main import app
from defectnet.settings import Settings

PACKAGES = ("defectnet", "datagen", "training", "serving")
FOLDERS = (*PACKAGES, "tests", "examples", "benchmarks")
# Lines of a file of a package; elsewhere a file may be a list of cases or of steps, and a little longer.
MAX_LINES, MAX_LINES_ELSEWHERE = 400, 500
# Lines of a function without its signature and its docstring: both of a verb are the list of its options.
MAX_LINES_OF_A_FUNCTION = 60
# Packages whose settings all have a text below each field.
DESCRIBED = ("training", "serving")
VERBS = sorted(command.name or "" for command in app.registered_commands)


def _modules() -> list[str]:
    names = list(PACKAGES)
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        names += [module.name for module in pkgutil.walk_packages(folder, f"{package}.")]
    return names


def test_import_contracts(repository: Path) -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 100
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def _settings(base: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _settings(kind)


@pytest.mark.parametrize("package", DESCRIBED)
def test_every_setting_is_described(package: str) -> None:
    for name in _modules():
        importlib.import_module(name)
    groups = [kind for kind in _settings() if kind.__module__.startswith(f"{package}.")]
    assert groups
    bare = [
        f"{kind.__name__}.{name}"
        for kind in groups
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert bare == [], "write its unit and the reason of its default right below the field"


@pytest.mark.parametrize("name", _modules())
def test_public_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    assert [entry for entry in public if not hasattr(module, entry)] == []


@pytest.mark.parametrize("name", [name for name in _modules() if name.startswith("defectnet.")])
def test_every_library_module_says_what_is_public(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert hasattr(module, "__all__") or Path(module.__file__ or "").name == "__init__.py"


def test_the_library_starts_no_heavy_machinery() -> None:
    code = (
        "import sys, defectnet.cli.main; print([m for m in ('ray', 'mlflow', 'torch', 'phonopy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def _sources(repository: Path) -> dict[str, str]:
    return {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in (repository / folder).rglob("*.py")
    }


def _may_have(path: str) -> int:
    packaged = path.startswith(tuple(f"{package}/" for package in PACKAGES))
    return MAX_LINES if packaged else MAX_LINES_ELSEWHERE


def test_no_file_is_long(repository: Path) -> None:
    lengths = {path: len(text.splitlines()) for path, text in _sources(repository).items()}
    assert lengths
    assert {path: lines for path, lines in lengths.items() if lines > _may_have(path)} == {}


def test_no_function_is_long(repository: Path) -> None:
    lengths: dict[str, int] = {}
    for path, text in _sources(repository).items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                statements = node.body[1:] if ast.get_docstring(node) else node.body
                first, last = (statements[0].lineno, node.end_lineno) if statements else (0, 0)
                lengths[f"{path}:{node.name}"] = (last or first) - first + 1
    assert len(lengths) > 1000
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES_OF_A_FUNCTION} == {}


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "defectnet", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_the_verbs() -> None:
    assert {"simulate", "train", "evaluate", "promote", "serve", "score", "predict", "plot"} <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0, result.output
    assert f"defectnet {verb}" in result.output.split("Example")[1]
