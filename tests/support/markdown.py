"""What documents hold that can be tried: blocks of code, and links to files."""

import re
from pathlib import Path

__all__ = ["blocks", "broken_links", "missing_files"]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def broken_links(path: Path) -> list[str]:
    """Links to files that are not there."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target and not (path.parent / target).exists()]


def missing_files(path: Path, repository: Path) -> list[str]:
    """Files of the project that are named between backticks, from its root or beside the document, and not there."""
    named = re.findall(r"`([\w.-]+/[\w./-]*\w\.(?:py|md|yaml|json|npz))`", path.read_text(encoding="utf-8"))
    tops = {entry.name for entry in repository.iterdir()} - {"runs"}
    ours = [name for name in named if name.split("/")[0] in tops]
    return [name for name in ours if not (repository / name).exists() and not (path.parent / name).exists()]
