"""Bearer tokens."""

import pytest

from serving.auth import authorised_as, hash_token, new_token

_TOKENS = {"beamline": hash_token("open sesame"), "office": hash_token("please")}


def test_without_tokens_everyone_is_served():
    assert authorised_as(None, {}) == "anonymous"


@pytest.mark.parametrize("header", ["Bearer open sesame", "bearer open sesame"])
def test_the_name_of_the_token(header: str):
    assert authorised_as(header, _TOKENS) == "beamline"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic please", "please", f"Bearer {hash_token('please')}"],
)
def test_no_right(header: str | None):
    assert authorised_as(header, _TOKENS) is None


def test_new_tokens_are_long_and_differ():
    first, second = new_token(), new_token()
    assert first != second
    assert len(first) >= 43
