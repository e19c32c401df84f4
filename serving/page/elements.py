"""`GET /v1/elements`: the periodic table as the prior sees it for one host."""

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from defectnet.elements import VOCABULARY, element
from defectnet.host import Host
from defectnet.model.prior import EXPECTED_COLUMNS, expectations
from serving.backend import Backend
from serving.schemas import refusals
from serving.schemas_page import ElementsAnswer

__all__ = ["element_routes"]

_LONGEST_FORMULA = 200


def element_routes(routes: APIRouter, backend: Backend) -> None:
    """Add the route."""

    @routes.get(
        "/v1/elements",
        response_model=ElementsAnswer,
        responses=refusals(401, 422, 503),
        summary="The elements that the model knows, and which of them a chemist expects in a host",
    )
    async def elements(_: Request, host: str | None = None) -> JSONResponse:
        known = set((await backend.describe())[0]["vocabulary"])
        crystal = Host(host[:_LONGEST_FORMULA]) if host else None
        table, site = (None, None) if crystal is None else expectations(crystal)
        shares = np.zeros(len(VOCABULARY)) if table is None else _shares(table)
        rows = []
        for row, symbol in enumerate(VOCABULARY):
            one = element(symbol)
            rows.append(
                {
                    "symbol": symbol,
                    "number": row + 1,
                    "group": one.group,
                    "period": one.period,
                    "known": symbol in known,
                    "in_host": crystal is not None and symbol in crystal.elements,
                    "expected": table is None or bool(table[row, EXPECTED_COLUMNS.index("expected")]),
                    "share": float(shares[row]),
                    "replaces": None if site is None else VOCABULARY[site[row]],
                }
            )
        return JSONResponse({"host": None if crystal is None else crystal.formula, "elements": rows})


def _shares(table: np.ndarray) -> np.ndarray:
    """Each element's share of all the prior's weight; 0 where it is not expected."""
    expected = table[:, EXPECTED_COLUMNS.index("expected")] > 0
    return np.where(expected, np.exp(table[:, EXPECTED_COLUMNS.index("log_share")].astype(float)), 0.0)
