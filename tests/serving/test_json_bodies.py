"""The fast way into JSON says exactly what the strict one says, of good bodies and of bad ones."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defectnet.errors import InputError
from defectnet.io.json_depth import MOST_NESTED
from defectnet.io.strict_json import loads_strict
from serving import json_bodies
from serving.json_bodies import JsonAnswer, loads_body

NUMBERS = st.integers() | st.floats() | st.integers(10**17, 10**25)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def said(read: Any, body: bytes) -> str:
    """What a reader makes of a body, types and all: `repr` tells 1 from 1.0, and -0.0 from 0.0."""
    try:
        return repr(read(body))
    except InputError as error:
        return f"refused: {error.field}: {error}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'[{"a": 1}, {"a": 1, "a": 2}]',
        b'[1, {"a": 1, "a": 2}]',
        b'{"a": "x:y", "b": "[{"}',
        b'{"a": ":", "b": 1, "b": 2}',
        b"[NaN]",
        b"[-Infinity]",
        b"[1e999]",
        b"[18446744073709551616]",
        b"[-18446744073709551616]",
        b"[9223372036854775808, 9223372036854775807]",
        b"[" + b"7" * 400 + b"]",
        b"[" + b"7" * 5000 + b"]",
        b'["\\ud800"]',
        b'"\xff"',
        b'\xef\xbb\xbf{"a": 1}',
        b"[" * 2000 + b"]" * 2000,
        b"[" * MOST_NESTED + b"]" * MOST_NESTED,
        b"[" * (MOST_NESTED + 1) + b"]" * (MOST_NESTED + 1),
        b"[1, " * (MOST_NESTED + 1) + b"1" + b"]" * (MOST_NESTED + 1),
        b'{"a": -0, "b": -0.0, "c": 1E400, "d": 0.1e-400}',
        b"[-123456789012345678901234567890, 123456789012345678901234567890.5]",
        b"123456789012345678901234567890",
    ],
)
def test_the_same_value_or_the_same_words(body: bytes):
    assert said(loads_body, body) == said(loads_strict, body)


@settings(deadline=None, max_examples=300)
@given(VALUES, st.booleans())
def test_the_same_for_any_value(value: Any, ascii_only: bool):
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    assert said(loads_body, body) == said(loads_strict, body)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40) | st.text('[]{}:,"0129.eE-+ntf \\', max_size=40).map(str.encode))
def test_the_same_for_any_bytes(body: bytes):
    assert said(loads_body, body) == said(loads_strict, body)


def test_an_ordinary_body_does_not_take_the_slow_way(monkeypatch: pytest.MonkeyPatch):
    def never(_: bytes) -> Any:
        raise AssertionError("the strict parser was asked")

    monkeypatch.setattr(json_bodies, "loads_strict", never)
    axis = [0.1 * i for i in range(50)]
    # The last of them has 20 digits after its point, as small densities do.
    item = {"host": "Si", "unit": "THz", "frequency": axis, "dos": [*(1 / (value + 1) for value in axis), 1e-3 / 7]}
    request = {"spectra": [item | {"reference": {"frequency": [0.5, 1], "dos": [1, 2.5]}} for _ in range(60)]}
    assert loads_body(json.dumps(request).encode()) == request


@settings(deadline=None, max_examples=300)
@given(st.from_regex(r"\A-?[0-9]{1,3}\.[0-9]{15,60}(e-?[0-9]{1,3})?\Z"))
def test_a_number_of_many_digits_is_rounded_alike(number: str):
    body = f"[{number}]".encode()
    assert said(loads_body, body) == said(loads_strict, body)


def test_an_answer_is_json_and_figures_come_back_exactly():
    figures = [0.1, 1e-7, 1 / 3, 5e-324, 1.7976931348623157e308, 0.0]
    answer = JsonAnswer({"a": figures, "text": "μ → Å"})
    assert json.loads(answer.body) == {"a": figures, "text": "μ → Å"}
    assert answer.headers["content-type"] == "application/json"
