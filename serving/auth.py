"""Who may ask for what: bearer tokens with names and roles, and one table with a decision for every route.

Only the SHA-256 of a token is ever stored. That is enough because a token is a random string, not a password: there is
nothing to guess, so there is nothing for a slow hash to slow down.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.requests import HTTPConnection

from serving.settings import ROLES, Role, Token, is_loopback

__all__ = ["ACCESS", "Caller", "admit", "authenticate", "hash_token", "new_token"]

# What each route asks for: a role, "any" valid token, or "open" to whoever can connect. `serving.api` refuses to start
# with a route that is not here, so that nobody can forget the decision.
ACCESS: Mapping[str, Role | Literal["any", "open"]] = {
    "POST /v1/predict": "score",
    "GET /v1/model": "any",
    "POST /v1/batches": "batch",
    "GET /v1/batches/{batch_id}": "batch",
    "DELETE /v1/batches/{batch_id}": "batch",
    "POST /v1/model/refresh": "admin",
    # Its sender is known by the HMAC of the body, which is checked in the handler.
    "POST /v1/webhooks/mlflow": "open",
    "GET /v2": "any",
    "GET /v2/models/{name}": "any",
    "GET /v2/models/{name}/versions/{version}": "any",
    "POST /v2/models/{name}/infer": "score",
    "POST /v2/models/{name}/versions/{version}/infer": "score",
    "POST /invocations": "score",
    "GET /metrics": "any",
    # What load balancers and orchestrators ask, without a token: these tell nothing but that there is a service.
    "GET /v2/health/live": "open",
    "GET /v2/health/ready": "open",
    "GET /v2/models/{name}/ready": "open",
    "GET /v2/models/{name}/versions/{version}/ready": "open",
    "GET /ping": "open",
    "GET /health": "open",
    "GET /version": "open",
    "POST /v1/read": "score",
    "POST /v1/question": "score",
    "POST /v1/study": "score",
    "POST /v1/report": "score",
    "GET /v1/elements": "any",
    "GET /v1/hosts": "any",
    "POST /v1/hosts": "batch",
    "GET /v1/hosts/{host_id}": "any",
    "GET /v1/hosts/{host_id}/spectrum": "any",
    # The pages and the description of the interface are public: they hold nobody's data, and what they ask for is
    # guarded by itself.
    "GET /v1/status": "admin",
    "GET /": "open",
    "GET /status": "open",
    "GET /page/{name}": "open",
    "GET /docs": "open",
    "GET /openapi.json": "open",
}


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        name: the token's name in the settings.
        roles: what it may do; "admin" may do everything.
    """

    name: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        return role in self.roles or "admin" in self.roles


# Where no tokens are set the service listens on loopback only, and its user may do everything.
ANONYMOUS = Caller("anonymous", frozenset(ROLES))


def new_token() -> str:
    """A fresh token with 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """What the settings store of a token."""
    return sha256(token.encode()).hexdigest()


def authenticate(header: str | None, tokens: Mapping[str, Token]) -> Caller | None:
    """Whose token an `Authorization` header carries, or None where it is nobody's.

    Every stored hash is compared in constant time, matching or not, so that the time of an answer tells nothing.
    """
    if not tokens:
        return ANONYMOUS
    scheme, _, token = (header or "").partition(" ")
    digest = hash_token(token.strip())
    found = None
    for name, stored in tokens.items():
        if hmac.compare_digest(digest, stored.sha256):
            found = Caller(name, frozenset(stored.roles))
    return found if scheme.lower() == "bearer" else None


def admit(request: HTTPConnection, access: Role | Literal["any", "open"], tokens: Mapping[str, Token]) -> Caller:
    """The caller, where it may use a route.

    Raises:
        HTTPException: 401 without a valid token, 403 without the role, 421 where a page of another name has been
            pointed at this machine.
    """
    if not tokens and not is_loopback(_host_name(request.headers.get("host", ""))):
        # A web page may give its own name the address 127.0.0.1 and then read what it likes of a service without
        # tokens (DNS rebinding). It cannot change the name that the browser sends.
        raise HTTPException(421, "host: this service answers to 127.0.0.1 and localhost only; use one of them")
    _refuse_other_sites(request)
    if access == "open":
        return ANONYMOUS
    caller = authenticate(request.headers.get("authorization"), tokens)
    if caller is None:
        raise HTTPException(
            401, "authorization: no valid token; send `Authorization: Bearer TOKEN`", {"WWW-Authenticate": "Bearer"}
        )
    if access != "any" and not caller.may(access):
        raise HTTPException(403, f"authorization: this token may not {access}; ask for one with that role")
    return caller


def _refuse_other_sites(request: HTTPConnection) -> None:
    """Refuse what a page of another site has a browser send; programs send neither header.

    There is no cookie that such a page could use, and a token it does not know. This is for services without tokens.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        raise HTTPException(403, "origin: this service answers its own pages only; ask from one of them or a program")
    fetched = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
    if fetched[0] in ("cross-site", "same-site") and fetched[1] != "navigate":
        raise HTTPException(403, "origin: this service answers its own pages only; ask from one of them or a program")


def _host_name(host: str) -> str:
    """The name in a `Host` header: without the port, and without the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
