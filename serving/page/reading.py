"""`POST /v1/read`: a file as it lies on a user's disk, read by the project's own readers, and what was understood.

The body is the file's bytes, its name stands in the query. Nothing is kept: the page sends a file again when its unit
is mended.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from defectnet.errors import InputError
from defectnet.io.tables import read_spectra
from defectnet.query import Query, iterate_rows
from defectnet.readers import is_parquet, read_file
from defectnet.readers.reading import Reading
from serving.limits import OCTETS, Bodies
from serving.schemas import refusals
from serving.schemas_page import ReadAnswer
from serving.settings import ServiceSettings

__all__ = ["reading_routes", "safe_name", "without_folder"]

# Reading holds a thread and some times the file's size; more wait.
_AT_ONCE = 2
_NOT_IN_NAMES = re.compile(r"[^\w.+\-() ]")
_LONGEST_NAME = 120
# What a row of a table asks beside its spectrum.
_ASKED = ("host", "reference", "candidates", "host_id", "reference_kind", "prior")


def reading_routes(routes: APIRouter, settings: ServiceSettings, bodies: Bodies) -> None:
    """Add the route."""
    room = asyncio.Semaphore(_AT_ONCE)

    @routes.post(
        "/v1/read",
        response_model=ReadAnswer,
        responses=refusals(401, 403, 408, 413, 415, 422, 503),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
            }
        },
        summary="Read a spectrum file as the command line does, and say what was understood",
    )
    async def read(
        request: Request, name: str = "spectrum", unit: str | None = None, override_unit: bool = False
    ) -> JSONResponse:
        async with bodies.read(request, (OCTETS,)) as body, room:
            spectra = await asyncio.to_thread(_read, body, safe_name(name), unit or None, override_unit, settings)
        return JSONResponse({"name": name, "spectra": spectra})


def safe_name(name: str) -> str:
    """A name that means nothing to a file system, with its suffix, by which some formats are known."""
    return _NOT_IN_NAMES.sub("_", name)[-_LONGEST_NAME:].lstrip(".") or "spectrum"


def without_folder(error: InputError, folder: str) -> InputError:
    """The same error without the folder that a file was put into for reading."""
    inside = re.compile(re.escape(folder) + r"/(?:(?:sample|reference)/)?")
    return type(error)(inside.sub("", error.message), fix=inside.sub("", error.fix), field=error.field)


def _read(
    content: bytes, name: str, unit: str | None, override_unit: bool, settings: ServiceSettings
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="defectnet-read-") as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            if is_parquet(path):
                return _table(path, settings)
            reading = read_file(path, unit, override_unit=override_unit)
        except InputError as error:
            raise without_folder(error, folder) from None
    if reading.spectrum.frequency_thz.size > settings.max_points:
        raise InputError(
            f"{reading.spectrum.frequency_thz.size} points are more than {settings.max_points}",
            fix="resample it",
            field="frequency",
        )
    return [_described(Path(name).stem, reading)]


def _table(path: Path, settings: ServiceSettings) -> list[dict[str, Any]]:
    table = read_spectra(path)
    if table.num_rows > settings.max_spectra:
        raise InputError(
            f"{table.num_rows:,} rows are more than the {settings.max_spectra} of a request",
            fix="use `defectnet score`",
            field="file",
        )
    found = []
    for row in iterate_rows(table):
        try:
            query = Query.from_row(row)
        except InputError as error:
            found.append({"id": row.get("sample_id") or "", "error": str(error)})
            continue
        item = _described(
            query.sample_id, Reading(query.spectrum, query.uncertainty, format="DefectNet table", kind=query.kind)
        )
        asked = query.to_json()
        found.append(item | {key: asked[key] for key in _ASKED if key in asked})
    return found


def _described(sample_id: str, reading: Reading) -> dict[str, Any]:
    spectrum = reading.spectrum
    return {
        "id": sample_id,
        "frequency": spectrum.frequency_thz.tolist(),
        "dos": spectrum.dos.tolist(),
        "uncertainty": None
        if reading.error is None
        else [None if np.isnan(value) else float(value) for value in reading.error],
        "kind": reading.kind,
        "format": reading.format,
        "unit_in_file": reading.unit.name,
        "unit_said_by": reading.unit.said_by,
        "unit_overruled": reading.unit.overruled or None,
        "modes": float(spectrum.modes),
        "top_thz": spectrum.top_thz(),
        "elements": list(reading.partial),
        "notes": list(reading.notes),
        "broadening": None if reading.broadening is None else str(reading.broadening),
        "columns": [f"{one.number} {one.name}: {one.role}" for one in reading.columns],
        "error": None,
    }
