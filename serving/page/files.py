"""The files of the page, held in memory, and the headers that keep everything else out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

__all__ = ["CONTENT_SECURITY_POLICY", "page_files"]

# Scripts and styles are files of this service alone; nothing is inline, and nothing else may be loaded, sent or framed.
# Pictures may be made by the page itself (blob:, for the PNG). Trusted Types: no text can become markup.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for again each time, and not sent again where nothing changed: a page must fit the service behind it.
    "cache-control": "no-cache",
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "csv": "text/csv; charset=utf-8",
}
_PAGES = {"/": "index.html", "/docs": "docs.html", "/status": "status.html"}


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: Mapping[str, str]


def page_files(routes: APIRouter) -> None:
    """Add the routes of the pages and of what they load."""
    shipped = {file.name: _loaded(file) for file in files("serving.page").joinpath("static").iterdir() if _kind(file)}

    def page(path: str, name: str) -> None:
        @routes.get(path, include_in_schema=False)
        async def get(request: Request) -> Response:
            return _answer(request, shipped[name])

    for path, name in _PAGES.items():
        page(path, name)

    @routes.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in shipped:
            raise HTTPException(404, "Not Found")
        return _answer(request, shipped[name])


def _kind(file: Any) -> str | None:
    return _TYPES.get(file.name.rpartition(".")[2])


def _loaded(file: Any) -> _File:
    content = file.read_bytes()
    mark = f'"{sha256(content).hexdigest()[:32]}"'
    return _File(content, {**_HEADERS, "content-type": str(_kind(file)), "etag": mark})


def _answer(request: Request, file: _File) -> Response:
    if request.headers.get("if-none-match") == file.headers["etag"]:
        return Response(status_code=304, headers={k: v for k, v in file.headers.items() if k != "content-type"})
    return Response(file.content, headers=dict(file.headers))
