"""Hosts by name: `GET /v1/hosts` finds them by formula, `GET /v1/hosts/{host_id}` tells of one and its spectrum."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serving.host_catalogue import HostCatalogue, KnownHost
from serving.schemas import refusals
from serving.schemas_page import HostAnswer, HostsAnswer

__all__ = ["host_routes"]

_MOST = 50
_LONGEST_FORMULA = 100


def host_routes(routes: APIRouter, catalogue: HostCatalogue) -> None:
    """Add the routes."""

    @routes.get(
        "/v1/hosts",
        response_model=HostsAnswer,
        responses=refusals(401),
        summary="The crystals that are known by name, by the beginning of a formula",
    )
    async def find(_: Request, formula: str = "") -> JSONResponse:
        found = await asyncio.to_thread(catalogue.find, formula[:_LONGEST_FORMULA], _MOST + 1)
        return JSONResponse({"hosts": [_described(one) for one in found[:_MOST]], "more": len(found) > _MOST})

    @routes.get(
        "/v1/hosts/{host_id}",
        response_model=HostAnswer,
        responses=refusals(401, 422),
        summary="One crystal and its computed density of states",
    )
    async def one(_: Request, host_id: str, kind: Literal["vibrational", "neutron"] = "vibrational") -> JSONResponse:
        known = await asyncio.to_thread(catalogue.named, host_id)
        spectrum, note = await asyncio.to_thread(catalogue.spectrum, host_id, kind)
        return JSONResponse(
            _described(known)
            | {
                "unit": "THz",
                "frequency": spectrum.frequency_thz.tolist(),
                "dos": spectrum.dos.tolist(),
                "kind": kind,
                "note": note,
            }
        )


def _described(known: KnownHost) -> dict[str, object]:
    return dict(vars(known))
