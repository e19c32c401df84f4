"""`defectnet serve`: the HTTP service on this machine."""

import logging
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["serve"]


def serve(
    config: Annotated[
        Path | None, typer.Option(help="A declarative Ray Serve file such as configs/serve.yaml.", show_default=False)
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.", show_default="8000")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="models:/NAME@ALIAS or /VERSION, released, or an artifact folder.",
            show_default="models:/defectnet@champion",
        ),
    ] = None,
) -> None:
    """Answer questions over HTTP until stopped with Ctrl-C, which leaves nothing running.

    A promotion in the registry is live within 10 s, without a restart. The pages are at /docs.

    Example:

        defectnet serve --port 8000

        curl http://127.0.0.1:8000/v1/model
    """
    from serving.local import running_service
    from serving.settings import load_service_settings

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells of every look at whether the service is ready
    stopped = threading.Event()
    settings = load_service_settings(config, host=host, port=port, model=model)
    with running_service(settings) as url:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        typer.echo(f"serving {settings.model} at {url} (Ctrl-C stops it)")
        while not stopped.wait(0.5):  # with a time limit: a wait without one would not let signals through
            pass
        typer.echo("stopping")
