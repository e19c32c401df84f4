"""Hosts by name: found by formula, told of one by one, and given by users as a CIF or phonopy's YAML."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from defectnet.io.host_store import is_uploaded
from serving.host_book import HostBook
from serving.host_catalogue import HostCatalogue
from serving.limits import OCTETS, Bodies
from serving.schemas import refusals
from serving.schemas_page import GivenHostAnswer, HostAnswer, HostsAnswer, HostSpectrumAnswer

__all__ = ["host_routes"]

_MOST = 50
_LONGEST_FORMULA = 100
_KINDS = (OCTETS, "chemical/x-cif", "application/yaml")


def host_routes(routes: APIRouter, catalogue: HostCatalogue, book: HostBook, bodies: Bodies) -> None:
    """Add the routes."""

    @routes.get(
        "/v1/hosts",
        response_model=HostsAnswer,
        responses=refusals(401),
        summary="The crystals that are known by name, by the beginning of a formula",
    )
    async def find(_: Request, formula: str = "") -> JSONResponse:
        found = await asyncio.to_thread(catalogue.find, formula[:_LONGEST_FORMULA], _MOST + 1)
        hosts = [dict(vars(one)) for one in found[:_MOST]]
        return JSONResponse({"hosts": hosts, "more": len(found) > _MOST, "prepares": book.settings.prepare})

    @routes.post(
        "/v1/hosts",
        response_model=GivenHostAnswer,
        status_code=202,
        responses={
            200: {"model": GivenHostAnswer, "description": "The same crystal was given before."},
            **refusals(401, 403, 408, 413, 415, 422, 429, 503),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _KINDS},
            }
        },
        summary="Give a crystal (CIF, or phonopy.yaml with forces), whose responses a job prepares",
    )
    async def give(request: Request, name: str = "structure") -> JSONResponse:
        async with bodies.read(request, _KINDS) as body:
            host, started = await asyncio.to_thread(book.create, body, name, request.state.caller)
        return JSONResponse(host, 202 if started else 200, headers={"location": f"/v1/hosts/{host['host_id']}"})

    @routes.get(
        "/v1/hosts/{host_id}",
        response_model=HostAnswer | GivenHostAnswer,
        responses=refusals(401, 422),
        summary="One crystal; of one that was given, how far it is",
    )
    async def one(_: Request, host_id: str) -> JSONResponse:
        if is_uploaded(host_id):
            return JSONResponse(await asyncio.to_thread(book.describe, host_id))
        known = await asyncio.to_thread(catalogue.named, host_id)
        return JSONResponse(dict(vars(known)) | {"state": "ready"})

    @routes.get(
        "/v1/hosts/{host_id}/spectrum",
        response_model=HostSpectrumAnswer,
        responses=refusals(401, 422),
        summary="A crystal's computed density of states",
    )
    async def spectrum(
        _: Request, host_id: str, kind: Literal["vibrational", "neutron"] = "vibrational"
    ) -> JSONResponse:
        density, note = await asyncio.to_thread(catalogue.spectrum, host_id, kind)
        return JSONResponse(
            {
                "host_id": host_id,
                "unit": "THz",
                "frequency": density.frequency_thz.tolist(),
                "dos": density.dos.tolist(),
                "kind": kind,
                "note": note,
            }
        )
