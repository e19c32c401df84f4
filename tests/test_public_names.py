"""What a module offers is what its `__all__` says: nobody takes a name that is not on the list."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import defectnet

HERE = Path(__file__).resolve().parent.parent
PACKAGES = ("defectnet", "datagen", "training", "serving")
# Who must keep to the lists; the tests may look inside.
FOLDERS = (*PACKAGES, "benchmarks", "examples")
FILES = sorted(path for folder in FOLDERS for path in (HERE / folder).rglob("*.py"))
# Programs, not packages, may use each other's names.
PROGRAMS = ("benchmarks", "examples")


def source_of(module: str) -> Path | None:
    """The file of a module of ours."""
    stem = HERE.joinpath(*module.split("."))
    found = (stem.with_suffix(".py"), stem / "__init__.py")
    return next((path for path in found if path.is_file()), None)


def listed(module: str) -> set[str]:
    """The names of `__all__`, read from the source, for some modules cost seconds to import."""
    path = source_of(module)
    assert path is not None, module
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return set(ast.literal_eval(node.value))
    return set()


def taken(path: Path) -> list[tuple[str, str]]:
    """(module, name) of every name of ours that a file imports, or takes from a module that it imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: dict[str, str] = {}
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            assert node.module is not None
            for alias in node.names:
                if source_of(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                else:
                    found.append((node.module, alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            module = modules[node.value.id]
            if not source_of(f"{module}.{node.attr}"):
                found.append((module, node.attr))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HERE)))
def test_only_listed_names_are_taken(path: Path) -> None:
    unlisted = {
        f"{module}.{name}" for module, name in taken(path) if name != "__version__" and name not in listed(module)
    }
    assert unlisted == set()


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.relative_to(HERE).parts[0] in PROGRAMS], ids=lambda p: p.name
)
def test_programs_use_no_part_of_the_command_line(path: Path) -> None:
    assert {module for module, _ in taken(path) if f"{module}.".startswith("defectnet.cli.")} == set()


def test_the_public_face_is_what_it_says() -> None:
    """The list, the homes of the names, and what a type checker reads are three; they must be one."""
    tree = ast.parse(Path(defectnet.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == defectnet._MODULE_OF
    assert sorted(typed) == sorted(defectnet.__all__)
    for name in defectnet.__all__:
        assert getattr(defectnet, name) is not None
        assert name in dir(defectnet)
        assert name in listed(typed[name] or "")
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        defectnet.Nonsense  # noqa: B018


def test_the_public_face_costs_nothing() -> None:
    code = "import sys, defectnet; print(sorted({'numpy', 'torch', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_published(package: str) -> None:
    assert (HERE / package / "py.typed").is_file()
