"""What the service takes for JSON."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectnet.errors import InputError
from defectnet.io.strict_json import loads_strict

_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_PLAIN)
def test_plain_json_is_read_as_it_is(value: object):
    assert loads_strict(json.dumps(value).encode()) == value


@given(st.binary(max_size=64))
def test_any_bytes_give_a_value_or_one_sentence(body: bytes):
    refusal = None
    try:
        loads_strict(body)
    except InputError as error:
        refusal = error
    if refusal:
        assert "\n" not in str(refusal)
        assert refusal.field
        assert refusal.fix


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b"", "body", "empty"),
        (b'{"spectra": [', "body", "not JSON"),
        (b"\xff", "body", "UTF-8"),
        (b"[" * 100_000, "body", "deep"),
        (b'"' + b"]" * 100_000 + b'",' + b"[" * 100_000, "body", "deep"),
        (b"1" * 5000, "body", "too long"),
        (b'{"host": "Si", "host": "Ge"}', "host", "twice"),
        (b'{"spectra": [{"dos": [1, 2, NaN]}]}', "spectra[0].dos[2]", "not JSON"),
        (b'{"spectra": [{}, {"dos": [-Infinity]}]}', "spectra[1].dos[0]", "not JSON"),
    ],
)
def test_refused(body: bytes, field: str, said: str):
    with pytest.raises(InputError, match=said) as caught:
        loads_strict(body)
    assert caught.value.field == field


def test_depth_does_not_rest_on_the_recursion_limit():
    """Libraries raise it for the whole process; the stack would overflow."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(InputError, match="deep"):
            loads_strict(b'{"spectra": ' + b"[" * 100_000)
    finally:
        sys.setrecursionlimit(limit)
