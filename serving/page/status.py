"""`GET /v1/status`: what an operator looks at, in one answer; each part that cannot be had is named and left out."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from prometheus_client import Metric

from defectnet.errors import DefectNetError, RegistryError
from defectnet.models import PROMOTION_TAG, ModelReference, registry_errors, sqlite_file, tracking_uri
from serving.backend import Backend
from serving.batch.book import BatchBook
from serving.host_book import HostBook
from serving.schemas import refusals
from serving.schemas_page import StatusAnswer
from serving.settings import ServiceSettings

__all__ = ["status_routes"]

_MOST_PROMOTIONS = 50
_MOST_BATCHES = 100


def status_routes(
    routes: APIRouter, settings: ServiceSettings, backend: Backend, book: BatchBook, hosts: HostBook
) -> None:
    """Add the route."""

    @routes.get(
        "/v1/status",
        response_model=StatusAnswer,
        responses=refusals(401, 403, 503),
        summary="Replicas, requests, promotions, batches and hosts under way",
    )
    async def status(_: Request) -> JSONResponse:
        replicas, metrics = await asyncio.gather(backend.describe(), backend.metrics())
        unknown: list[str] = []
        try:
            promotions = await asyncio.to_thread(_promotions, settings)
        except DefectNetError as error:
            promotions = []
            unknown.append(f"The promotions are not known: {error}.")
        batches = await asyncio.to_thread(book.newest, _MOST_BATCHES)
        given = await asyncio.to_thread(hosts.everything) if settings.hosts.prepare else []
        return JSONResponse(
            {
                "replicas": [
                    {key: one[key] for key in ("process", "version", "loaded_at", "problem")} for one in replicas
                ],
                "requests": _requests(metric for _, group in metrics for metric in group),
                "promotions": promotions,
                "batches": batches,
                "hosts": given,
                "not_known": unknown,
            }
        )


def _requests(metrics: Iterable[Metric]) -> dict[str, Any]:
    """The counters of all processes, summed."""
    routes: dict[str, dict[str, float]] = {}
    total = {"in_progress": 0.0, "spectra": 0.0, "unlike": 0.0, "errors": 0.0}
    plain = {
        "defectnet_requests_in_progress": "in_progress",
        "defectnet_spectra_total": "spectra",
        "defectnet_out_of_distribution_total": "unlike",
        "defectnet_spectrum_errors_total": "errors",
    }
    for sample in (sample for metric in metrics for sample in metric.samples):
        if sample.name in plain:
            total[plain[sample.name]] += sample.value
        elif sample.name in ("defectnet_requests_total", "defectnet_request_seconds_sum"):
            row = routes.setdefault(
                sample.labels["route"], {"answered": 0.0, "refused": 0.0, "failed": 0.0, "seconds": 0.0}
            )
            row[_column(sample.labels.get("status"))] += sample.value
    listed = []
    for route, row in sorted(routes.items()):
        counts = {key: round(row[key]) for key in ("answered", "refused", "failed")}
        listed.append({"route": route, **counts, "mean_s": row["seconds"] / max(1, sum(counts.values()))})
    return {key: round(value) for key, value in total.items()} | {"routes": listed}


def _column(status: str | None) -> str:
    if status is None:
        return "seconds"
    return "failed" if status.startswith("5") or status == "none" else "refused" if status[0] == "4" else "answered"


def _promotions(settings: ServiceSettings) -> list[dict[str, Any]]:
    """What the registry keeps of promotions, the latest first; raises `RegistryError` where it cannot be asked."""
    reference = ModelReference.parse(settings.model)
    if not reference.registered:
        return []
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri = tracking_uri(settings.tracking_uri)
    database = sqlite_file(uri)
    if database is not None and not database.exists():  # MLflow would make an empty one
        raise RegistryError(f"there is no model registry at {database.name}")
    with registry_errors("cannot read the registry", (MlflowException,)):
        client = MlflowClient(uri, uri)
        tags: dict[str, str] = dict(client.get_registered_model(reference.name).tags)
        kept = sorted((key for key in tags if key.startswith(PROMOTION_TAG)), reverse=True)[:_MOST_PROMOTIONS]
        found = []
        for key in kept:
            try:
                one = json.loads(tags[key])
                version = str(one["version"])
            except (ValueError, TypeError, KeyError):
                continue  # somebody else's tag
            judged = dict(client.get_model_version(reference.name, version).tags)
            figures = {name: value for name, value in judged.items() if name.startswith("gate_")}
            found.append(
                {name: one.get(name) for name in ("at", "by", "former")}
                | {
                    "version": version,
                    "gate": judged.get("gate"),
                    "reason": judged.get("gate_reason"),
                    "figures": figures,
                }
            )
    return found
