"""Bearer tokens: who may ask.

Only the SHA-256 of a token is ever stored. That is enough because a token is a random string, not a password: there is
nothing to guess, so there is nothing for a slow hash to slow down.
"""

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256

__all__ = ["authorised_as", "hash_token", "new_token"]

ANONYMOUS = "anonymous"


def new_token() -> str:
    """A fresh token with 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What the settings store of a token."""
    return sha256(token.encode()).hexdigest()


def authorised_as(header: str | None, tokens: Mapping[str, str]) -> str | None:
    """The name of the token in an `Authorization` header, or None where it gives no right to an answer.

    Every stored hash is compared in constant time, matching or not, so that the time of an answer tells nothing.
    """
    if not tokens:
        return ANONYMOUS
    scheme, _, token = (header or "").partition(" ")
    digest = hash_token(token.strip())
    found = None
    for name, stored in tokens.items():
        if hmac.compare_digest(digest, stored):
            found = name
    return found if scheme.lower() == "bearer" else None
