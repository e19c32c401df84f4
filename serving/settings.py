"""Settings of the HTTP service and of batch scoring.

`configs/serve.yaml` is a declarative Ray Serve file, so that `serve deploy` understands it; `defectnet serve` reads the
same file. In it the address is where Serve wants it (`http_options`), everything else is in the application's `args`.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from defectnet.errors import SettingsError
from defectnet.settings import Settings, read_yaml

__all__ = ["Replicas", "ScoreSettings", "ServiceSettings", "is_loopback", "load_service_settings"]

_SHA256 = re.compile(r"[0-9a-f]{64}")

DEFAULT_MODEL = "models:/defectnet@champion"

ModelReference = Annotated[str, Field(min_length=1)]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; an unknown name counts as reachable from outside."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Replicas(Settings):
    """How many processes of one kind, and when to start another."""

    minimum: int = Field(default=1, ge=1)
    """Processes kept ready. At least 1: a first request that waits for torch to be imported takes 5 s."""

    maximum: int = Field(default=1, ge=1)
    """Processes at most. 1 by default: on one machine a second competes for the same cores."""

    cpus: float = Field(default=0.5, gt=0)
    """Cores that Ray sets aside for each. Half a core: ingress, model and proxy fit on a laptop with two."""

    target_ongoing_requests: float = Field(default=32, gt=0)
    """Requests waiting or running in a process above which another is started (a batch's worth)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}; lower it")
        return self


class ServiceSettings(Settings):
    """Everything the HTTP service can be told."""

    # ── which model ───────────────────────────────────────────────────────────────────────────────────────────────────
    model: ModelReference = DEFAULT_MODEL
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION` of the MLflow registry, or an artifact folder."""

    tracking_uri: str | None = None
    """The MLflow registry; by default the environment's MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db."""

    poll_interval_s: float = Field(default=2.0, gt=0)
    """Seconds between two looks at the alias. 2 s: with loading and warming up, a promotion is live within 10 s."""

    # ── where it listens, and for whom ────────────────────────────────────────────────────────────────────────────────
    host: str = "127.0.0.1"
    """The address to listen on. Loopback: a wider one is refused while `tokens` is empty."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The TCP port; 0 takes a free one."""

    tokens: dict[str, str] = Field(default_factory=dict)
    """Name → SHA-256 (hex) of a bearer token. Hashed, so that this file is no secret; empty asks for no token."""

    proxy: Literal["auto", "haproxy", "python"] = "auto"
    """What stands before the replicas: HAProxy (about four times the throughput) where Ray can find it, else Python."""

    # ── what a request may ask ────────────────────────────────────────────────────────────────────────────────────────
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Bytes of a body. 16 MiB holds 512 spectra of 800 points as JSON."""

    max_spectra: int = Field(default=512, ge=1)
    """Spectra of a request. Larger sets belong to `defectnet score`, which can be stopped and resumed."""

    max_points: int = Field(default=20_000, ge=8)
    """Points of a spectrum. The finest instruments give a few thousand."""

    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds after which a request is answered with an error, whatever it waits for."""

    # ── how much at once ──────────────────────────────────────────────────────────────────────────────────────────────
    max_batch_size: int = Field(default=64, ge=1)
    """Spectra that one replica computes together. The gain of a larger batch is nil on a CPU."""

    max_queued_requests: int = Field(default=256, ge=1)
    """Requests waiting for a replica before others are sent away with 503 and Retry-After."""

    replicas: Replicas = Replicas()
    """Processes that hold the model."""

    ingress: Replicas = Replicas(cpus=0.25)
    """Processes that read and check requests; they hold no model."""

    @model_validator(mode="after")
    def _protected(self) -> Self:
        for name, digest in self.tokens.items():
            if not _SHA256.fullmatch(digest):
                raise ValueError(
                    f"the token {name!r} is not a SHA-256 in hex; write the output of `printf %s TOKEN | sha256sum`"
                )
        if not is_loopback(self.host) and not self.tokens:
            raise ValueError(
                f"refusing to listen on {self.host} without a token; add one under `tokens`, or use 127.0.0.1"
            )
        return self


class ScoreSettings(Settings):
    """Settings of batch scoring."""

    model: ModelReference = DEFAULT_MODEL
    """As in `ServiceSettings.model`; an alias is resolved once, at the start."""

    tracking_uri: str | None = None
    """As in `ServiceSettings.tracking_uri`."""

    workers: int = Field(default=1, ge=1)
    """Predictor processes, one core each."""

    shard_rows: int = Field(default=4096, ge=1)
    """Rows of an output file at most, which is also what a stop can cost: 4096 spectra are some seconds of work. A
    small input is cut finer, so that every worker has something to do."""

    niceness: int = Field(default=4, ge=0, le=19)
    """Added to the workers' own, which Ray starts at 15; 19 is the end of the scale. They give way to the service's
    replicas on the same machine."""


def load_service_settings(path: str | Path | None = None, **overrides: Any) -> ServiceSettings:
    """Read a declarative Serve file such as `configs/serve.yaml`; `overrides` that are not None win.

    Raises:
        SettingsError: the file cannot be read, holds no DefectNet application, or has an impossible value.
    """
    if path is None:
        return ServiceSettings.from_yaml(None, **overrides)
    document = read_yaml(path)
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or len(applications) != 1 or not isinstance(applications[0], dict):
        raise SettingsError(f"{path} must describe one application; see configs/serve.yaml for an example")
    values = dict(applications[0].get("args") or {})
    address = document.get("http_options") or {}
    values |= {name: address[name] for name in ("host", "port", "request_timeout_s") if name in address}
    values |= {name: value for name, value in overrides.items() if value is not None}
    return ServiceSettings.from_yaml(None, **values)
