"""What documents hold that can be tried: blocks of code, and links to files."""

import re
from pathlib import Path

__all__ = ["blocks", "broken_links"]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def broken_links(path: Path) -> list[str]:
    """Links to files that are not there."""
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target and not (path.parent / target).exists()]
