"""JSON in and out of the service: as strict as `defectnet.io.strict_json`, at a quarter of its cost.

A fast parser reads the body, and what it cannot vouch for is read again by the strict one, which alone decides what is
wrong and says so. The fast one is believed only where a few counts show that nothing was hidden from it: it keeps the
last of two equal keys, makes a rounded number of a very long integer, and nests deeper than our own limit.
"""

from typing import Any

import orjson
from starlette.responses import Response

from defectnet.io.json_depth import MOST_NESTED
from defectnet.io.strict_json import loads_strict

__all__ = ["JsonAnswer", "loads_body"]

# Integers up to 19 digits fit into 64 bits, which is what the fast parser keeps exactly. A number begins after one of
# these signs; the many digits of a small density stand after a point, and are no integer.
_LONG = b"," + b"0" * 20
_BEFORE_NUMBERS = b"[:- \t\n\r"
_AS_SIGNS = bytes.maketrans(b"123456789" + _BEFORE_NUMBERS, b"0" * 9 + b"," * len(_BEFORE_NUMBERS))


class JsonAnswer(Response):
    """A JSON answer, written once and straight into bytes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def loads_body(body: bytes) -> Any:
    """Parse a body as `loads_strict` does; raises the same errors for the same bodies."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return loads_strict(body)
    keys, containers, depth = _counts(value)
    # A colon or a bracket inside of a text only makes a count too large: then the strict parser reads it, too.
    faithful = (
        keys == body.count(b":")
        and containers == body.count(b"{") + body.count(b"[")
        and depth <= MOST_NESTED
        and _LONG not in (b"," + body).translate(_AS_SIGNS)
    )
    return value if faithful else loads_strict(body)


def _counts(value: Any) -> tuple[int, int, int]:
    """Keys, containers and depth of what was parsed.

    A list that does not begin with a container is taken to hold none, for looking at every number would cost more than
    parsing them; where that is wrong, the count of containers is too small, and the strict parser reads the body.
    """
    keys = containers = deepest = 0
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        deepest += 1
        if deepest > MOST_NESTED:
            break
        containers += len(level)
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                keys += len(item)
                inner.extend(item.values())
            elif item and isinstance(item[0], dict | list):
                inner.extend(item)
        level = inner
    return keys, containers, deepest
