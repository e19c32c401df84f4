"""Hosts that users gave: a folder, local or in an object store, that the service and the job of each host share.

All files of one host begin with its id, made of what was given, so that the same content is the same host:

    ID.request.json        who asked, when, for what, and the name of the job that does it
    ID.structure           the file as it was given
    ID.progress.json       the step that the job is at
    ID.parent.yaml         its force constants, once they are there; a job that died goes on from them
    ID.responses.parquet   a response library of this one host; then it is ready
    ID.failure.json        the sentence of a job that failed
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from defectnet.errors import InputError, StorageError, TableError
from defectnet.io.response_library import HostResponses, ResponseLibrary
from defectnet.io.storage import Location

__all__ = ["HOST_STEPS", "GivenHosts", "HostStore", "StructureKind", "host_id_of", "is_uploaded"]

logger = logging.getLogger(__name__)

StructureKind = Literal["cif", "phonopy"]
# What a job does, in order.
HOST_STEPS = ("reading", "force constants", "responses", "done")

_ID = re.compile(r"h-[0-9a-f]{24}")
_REQUEST = ".request.json"


def host_id_of(content: bytes, kind: StructureKind, settings: Mapping[str, Any]) -> str:
    """The id of what was given and of the settings that decide its responses; line ends do not matter."""
    plain = b"\n".join(line.rstrip() for line in content.strip().splitlines())
    what = json.dumps([kind, dict(settings)], sort_keys=True).encode()
    return "h-" + sha256(what + b"\0" + plain).hexdigest()[:24]


def is_uploaded(host_id: str) -> bool:
    """Whether an id is one of this store's making; nothing else may become part of a path."""
    return _ID.fullmatch(host_id) is not None


@dataclass(frozen=True)
class HostStore:
    """The folder. Its calls touch a disk or a network: not for an event loop."""

    folder: Location

    @classmethod
    def at(cls, where: str) -> "HostStore":
        """The store at a path or URI."""
        return cls(Location.of(where, field="hosts.store"))

    def ids(self) -> list[str]:
        """Every host that was ever asked for."""
        names = [file.name.removesuffix(_REQUEST) for file in self.folder.files(_REQUEST)]
        return [name for name in names if is_uploaded(name)]

    def place(self, host_id: str, suffix: str) -> Location:
        """One of a host's files; raises `InputError` for what is no id."""
        if not is_uploaded(host_id):
            raise InputError(f"no host {host_id[:80]!r} is known", fix="see GET /v1/hosts", field="host_id")
        return self.folder.child(f"{host_id}.{suffix}")

    def read(self, host_id: str, name: str) -> dict[str, Any] | None:
        """One of the small JSON files, `request`, `progress` or `failure`; None where it is not there."""
        try:
            with self.place(host_id, f"{name}.json").open() as file:
                value: dict[str, Any] = json.loads(file.read())
        except (OSError, ValueError, StorageError):
            return None
        return value

    def write(self, host_id: str, name: str, value: Mapping[str, Any]) -> None:
        """Write one of the small JSON files; raises `StorageError`."""
        self.place(host_id, f"{name}.json").write(json.dumps(dict(value), indent=1).encode())

    def forget(self, host_id: str, *names: str) -> None:
        """Remove files of a host, where they are there."""
        for name in names:
            self.folder.remove(self.place(host_id, name).name)

    def ready(self, host_id: str) -> bool:
        """Whether its responses are there."""
        return self.place(host_id, "responses.parquet").is_file()

    def responses(self, host_id: str) -> HostResponses:
        """A ready host; raises `InputError` where it is none."""
        if not self.ready(host_id):
            raise InputError(f"host {host_id} is not ready", fix="see GET /v1/hosts/ID", field="host_id")
        return ResponseLibrary.read(str(self.place(host_id, "responses.parquet"))).host(host_id)


@dataclass(frozen=True)
class GivenHosts:
    """The hosts of a library, and by their ids those of a store: whoever did not give one never meets it.

    Attributes:
        library: the others; None for none.
        store: read when one of its hosts is asked for, so that a host that becomes ready is there at once.
    """

    library: ResponseLibrary | None
    store: HostStore

    def of_formula(self, formula: str) -> list[str]:
        """The library's: a host that somebody gave is taken by its id alone."""
        return [] if self.library is None else self.library.of_formula(formula)

    def host(self, host_id: str) -> HostResponses:
        """One host.

        Raises:
            InputError: it is neither in the library nor ready in the store.
            StorageError: the store cannot be read.
        """
        if is_uploaded(host_id):
            try:
                return self.store.responses(host_id)
            except (StorageError, TableError) as error:  # they name the store, which is nobody's business
                logger.error("host %s cannot be read", host_id, exc_info=error)
                raise StorageError(f"host {host_id} cannot be read now; try again, or give its file again") from None
        if self.library is None:
            raise InputError(f"no host {host_id[:80]!r} is known", fix="see GET /v1/hosts", field="host_id")
        return self.library.host(host_id)
