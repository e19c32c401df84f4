"""Hosts that users give: checked at the door, prepared by a job, and how far each is.

The id is made of the content, so that whoever gives the same crystal gets the same host and one job does it. What is
cheap to see is refused at once; the rest is the job's, whose sentence is then the host's `error`.
"""

import re
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from defectnet.errors import BusyError, InputError
from defectnet.io.host_store import HOST_STEPS, HostStore, StructureKind, host_id_of
from defectnet.io.safe_yaml import check_yaml
from serving.auth import Caller
from serving.batch.jobs import RETRY_AFTER_S, JobRunner
from serving.settings import HostSettings

__all__ = ["HostBook"]

_NO_REASON = "the job ended without a result; give the file again, and see Ray's logs if it stays"
_CELL = re.compile(r"^\s*_cell_(length_[abc]|angle_(?:alpha|beta|gamma))\s+(\S+)", re.MULTILINE)
_SITE = re.compile(r"^\s*_atom_site_", re.MULTILINE)
_FIX = "give a CIF of an ordered crystal, or phonopy.yaml with forces or force constants"
_LONGEST_NAME = 80


@dataclass(frozen=True)
class HostBook:
    """The hosts that were ever given. Its calls touch files and the network: not for an event loop."""

    settings: HostSettings
    jobs: JobRunner

    @property
    def store(self) -> HostStore:
        return HostStore.at(self.settings.store)

    def create(self, content: bytes, name: str, caller: Caller) -> tuple[dict[str, Any], bool]:
        """Start to prepare a host, or find the one that is the same.

        Args:
            content: a CIF, or phonopy's YAML.
            name: what the user calls it.

        Returns:
            The host, and whether a job was started for it.

        Raises:
            InputError: hosts are not prepared here, or this is no structure.
            BusyError: too many are being prepared, or this caller has given too many.
        """
        if not self.settings.prepare:
            raise InputError(
                "no host is prepared by this service", fix="have hosts.prepare set in its settings", field="hosts"
            )
        kind = self._kind(content)
        asked = {"potential": self.settings.potential} if kind == "cif" else {}
        host_id = host_id_of(content, kind, asked)
        store = self.store
        known = store.read(host_id, "request")
        if known is not None and self._state(host_id, known) not in ("failed", "stopped"):
            return self.describe(host_id), False
        self._make_room(caller)
        request = {
            "id": host_id,
            "owner": caller.name,
            "name": re.sub(r"[^\w.+\-() ]", "_", name)[-_LONGEST_NAME:],
            "kind": kind,
            "potential": self.settings.potential,
            "max_atoms": self.settings.max_atoms,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            # Ray never takes a name twice, so another try has another.
            "job": f"{host_id}-{secrets.token_hex(4)}",
        }
        store.place(host_id, "structure").write(content)
        store.forget(host_id, "failure.json")
        store.write(host_id, "request", request)
        command = f'"{sys.executable}" -m datagen.uploaded_hosts "{store.folder}" {host_id}'
        self.jobs.start(str(request["job"]), command)
        return self.describe(host_id), True

    def describe(self, host_id: str) -> dict[str, Any]:
        """One host; raises `InputError` where there is none."""
        store = self.store
        request = store.read(host_id, "request")
        if request is None:
            raise InputError(f"no host {host_id[:80]!r} is known", fix="see GET /v1/hosts", field="host_id")
        state = self._state(host_id, request)
        progress = store.read(host_id, "progress") or {}
        failure = store.read(host_id, "failure") or {}
        return {
            "host_id": host_id,
            "name": request["name"],
            "formula": progress.get("formula"),
            "state": state,
            "step": progress.get("step", "waiting"),
            "done": progress.get("done", 0),
            "steps": progress.get("steps", len(HOST_STEPS) - 1),
            "created_at": request["created_at"],
            "owner": request["owner"],
            "error": failure.get("error", _NO_REASON) if state == "failed" else None,
        }

    def everything(self) -> list[dict[str, Any]]:
        """All hosts that were given, the youngest first."""
        described = [self.describe(host_id) for host_id in self.store.ids()]
        return sorted(described, key=lambda one: str(one["created_at"]), reverse=True)

    def _state(self, host_id: str, request: dict[str, Any]) -> str:
        if self.store.ready(host_id):
            return "ready"
        if self.store.read(host_id, "failure") is not None:
            return "failed"
        state = self.jobs.state(request["job"])
        return "failed" if state == "succeeded" else state or "stopped"

    def _make_room(self, caller: Caller) -> None:
        hosts = self.everything()
        if sum(one["state"] in ("pending", "running") for one in hosts) >= self.settings.max_active:
            raise BusyError(RETRY_AFTER_S, status=429)
        if sum(one["owner"] == caller.name for one in hosts) >= self.settings.max_hosts:
            raise InputError(
                f"this token has given {self.settings.max_hosts} hosts",
                fix="have old ones removed from hosts.store, or hosts.max_hosts raised",
                field="hosts",
            )

    def _kind(self, content: bytes) -> StructureKind:
        """What a file is, as far as can be seen without reading it all; raises `InputError`."""
        if len(content) > self.settings.max_bytes:
            raise InputError(
                f"{len(content):,} bytes are more than {self.settings.max_bytes:,}", fix=_FIX, field="structure"
            )
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError("it is not text", fix=_FIX, field="structure") from None
        if "\0" in text:
            raise InputError("it is not text", fix=_FIX, field="structure")
        if text.lstrip().startswith("phonopy:"):
            check_yaml(text, "the file", field="structure")
            return "phonopy"
        cell = dict(_CELL.findall(text))
        if len(cell) < 6 or not _SITE.search(text):
            raise InputError("it is neither a CIF with a cell and atoms nor phonopy.yaml", fix=_FIX, field="structure")
        for name, value in cell.items():
            if not re.fullmatch(r"\d+\.?\d*(?:\(\d+\))?", value) or float(value.partition("(")[0]) <= 0:
                raise InputError(f"_cell_{name} is {value[:20]!r}", fix=_FIX, field="structure")
        if (lines := text.count("\n")) > self.settings.max_atoms * 10 + 5000:
            raise InputError(f"{lines:,} lines are too many for a crystal", fix=_FIX, field="structure")
        return "cif"
