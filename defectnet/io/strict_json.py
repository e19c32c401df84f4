"""JSON as RFC 8259 has it: no NaN, no infinity, no key given twice, and never a traceback."""

import json
import math
from typing import Any

from defectnet.errors import InputError
from defectnet.io.json_depth import check_depth

__all__ = ["loads_strict"]


def loads_strict(body: bytes) -> Any:
    """Parse a body.

    Raises:
        InputError: the body is not UTF-8, is cut short, nests too deep, repeats a key, or holds a number that is not
            finite; the last two name the place, such as `spectra[2].dos[17]`.
    """
    if not body:
        raise InputError("is empty", fix='send {"spectra": [...]}', field="body")
    seen_not_finite = False

    def refuse_later(_: str) -> float:
        nonlocal seen_not_finite
        seen_not_finite = True
        return math.nan

    try:
        text = body.decode("utf-8")
        check_depth(text)
        value = json.loads(text, object_pairs_hook=_once, parse_constant=refuse_later)
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8", fix="send UTF-8", field="body") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not JSON ({error.msg} at line {error.lineno} column {error.colno})",
            fix="check that it was sent whole",
            field="body",
        ) from None
    except RecursionError:
        raise InputError("nests too deep", fix="send a flat list of spectra", field="body") from None
    except ValueError:  # Python refuses to read an integer of more than 4,300 digits
        raise InputError("holds a number that is too long", fix="send ordinary numbers", field="body") from None
    if seen_not_finite:
        raise InputError(
            "NaN and Infinity are not JSON", fix="remove or repair the point", field=_where_not_finite(value) or "body"
        )
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("the key is given twice", fix="keep one", field=twice[:64])
    return made


def _where_not_finite(value: Any, path: str = "") -> str | None:
    """Path of the first number that is not finite. The parser's own depth limit bounds the recursion."""
    if isinstance(value, float):
        return None if math.isfinite(value) else path
    if isinstance(value, dict):
        children = ((f"{path}.{key}".lstrip("."), child) for key, child in value.items())
    elif isinstance(value, list):
        children = ((f"{path}[{index}]", child) for index, child in enumerate(value))
    else:
        return None
    return next((found for where, child in children if (found := _where_not_finite(child, where)) is not None), None)
