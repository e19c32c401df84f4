"""Scoring whole files on behalf of HTTP clients: which files, under which id, and how far it is.

A batch is a folder below `settings.batches.results`, so that any ingress process can tell of it, also after a restart:

    <id>/batch.json      what was asked, by whom, and the name of the Ray job that does it
    <id>/progress.json   rows done of rows in all, written by the job
    <id>/failure.json    the sentence of a job that failed
    <id>/predictions/    the result: part-*.parquet, and _report.json once it is whole

The id is made from what is asked (the file as it is now, the model's version, the caller), so asking twice makes one
batch; a batch that failed or was stopped goes on where it was when it is asked for again.
"""

import json
import re
import secrets
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from defectnet.errors import BusyError, InputError
from defectnet.io.storage import Location
from serving.auth import Caller
from serving.batch.jobs import RETRY_AFTER_S, JobRunner, State
from serving.batch.shards import REPORT
from serving.settings import BatchJobSettings, HostSettings

__all__ = ["FAILURE", "PREDICTIONS", "PROGRESS", "REQUEST", "BatchBook", "write_json"]

REQUEST, PROGRESS, FAILURE, PREDICTIONS = "batch.json", "progress.json", "failure.json", "predictions"

_NO_REASON = "the job ended without a result; ask for it again, and see Ray's logs if it stays"
_ID = re.compile(r"b-[0-9a-f]{24}")
# A stopped job gets SIGTERM and, after 3 s, SIGKILL; its actors end with it.
_STOPPED_WITHIN_S = 15.0


@dataclass(frozen=True)
class BatchBook:
    """The batches that were ever asked for. Its calls touch files and the network: not for an event loop.

    Attributes:
        settings: roots, results and limits.
        jobs: what runs them.
        tracking_uri: the registry that the jobs take the model from.
        hosts: those that rows may name.
    """

    settings: BatchJobSettings
    jobs: JobRunner
    tracking_uri: str
    hosts: HostSettings = field(default_factory=HostSettings)

    def create(self, uri: str, model: str, version: str, caller: Caller) -> tuple[dict[str, Any], bool]:
        """Start a batch, or find the one that was started for the same question.

        Args:
            uri: `file:///…`, a Parquet file or a folder of them, under one of the roots.
            model: the model as `ScoreSettings.model` has it, without an alias.
            version: its version, for the id.

        Returns:
            The batch, and whether a job was started for it.

        Raises:
            InputError: no such file may be scored.
            BusyError: too many batches are active.
        """
        files = self._files(uri)
        question = {
            "input": str(files[0].parent if Path(_path_of(uri)).is_dir() else files[0]),
            "files": [[str(file), (stat := file.stat()).st_size, stat.st_mtime_ns] for file in files],
            "model": model,
            "version": version,
            "shard_rows": self.settings.shard_rows,
            "owner": caller.name,
        }
        batch_id = "b-" + sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:24]
        folder = self._folder(batch_id)
        known = self._read(folder / REQUEST)
        if known is not None and self._state(folder, known) not in ("failed", "stopped"):
            return self._describe(batch_id), False
        self._make_room()
        request = {
            "id": batch_id,
            "owner": caller.name,
            "uri": uri,
            "input": question["input"],
            "model": model,
            "model_version": version,
            "tracking_uri": self.tracking_uri,
            "shard_rows": self.settings.shard_rows,
            "workers": self.settings.workers,
            "responses": self.hosts.library,
            "given_hosts": self.hosts.given,
            "created_at": (known or {}).get("created_at") or datetime.now(UTC).isoformat(timespec="seconds"),
            # Ray never takes a name twice, so another try has another.
            "job": f"{batch_id}-{secrets.token_hex(4)}",
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILURE).unlink(missing_ok=True)
        write_json(folder / REQUEST, request)
        self.jobs.start(str(request["job"]), f'"{sys.executable}" -m serving.batch.run_job "{folder}"')
        return self._describe(batch_id), True

    def get(self, batch_id: str, caller: Caller) -> dict[str, Any] | None:
        """A batch of this caller's, or None where there is none."""
        return self._describe(batch_id) if self._may_see(batch_id, caller) else None

    def newest(self, most: int) -> list[dict[str, Any]]:
        """Everybody's batches, at most so many, the youngest first; for an operator."""
        folders = [path.parent for path in Path(self.settings.results).glob(f"b-*/{REQUEST}")]
        described = [self._describe(folder.name) for folder in folders if _ID.fullmatch(folder.name)]
        return sorted(described, key=lambda batch: str(batch["created_at"]), reverse=True)[:most]

    def delete(self, batch_id: str, caller: Caller) -> bool:
        """Stop a batch and remove its result; whether there was one."""
        if not self._may_see(batch_id, caller):
            return False
        folder = self._folder(batch_id)
        job = (self._read(folder / REQUEST) or {})["job"]
        self.jobs.stop(job)
        deadline = time.monotonic() + _STOPPED_WITHIN_S
        while self.jobs.state(job) in ("pending", "running") and time.monotonic() < deadline:
            time.sleep(0.2)
        # Out of sight in one step, so that nobody meets half of it.
        gone = folder.with_name(f".deleted-{batch_id}-{secrets.token_hex(4)}")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _files(self, uri: str) -> list[Path]:
        """The Parquet files behind a URI; one sentence for all that may not be read, so that it tells nothing."""
        refused = InputError(
            "is no Parquet file, or folder of them, under a folder that this service may score",
            fix="give file:///… as the service sees it, or have its folder added to batches.roots",
            field="input",
        )
        if not self.settings.roots:
            raise InputError(
                "no folder may be scored", fix="have one added to batches.roots in the settings", field="input"
            )
        try:
            path = Path(_path_of(uri)).resolve(strict=True)
            files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
            roots = [Path(root).resolve() for root in self.settings.roots]
            # Each by itself, and links followed: one that leads out of the roots is as good as a path that does.
            inside = [any(file.resolve(strict=True).is_relative_to(root) for root in roots) for file in [path, *files]]
        except (OSError, ValueError, RuntimeError):
            raise refused from None
        if not files or not all(inside) or any(file.suffix != ".parquet" or not file.is_file() for file in files):
            raise refused
        return files

    def _make_room(self) -> None:
        """Refuse where too many are active."""
        active = 0
        for folder in Path(self.settings.results).glob("b-*"):
            request = self._read(folder / REQUEST)
            active += request is not None and self._state(folder, request) in ("pending", "running")
        if active >= self.settings.max_active:
            raise BusyError(RETRY_AFTER_S, status=429)

    def _may_see(self, batch_id: str, caller: Caller) -> bool:
        if not _ID.fullmatch(batch_id):
            return False
        request = self._read(self._folder(batch_id) / REQUEST)
        return request is not None and (request["owner"] == caller.name or "admin" in caller.roles)

    def _state(self, folder: Path, request: dict[str, Any]) -> State:
        if (folder / PREDICTIONS / REPORT).is_file():
            return "succeeded"
        if (folder / FAILURE).is_file():
            return "failed"
        state = self.jobs.state(request["job"])
        # A job without a report did not do its work, whatever Ray says; one that Ray forgot went down with a cluster.
        return "failed" if state == "succeeded" else state or "stopped"

    def _describe(self, batch_id: str) -> dict[str, Any]:
        folder = self._folder(batch_id)
        request = self._read(folder / REQUEST) or {}
        state = self._state(folder, request)
        progress = self._read(folder / PROGRESS) or {"done": 0, "rows": None}
        failure = self._read(folder / FAILURE) or {}
        return {
            "id": batch_id,
            "state": state,
            "input": request["uri"],
            "result": (folder / PREDICTIONS).as_uri() if state == "succeeded" else None,
            "rows_done": progress["done"],
            "rows": progress["rows"],
            "model_version": request["model_version"],
            "created_at": request["created_at"],
            "owner": request["owner"],
            "report": self._read(folder / PREDICTIONS / REPORT),
            "error": failure.get("error", _NO_REASON) if state == "failed" else None,
        }

    def _folder(self, batch_id: str) -> Path:
        return Path(self.settings.results) / batch_id

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write one of a batch's small files, whole or not at all."""
    Location.of(path).write(json.dumps(value, indent=1).encode())


def _path_of(uri: str) -> str:
    """The path of a `file:` URI on this machine; raises `ValueError` for any other."""
    parts = urlsplit(uri)
    path = unquote(parts.path, errors="strict")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise ValueError("not a file")
    if not path.startswith("/") or "\0" in path:
        raise ValueError("not absolute")
    return path
