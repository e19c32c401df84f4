"""All routes of the page."""

from fastapi import APIRouter

from serving.backend import Backend, DataPlane
from serving.batch.book import BatchBook
from serving.host_book import HostBook
from serving.limits import Bodies
from serving.page.answering import answering_routes
from serving.page.elements import element_routes
from serving.page.files import page_files
from serving.page.reading import reading_routes
from serving.page.status import status_routes
from serving.settings import ServiceSettings

__all__ = ["page_routes"]


def page_routes(
    routes: APIRouter,
    settings: ServiceSettings,
    backend: Backend,
    data: DataPlane,
    book: BatchBook,
    hosts: HostBook,
    bodies: Bodies,
) -> None:
    """Add the routes."""
    page_files(routes)
    reading_routes(routes, settings, bodies)
    element_routes(routes, backend)
    answering_routes(routes, settings, backend, data, bodies)
    status_routes(routes, settings, backend, book, hosts)
