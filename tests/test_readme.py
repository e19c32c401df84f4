"""What the README tells people to type works, and what it points to is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.markdown import blocks, broken_links, missing_files

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "examples/README.md", "benchmarks/README.md", "CHANGELOG.md")


def test_the_python_of_the_readme(repository: Path) -> None:
    (code,) = blocks(repository / "README.md", "python")
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "at.%" in result.stdout


@pytest.mark.parametrize("document", ["README.md", "examples/README.md"])
def test_the_commands_that_need_no_server(repository: Path, tmp_path: Path, document: str) -> None:
    lines = [line for block in blocks(repository / document, "bash") for line in block.splitlines()]
    commands = [line for line in lines if line.startswith(("defectnet predict", "defectnet plot"))]
    assert commands
    for command in commands:
        words = shlex.split(command.replace("examples/", f"{repository}/examples/"))
        words[0] = str(Path(sys.executable).with_name("defectnet"))
        result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{command}\n{result.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(repository: Path, document: str) -> None:
    assert broken_links(repository / document) == []
    assert missing_files(repository / document, repository) == []


def test_make_help_shows_every_target(repository: Path) -> None:
    makefile = (repository / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", makefile, flags=re.M)
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.M))
    assert targets == set(phony.replace("\\", " ").split())
    shown = subprocess.run(["make", "-C", repository], capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines() if line.startswith("  make ")} == targets
    named = set(re.findall(r"`make ([a-z0-9-]+)`", (repository / "README.md").read_text(encoding="utf-8")))
    assert named <= targets


def test_every_benchmark_is_in_the_index(repository: Path) -> None:
    folder = repository / "benchmarks"
    index = (folder / "README.md").read_text(encoding="utf-8")
    programs = {path.name for path in folder.glob("*.py")}
    assert programs == set(re.findall(r"`(\w+\.py)`", index))
    results = {path.name for path in (folder / "results").glob("*.json")}
    assert results <= set(re.findall(r"`(\w+\.json)`", index))
    targets = set(re.findall(r"^([a-z0-9-]+):", (repository / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    assert set(re.findall(r"`make ([a-z0-9-]+)`", index)) <= targets
