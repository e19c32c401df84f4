"""Settings of the HTTP service and of batch scoring.

`configs/serve.yaml` is a declarative Ray Serve file, so that `serve deploy` understands it; `defectnet serve` reads the
same file. In it the address is where Serve wants it (`http_options`), everything else is in the application's `args`.
"""

import ipaddress
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from defectnet.errors import SettingsError
from defectnet.model.precision import Precision
from defectnet.model.predictor import BATCH_SIZE
from defectnet.models import DEFAULT_MODEL
from defectnet.responses import PACKAGED
from defectnet.settings import Settings, read_yaml

__all__ = [
    "DEFAULT_HOST",
    "ROLES",
    "BatchJobSettings",
    "HostSettings",
    "Replicas",
    "Role",
    "ScoreSettings",
    "ServiceSettings",
    "Shadow",
    "Token",
    "device_of",
    "is_loopback",
    "load_service_settings",
]

Role = Literal["score", "batch", "admin"]
# "score" reads spectra, "batch" runs jobs on files, "admin" does everything.
ROLES: tuple[Role, ...] = ("score", "batch", "admin")

# Only this machine can reach it.
DEFAULT_HOST = "127.0.0.1"

_SHA256 = re.compile(r"[0-9a-f]{64}")

# See `defectnet.models` for what it may say; read where it is used, for a folder may be another machine's.
ModelText = Annotated[str, Field(min_length=1)]


@lru_cache(maxsize=64)  # asked of every request
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; an unknown name counts as reachable from outside."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def device_of(gpus: float, device: str | None = None) -> str:
    """Where a process computes, as torch names it: on `device`, else on the GPUs that Ray sets aside for it, if any."""
    return device or ("cuda" if gpus > 0 else "cpu")


class Replicas(Settings):
    """How many processes of one kind, and when to start another."""

    minimum: int = Field(default=1, ge=1)
    """Processes kept ready. At least 1: a first request that waits for torch to be imported takes 5 s."""

    maximum: int = Field(default=1, ge=1)
    """Processes at most. 1 by default: on one machine a second competes for the same cores."""

    cpus: float = Field(default=0.5, gt=0)
    """Cores that Ray sets aside for each. Half a core: ingress, model and proxy fit on a laptop with two."""

    target_ongoing_requests: float = Field(default=2, gt=0)
    """Requests waiting or running in a process above which another is started, and below which one is ended.

    A process that is busy 60 % of the time has about two, for what arrives is computed at once. With a batch's worth
    (32) most processes of a fleet are ended as soon as a peak's queue is gone, and the next requests are refused."""

    upscale_delay_s: float = Field(default=10.0, ge=0)
    """Seconds that too much must wait before another process is started, which itself takes some 10 s."""

    downscale_delay_s: float = Field(default=300.0, ge=0)
    """Seconds of too little to do before a process is ended: longer than the pauses of a measuring day."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}; lower it")
        return self


class Token(Settings):
    """One bearer token, by what it may do."""

    sha256: str
    """SHA-256 (hex) of the token, so that the file it stands in is no secret."""

    roles: tuple[Role, ...] = Field(default=("score",), min_length=1)
    """`score` reads spectra, `batch` runs jobs on files and sees its own only, `admin` does everything."""

    @model_validator(mode="before")
    @classmethod
    def _from_hash(cls, value: Any) -> Any:
        return {"sha256": value} if isinstance(value, str) else value  # a hash alone may score

    @model_validator(mode="after")
    def _is_a_hash(self) -> Self:
        if not _SHA256.fullmatch(self.sha256):  # the text is not repeated: it may be the token itself
            raise ValueError("this is not a SHA-256 in hex; write the output of `printf %s TOKEN | sha256sum`")
        return self


class BatchJobSettings(Settings):
    """Scoring of whole files, as Ray jobs."""

    roots: tuple[str, ...] = ()
    """Folders whose Parquet files may be scored, with all that lies below them. Empty: no batches at all."""

    results: str = "runs/batches"
    """Folder for the results, one below it for each batch; on a cluster one that every node sees."""

    shard_rows: int = Field(default=4096, ge=1)
    """As in `ScoreSettings.shard_rows`."""

    workers: int = Field(default=1, ge=1)
    """As in `ScoreSettings.workers`."""

    max_active: int = Field(default=4, ge=1)
    """Jobs waiting or running before another is refused with 429; each has a process of some 600 MB."""


class HostSettings(Settings):
    """Crystals that the service knows by name."""

    library: str | None = PACKAGED
    """The response library whose hosts can be named, as `defectnet.responses.response_library` takes it: a file, a
    folder, a URI, or the released one."""

    prepare: bool = False
    """Whether users may give crystals, whose responses jobs then compute. It needs the extra `simulate`."""

    store: str = "runs/hosts"
    """Folder or URI for what users give and what is made of it; on a cluster one that every node sees."""

    potential: str = "nep89"
    """The potential by which the force constants of a CIF are computed, as `--potential` takes it."""

    max_bytes: int = Field(default=8 * 2**20, ge=1024)
    """Bytes of a structure file: 8 MiB hold phonopy's forces of some fifty displacements of 200 atoms."""

    max_atoms: int = Field(default=60, ge=1)
    """Atoms of a primitive cell: with 60 a host takes some minutes of one core."""

    max_active: int = Field(default=2, ge=1)
    """Hosts being prepared before another is refused with 429; each is a process of some 700 MB."""

    max_hosts: int = Field(default=100, ge=1)
    """Hosts that one token may have given."""

    @property
    def given(self) -> str | None:
        """Where the hosts of users are; None where there can be none."""
        return self.store if self.prepare else None


class Shadow(Settings):
    """A challenger that reads a share of the traffic, answers nobody, and is compared."""

    model: ModelText | None = None
    """The challenger, such as `models:/defectnet@challenger`; none by default."""

    share: float = Field(default=0.1, gt=0, le=1)
    """Share of the requests that it reads too. A tenth costs a tenth more computing."""

    max_waiting: int = Field(default=4, ge=1)
    """Requests waiting for it before others are left out: a slow challenger must cost the service nothing."""


class ServiceSettings(Settings):
    """Everything the HTTP service can be told."""

    # ── which model ───────────────────────────────────────────────────────────────────────────────────────────────────
    model: ModelText = DEFAULT_MODEL
    """`models:/NAME@ALIAS` or `models:/NAME/VERSION` of the MLflow registry, or an artifact folder."""

    tracking_uri: str | None = None
    """The MLflow registry; by default the environment's MLFLOW_TRACKING_URI, else sqlite:///runs/mlflow.db."""

    poll_interval_s: float = Field(default=2.0, gt=0)
    """Seconds between two looks at the alias. 2 s: with loading and warming up, a promotion is live within 10 s."""

    # ── where it listens, and for whom ────────────────────────────────────────────────────────────────────────────────
    host: str = DEFAULT_HOST
    """The address to listen on. Loopback: a wider one is refused while `tokens` is empty."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The TCP port; 0 takes a free one."""

    tokens: dict[str, Token] = Field(default_factory=dict)
    """Name → token; empty asks for none."""

    webhook_secret_file: str | None = None
    """File with the secret of MLflow's webhook, for `POST /v1/webhooks/mlflow`; without it there is only polling."""

    trace_endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    """OTLP/HTTP address of a collector of traces, such as http://127.0.0.1:4318/v1/traces; none by default."""

    proxy: Literal["auto", "haproxy", "python"] = "auto"
    """What stands before the replicas: HAProxy (about four times the throughput) where Ray can find it, else Python."""

    # ── what a request may ask ────────────────────────────────────────────────────────────────────────────────────────
    max_body_bytes: int = Field(default=16 * 2**20, ge=1024)
    """Bytes of a body. 16 MiB holds 512 spectra of 800 points as JSON."""

    max_spectra: int = Field(default=512, ge=1)
    """Spectra of a request. Larger sets belong to `defectnet score`, which can be stopped and resumed."""

    max_arrow_rows: int = Field(default=4096, ge=1)
    """Spectra of a request that comes as an Arrow stream: some 6 s of one core."""

    max_bytes_in_flight: int = Field(default=256 * 2**20, ge=1024)
    """Bytes of all bodies that one process holds at a time; more are sent away with 503. A sixteenth of 4 GB."""

    body_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that a body may take to arrive: 16 MiB at 4.5 Mbit/s. A client that dawdles longer gets 408."""

    max_points: int = Field(default=20_000, ge=8)
    """Points of a spectrum. The finest instruments give a few thousand."""

    request_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds after which a request is answered with 504, whatever it waits for; a client may ask for fewer."""

    # ── how much at once ──────────────────────────────────────────────────────────────────────────────────────────────
    max_batch_size: int = Field(default=BATCH_SIZE, ge=1)
    """Spectra that one replica computes together. The gain of a larger batch is nil on a CPU."""

    gpus_per_replica: float = Field(default=0.0, ge=0)
    """GPUs, or the share of one, that Ray sets aside for each replica, whose model then computes there. 0: a core
    answers a lone spectrum in 2 ms."""

    device: str | None = Field(default=None, min_length=1)
    """Where replicas compute, as torch names it, such as `xpu`; by default `cuda` where `gpus_per_replica` is set, else
    `cpu`."""

    precision: Precision = "float32"
    """In which numbers the network's layers multiply; `bfloat16`, for GPUs, moves probabilities by 0.005 at most."""

    max_queued_requests: int = Field(default=256, ge=1)
    """Requests waiting for a replica before others are sent away with 503 and Retry-After."""

    form: Literal["auto", "joined", "split"] = "auto"
    """`joined`: the processes that hold the model read and check requests themselves, the shortest way on CPUs.
    `split`: others do that for them (`ingress`), so that a GPU never waits for the reading. `auto`: split where
    `gpus_per_replica` is set."""

    replicas: Replicas = Replicas()
    """Processes that hold the model."""

    ingress: Replicas = Replicas(cpus=0.25)
    """Processes that read and check requests and hold no model; none where the form is joined."""

    batches: BatchJobSettings = BatchJobSettings()
    """Scoring of files."""

    hosts: HostSettings = HostSettings()
    """Crystals that can be named."""

    shadow: Shadow = Shadow()
    """A challenger to compare."""

    @property
    def joined(self) -> bool:
        """Whether the processes that hold the model listen themselves."""
        return self.gpus_per_replica == 0 if self.form == "auto" else self.form == "joined"

    @model_validator(mode="after")
    def _protected(self) -> Self:
        if not is_loopback(self.host) and not self.tokens:
            raise ValueError(
                f"refusing to listen on {self.host} without a token; add one under `tokens`, or use 127.0.0.1"
            )
        return self


class ScoreSettings(Settings):
    """Settings of batch scoring."""

    model: ModelText = DEFAULT_MODEL
    """As in `ServiceSettings.model`; an alias is resolved once, at the start."""

    tracking_uri: str | None = None
    """As in `ServiceSettings.tracking_uri`."""

    workers: int = Field(default=1, ge=1)
    """Predictor processes, one core each."""

    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs, or the share of one, that Ray sets aside for each worker, whose model then computes there."""

    device: str | None = Field(default=None, min_length=1)
    """As in `ServiceSettings.device`, by `gpus_per_worker`."""

    precision: Precision = "float32"
    """As in `ServiceSettings.precision`."""

    shard_rows: int = Field(default=4096, ge=1)
    """Rows of an output file at most, which is also what a stop can cost: 4096 spectra are some seconds of work. A
    small input is cut finer, so that every worker has something to do."""

    responses: str | None = PACKAGED
    """The response library, as in `HostSettings.library`; on a cluster a path or URI that every node sees."""

    given_hosts: str | None = None
    """The store of hosts that users gave to a service (`HostSettings.store`), whose ids rows may name; none by
    default."""

    niceness: int = Field(default=4, ge=0, le=19)
    """Added to the workers' own: 15 in a Ray of their own, 0 in that of `defectnet serve`; 19 is the end of the scale.
    They give way to the service's replicas on the same machine."""


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
