"""What an installation brings: what is imported is declared, in the right extra, and each file is shipped."""

import ast
import re
import sys
import tomllib
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

# Package → the extras it may import from, beside the base installation.
EXTRAS_OF = {
    # Imported inside of functions: files of phonopy with force constants, `defectnet.io.ray_session`, and workbooks.
    "defectnet": ("simulate", "excel"),
    "datagen": ("simulate", "nep"),
    "training": ("train",),
    "serving": ("serve", "trace"),
}
# Who uses the base installation and its extras; the tools of the others are not for the packages.
USED_BY_THE_PACKAGES = ("simulate", "train", "serve", "trace", "excel")


def plain(name: str) -> str:
    """A distribution's name as the package index compares it, without extras, versions and markers."""
    return re.split(r"[\[<>=!~; ]", name, maxsplit=1)[0].replace("_", "-").lower()


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def declared(project: dict[str, Any], *extras: str) -> set[str]:
    """The distributions of the base installation and of these extras."""
    table = project["project"]
    lists = [table["dependencies"], *(table["optional-dependencies"][extra] for extra in extras)]
    return {plain(entry) for entries in lists for entry in entries}


def imported(folder: Path) -> set[str]:
    """The top-level packages of others that any file of a folder imports, wherever in the file."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - set(EXTRAS_OF)


@cache
def installed() -> dict[str, list[str]]:
    """Module → the distributions that bring it; asked once, for it reads the records of all of them."""
    return dict(packages_distributions())


def distributions(module: str) -> set[str]:
    """Those that bring a module; where it is not installed, the one of its name."""
    return {plain(name) for name in installed().get(module, [module])}


@pytest.mark.parametrize("package", EXTRAS_OF)
def test_what_is_imported_is_declared(repository: Path, project: dict[str, Any], package: str) -> None:
    there = declared(project, *EXTRAS_OF[package])
    modules = imported(repository / package)
    assert "numpy" in modules
    assert {module for module in modules if not distributions(module) & there} == set()


def test_what_is_declared_is_imported(repository: Path, project: dict[str, Any]) -> None:
    used = {
        name for package in EXTRAS_OF for module in imported(repository / package) for name in distributions(module)
    }
    assert declared(project, *USED_BY_THE_PACKAGES) - used == set()


@pytest.mark.parametrize("package", EXTRAS_OF)
def test_what_lies_in_a_package_is_shipped(repository: Path, project: dict[str, Any], package: str) -> None:
    patterns = project["tool"]["setuptools"]["package-data"][package]
    folder = repository / package
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert [
        str(f) for f in files if not any(fnmatch(str(f.relative_to(folder)), pattern) for pattern in patterns)
    ] == []
