"""Limits on what a request may cost before anything of it is computed."""

from fastapi import HTTPException, Request

__all__ = ["read_json_body"]


async def read_json_body(request: Request, max_bytes: int) -> bytes:
    """Read a body, counting its bytes as they arrive: a sender that lies about the length gains nothing by it.

    Raises:
        HTTPException: 415 where the body is not declared as JSON, 413 where it is longer than `max_bytes`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # It also keeps web pages of other origins out: a browser lets them send forms, but not JSON, without asking.
        raise HTTPException(415, "content-type: must be application/json; set the header")
    too_long = HTTPException(413, f"body: longer than {max_bytes:,} bytes; send fewer spectra at a time")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_bytes:
        raise too_long
    chunks, received = [], 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise too_long
        chunks.append(chunk)
    return b"".join(chunks)
