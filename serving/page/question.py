"""`POST /v1/question`: a sample's file and its reference's made into one question, as `defectnet predict` makes it.

What the two files say of themselves counts (weighting, smoothing), so the page sends both as they lie on the user's
disk and asks with what comes back: the same numbers as the command line's.
"""

import asyncio
import base64
import binascii
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.io.strict_json import loads_strict
from defectnet.query import KINDS
from defectnet.readers import read_file
from defectnet.readers.query import QueryReading, read_query
from defectnet.references import PristineHost, library_reference
from defectnet.spectrum import Spectrum
from serving.host_catalogue import HostCatalogue
from serving.limits import Bodies
from serving.page.reading import safe_name, without_folder
from serving.schemas import refusals
from serving.schemas_page import QUESTION_BODY, QuestionAnswer
from serving.settings import ServiceSettings

__all__ = ["question_routes"]

_KEYS = {"file", "host", "host_id", "unit", "override_unit", "reference", "candidates", "kind", "prior"}
_AT_ONCE = 2


def question_routes(routes: APIRouter, settings: ServiceSettings, catalogue: HostCatalogue, bodies: Bodies) -> None:
    """Add the route."""
    room = asyncio.Semaphore(_AT_ONCE)

    @routes.post(
        "/v1/question",
        response_model=QuestionAnswer,
        responses=refusals(401, 403, 408, 413, 415, 422, 503),
        openapi_extra=QUESTION_BODY,
        summary="Make a question of files, as the command line does",
    )
    async def question(request: Request) -> JSONResponse:
        async with bodies.read(request) as body, room:
            asked = await asyncio.to_thread(_asked, loads_strict(body), catalogue)
        query = asked.query
        sizes = [one.dos.size for one in (query.spectrum, query.reference) if one is not None]
        if max(sizes) > settings.max_points:
            raise InputError(f"it has more than {settings.max_points} points", fix="resample it", field="frequency")
        return JSONResponse({"spectrum": query.to_json(), "notes": list(asked.notes)})


def _asked(body: Any, catalogue: HostCatalogue) -> QueryReading:
    if not isinstance(body, dict) or "file" not in body or not set(body) <= _KEYS:
        raise InputError("has no file", fix=f"give keys of {', '.join(sorted(_KEYS))}", field="body")
    host, kind, prior = body.get("host"), body.get("kind"), body.get("prior")
    if not isinstance(host, str):
        raise InputError("is missing", fix="give the pristine crystal's formula, such as Si", field="host")
    if kind is not None and kind not in KINDS:
        raise InputError(f"unknown kind of spectrum {kind!r}", fix=f"use {' or '.join(KINDS)}", field="kind")
    if prior not in (None, True, False):
        raise InputError(f"{prior!r} is neither true nor false", fix="give true or false", field="prior")
    override_unit = body.get("override_unit", False)
    if not isinstance(override_unit, bool):
        raise InputError(
            f"{override_unit!r} is neither true nor false", fix="give true or false", field="override_unit"
        )
    candidates = body.get("candidates")
    if candidates is not None and not (
        isinstance(candidates, list) and all(isinstance(one, str) for one in candidates)
    ):
        raise InputError("is not a list of symbols", fix='give symbols such as ["Ge", "Sn"]', field="candidates")
    with tempfile.TemporaryDirectory(prefix="defectnet-read-") as folder:
        path = _placed(body["file"], Path(folder) / "sample", "file")
        host_id = _host_id(body, catalogue)
        try:
            asked = read_query(
                path,
                host,
                unit=body.get("unit"),
                override_unit=override_unit,
                reference=_reference(body, path, catalogue, Path(folder) / "reference"),
                candidates=candidates,
                kind=kind,
                prior=prior is not False,
            )
        except InputError as error:
            raise without_folder(error, folder) from None
    kind_of_reference = asked.query.reference_kind
    if isinstance(body.get("reference"), dict) and "host_id" in body["reference"]:
        kind_of_reference = "measured" if asked.reading.origin == "computed" else "computed"
    return replace(asked, query=replace(asked.query, host_id=host_id, reference_kind=kind_of_reference))


def _host_id(body: dict[str, Any], catalogue: HostCatalogue) -> str | None:
    """Whose responses are compared: the host that is named, else one whose density stands in for the reference.

    A packaged host that is only the reference is not named: the command line would take the best of its formula.
    """
    named, reference = body.get("host_id"), body.get("reference")
    if named is None and isinstance(reference, dict) and isinstance(reference.get("host_id"), str):
        known = catalogue.named(reference["host_id"])
        return known.host_id if known.responses and not known.packaged else None
    if named is not None and not isinstance(named, str):
        raise InputError("is not text", fix="give a string, or leave it out", field="host_id")
    return None if named is None else catalogue.named(named).host_id


def _reference(
    body: dict[str, Any], sample: Path, catalogue: HostCatalogue, folder: Path
) -> Path | Spectrum | PristineHost | None:
    given = body.get("reference")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise InputError("is no object", fix="give a file, or a host_id", field="reference")
    host_id = given.get("host_id")
    if host_id is None:
        return _placed(given, folder, "reference")
    if not isinstance(host_id, str):
        raise InputError("is not text", fix="give a string", field="reference.host_id")
    if catalogue.named(host_id).packaged:
        return library_reference(Host(body["host"]), host_id)
    kind = (
        body.get("kind")
        or read_file(sample, body.get("unit"), override_unit=body.get("override_unit", False)).kind
        or "vibrational"
    )
    return catalogue.spectrum(host_id, kind)[0]


def _placed(given: Any, folder: Path, field: str) -> Path:
    """A file of the body on the disk, under its own name."""
    name, content = (given.get("name"), given.get("content")) if isinstance(given, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(content, str):
        raise InputError("has no name and content", fix="give both, the content in base64", field=field)
    try:
        raw = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise InputError("the content is not base64", fix="encode the file's bytes", field=field) from None
    folder.mkdir()
    path = folder / safe_name(name)
    path.write_bytes(raw)
    return path
