"""YAML of strangers, looked at before a library reads it that would make any object that the text names.

phonopy reads its files with PyYAML's full loader, which runs code where a tag says so, and a few anchors that name each
other unfold into gigabytes. phonopy itself writes neither tags nor anchors, so a text that has any is refused unread.
"""

import re

from defectnet.errors import InputError

__all__ = ["check_yaml"]

# An anchor or an alias stands where a value may begin.
_ANCHOR = re.compile(r"(?:^|[\s\[{,:])[&*][^\s,\[\]{}]", re.MULTILINE)
# Flow brackets, and indentation in spaces: each two spaces can be a level.
_MOST_NESTED = 32
_DEEP = re.compile(rf"^ {{{2 * _MOST_NESTED},}}|^[ \-]*(?:- ){{{_MOST_NESTED}}}", re.MULTILINE)


def check_yaml(text: str, where: str, *, field: str = "file") -> None:
    """Make sure that a text names no objects, unfolds into nothing larger than itself, and nests like a data file.

    Args:
        where: what it is called in the sentence.

    Raises:
        InputError: it does not.
    """
    fix = "give the file as phonopy wrote it"
    # Wherever it stands: a tag cannot do without the sign, and no file of phonopy has it.
    if "!" in text:
        raise InputError(f"{where} has a YAML tag, which is never followed", fix=fix, field=field)
    if _ANCHOR.search(text):
        raise InputError(f"{where} has YAML anchors, which are never followed", fix=fix, field=field)
    depth = 0
    for match in re.finditer(r"[\[{\]}]", text):
        depth += 1 if match[0] in "[{" else -1
        if depth > _MOST_NESTED:
            break
    if depth > _MOST_NESTED or _DEEP.search(text):
        raise InputError(f"{where} nests deeper than {_MOST_NESTED} levels", fix=fix, field=field)
