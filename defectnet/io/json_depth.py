"""How deep JSON nests, found before a parser recurses into it.

Python's parser stops at the interpreter's recursion limit. Libraries raise that limit for the whole process, and a body
of opening brackets then overflows the stack of the process instead.
"""

import re

__all__ = ["MOST_NESTED", "check_depth"]

# Far more than any of our formats needs.
MOST_NESTED = 100
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[{\]}]', re.DOTALL)


def check_depth(text: str) -> None:
    """Make sure that JSON text nests no deeper than `MOST_NESTED`; strings do not count.

    Raises:
        RecursionError: it does.
    """
    if text.count("[") + text.count("{") <= MOST_NESTED:
        return
    depth = 0
    for match in _TOKEN.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            if depth > MOST_NESTED:
                raise RecursionError("nests too deep")
        elif first in "]}":
            depth -= 1
