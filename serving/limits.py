"""Limits on what a request may cost before anything of it is computed."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from fastapi import HTTPException, Request

from defectnet.errors import BusyError
from serving.settings import ServiceSettings

__all__ = ["ARROW", "JSON", "OCTETS", "Bodies", "media_type"]

JSON = "application/json"
ARROW = "application/vnd.apache.arrow.stream"
OCTETS = "application/octet-stream"


def media_type(request: Request) -> str:
    """The declared type of a body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class Bodies:
    """Reads bodies; belongs to one process, whose memory it guards."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._max_bytes, self._timeout_s = settings.max_body_bytes, settings.body_timeout_s
        self._max_total_bytes = settings.max_bytes_in_flight
        self._held = 0

    @asynccontextmanager
    async def read(
        self, request: Request, kinds: Collection[str] = (JSON,), *, undeclared: bool = False
    ) -> AsyncIterator[bytes]:
        """Read a body, counting its bytes as they arrive: a sender that lies about the length gains nothing by it.

        Args:
            request: whose body has not been read.
            kinds: the media types that are understood.
            undeclared: whether a body without a type is read; a browser's never is.

        Raises:
            HTTPException: 415 for another type, 413 for too long a body, 408 for one that does not arrive in time.
            BusyError: the bodies of all requests in this process hold too much memory.
        """
        kind = media_type(request)
        # It keeps web pages of other origins out: a browser lets them send forms, or a body of no type at all, but none
        # of these types, without asking this service first.
        if kind not in kinds and not (kind == "" and undeclared and "origin" not in request.headers):
            raise HTTPException(415, f"content-type: must be {' or '.join(kinds)}; set the header")
        too_long = HTTPException(413, f"body: longer than {self._max_bytes:,} bytes; send fewer spectra at a time")
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > self._max_bytes:
            raise too_long
        chunks: list[bytes] = []
        received = 0
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    async for chunk in request.stream():
                        received += len(chunk)
                        self._held += len(chunk)
                        if received > self._max_bytes:
                            raise too_long
                        if self._held > self._max_total_bytes:
                            raise BusyError
                        chunks.append(chunk)
            except TimeoutError:
                raise HTTPException(408, f"body: did not arrive within {self._timeout_s:g} s; send it faster") from None
            yield b"".join(chunks)
        finally:
            self._held -= received
