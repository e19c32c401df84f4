"""What the documentation tells people to type works, and the site builds."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.markdown import blocks, broken_links, missing_files

from defectnet.cli.main import main

PAGES = ("spectrum-to-answer.md", "fine-tuning.md", "cluster-to-promotion.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_commands(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("examples", "defectnet"):
        (tmp_path / name).symlink_to(repository / name)
    commands = [line for block in blocks(repository / "docs" / page, "bash") for line in block.splitlines()]
    assert commands
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        assert code == 0, f"{command}\n{capsys.readouterr().err}"


def test_the_python(repository: Path) -> None:
    (code,) = blocks(repository / "docs" / "spectrum-to-answer.md", "python")
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Ge: p = " in result.stdout


def test_the_pages_of_the_site_are_there(repository: Path) -> None:
    pages = {path.name for path in (repository / "docs").glob("*.md")}
    listed = set(re.findall(r": ([\w-]+\.md)$", (repository / "configs/docs.yaml").read_text(encoding="utf-8"), re.M))
    assert set(PAGES) <= listed <= pages


def test_the_architecture_names_what_is_there(repository: Path) -> None:
    """Each question of the table has its file, and each file that is named exists."""
    text = (repository / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (… .*\?) \| (.*) \|$", text, flags=re.M)
    assert len(rows) >= 15
    assert all("`" in answer for _, answer in rows)
    named = re.findall(r"`((?:defectnet|datagen|training|serving|tests)/[\w./]*)`", text)
    assert [path for path in named if not (repository / path).exists()] == []


def test_links_lead_somewhere(repository: Path) -> None:
    for path in (repository / "docs").glob("*.md"):
        assert broken_links(path) == [], path.name
        assert missing_files(path, repository) == [], path.name


@pytest.mark.slow
def test_the_site_builds(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--config-file", str(repository / "configs" / "docs.yaml"), "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=repository)
    assert result.returncode == 0, result.stderr
    assert "read_file" in (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
