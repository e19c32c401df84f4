"""The files of the page, held in memory, and the headers that keep everything else out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template

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
# Files that the pages load; those of their own text are not among them.
_ASSETS = frozenset(_TYPES) - {"html"}
_FRAME = "frame.html"


@dataclass(frozen=True)
class _Page:
    """What stands in the frame that all pages share: the file of its main part, its script, what the menu calls it."""

    main: str
    script: str
    title: str
    link: str


# By address, as the menu has it: relative, for the service may stand behind a prefix.
_PAGES = {
    ".": _Page("index.html", "main.js", "DefectNet", "Read spectra"),
    "docs": _Page("docs.html", "docs.js", "DefectNet: the interface", "Interface"),
    "status": _Page("status.html", "status.js", "DefectNet: status", "Status"),
}


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: Mapping[str, str]


def page_files(routes: APIRouter) -> None:
    """Add the routes of the pages and of what they load."""
    contents = {file.name: file.read_bytes() for file in files("serving.page").joinpath("static").iterdir()}
    shipped = {name: _loaded(name, content) for name, content in contents.items() if _kind(name) in _ASSETS}

    def page(path: str, file: _File) -> None:
        @routes.get(path, include_in_schema=False)
        async def get(request: Request) -> Response:
            return _answer(request, file)

    for address in _PAGES:
        page(f"/{address.strip('.')}", _loaded(_FRAME, _framed(address, contents)))

    @routes.get("/page/{name}", include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        if name not in shipped:
            raise HTTPException(404, "Not Found")
        return _answer(request, shipped[name])


def _kind(name: str) -> str:
    return name.rpartition(".")[2]


def _framed(address: str, contents: Mapping[str, bytes]) -> bytes:
    """A page: its main part in the frame, with its own link marked in the menu."""
    here = {address: ' aria-current="page"'}
    links = " ".join(f'<a href="{to}"{here.get(to, "")}>{one.link}</a>' for to, one in _PAGES.items())
    page, frame = _PAGES[address], Template(contents[_FRAME].decode())
    parts = {"title": page.title, "script": page.script, "links": links, "main": contents[page.main].decode()}
    return frame.substitute(parts).encode()


def _loaded(name: str, content: bytes) -> _File:
    mark = f'"{sha256(content).hexdigest()[:32]}"'
    return _File(content, {**_HEADERS, "content-type": _TYPES[_kind(name)], "etag": mark})


def _answer(request: Request, file: _File) -> Response:
    if request.headers.get("if-none-match") == file.headers["etag"]:
        return Response(status_code=304, headers={k: v for k, v in file.headers.items() if k != "content-type"})
    return Response(file.content, headers=dict(file.headers))
