"""Bearer tokens, their roles, and whose answer a browser may fetch."""

import pytest
from fastapi import HTTPException
from starlette.requests import Request

from serving.auth import admit, authenticate, hash_token, new_token
from serving.settings import Token

_TOKENS = {
    "beamline": Token(sha256=hash_token("open sesame")),
    "office": Token(sha256=hash_token("please"), roles=("batch",)),
    "chief": Token(sha256=hash_token("it is me"), roles=("admin",)),
}


def request(**headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


def test_without_tokens_everyone_is_served():
    caller = authenticate(None, {})
    assert caller is not None
    assert caller.may("admin")


@pytest.mark.parametrize("header", ["Bearer open sesame", "bearer open sesame"])
def test_the_name_of_the_token(header: str):
    caller = authenticate(header, _TOKENS)
    assert caller is not None
    assert caller.name == "beamline"
    assert caller.may("score")
    assert not caller.may("batch")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic please", "please", f"Bearer {hash_token('please')}"],
)
def test_no_right(header: str | None):
    assert authenticate(header, _TOKENS) is None


@pytest.mark.parametrize(
    ("token", "access", "status"),
    [
        ("open sesame", "score", None),
        ("open sesame", "any", None),
        ("open sesame", "batch", 403),
        ("open sesame", "admin", 403),
        ("please", "batch", None),
        ("please", "score", 403),
        ("it is me", "score", None),
        ("it is me", "admin", None),
        ("wrong", "any", 401),
        ("wrong", "open", None),
    ],
)
def test_roles(token: str, access: str, status: int | None):
    caller = request(authorization=f"Bearer {token}")
    if status is None:
        admit(caller, access, _TOKENS)  # type: ignore[arg-type]
        return
    with pytest.raises(HTTPException) as refused:
        admit(caller, access, _TOKENS)  # type: ignore[arg-type]
    assert refused.value.status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_without_tokens_it_answers_to_its_own_name(host: str):
    assert admit(request(host=host), "score", {}).name == "anonymous"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "[evil"])
def test_without_tokens_a_name_that_was_rebound_is_refused(host: str):
    with pytest.raises(HTTPException) as refused:
        admit(request(host=host), "open", {})
    assert refused.value.status_code == 421


def test_new_tokens_are_long_and_differ():
    first, second = new_token(), new_token()
    assert first != second
    assert len(first) >= 43
