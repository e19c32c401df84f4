"""The response library that ships with the project, or the one that is named, and the hosts that users gave."""

import os
from functools import lru_cache
from pathlib import Path

from defectnet.io.host_store import GivenHosts, HostStore
from defectnet.io.response_library import KnownHosts, ResponseLibrary

__all__ = ["PACKAGED", "known_hosts", "response_library"]

# The word for the library that ships with the project.
PACKAGED = "packaged"
# A folder or a file of another one, for every program.
_VARIABLE = "DEFECTNET_RESPONSES"
_BESIDE = (Path(__file__).parents[1] / "data" / "responses", Path(__file__).parent / "references" / "responses")


def response_library(source: str | Path | None = PACKAGED) -> ResponseLibrary | None:
    """The responses of known hosts.

    Args:
        source: a Parquet file or a folder of them, a path or a URI; "packaged" for what DEFECTNET_RESPONSES names, else
            the library that ships with the project; several joined by commas, which add to each other; None or "none"
            for none.

    Returns:
        None where none is wanted, or where the project was installed without its library.

    Raises:
        TableError: it is no response library.
        StorageError: the object store cannot be reached.
    """
    if source is None or str(source) == "none":
        return None
    if "," in str(source):
        parts = [response_library(part.strip()) for part in str(source).split(",")]
        return ResponseLibrary.joined([part for part in parts if part is not None])
    if str(source) != PACKAGED:
        return _read(str(source))
    if named := os.environ.get(_VARIABLE):
        return _read(named)
    found = next((folder for folder in _BESIDE if folder.is_dir()), None)
    return None if found is None else _read(str(found))


def known_hosts(source: str | Path | None = PACKAGED, given_hosts: str | None = None) -> KnownHosts | None:
    """The hosts whose responses are known.

    Args:
        source: as in `response_library`.
        given_hosts: path or URI of the store of hosts that users gave (`defectnet.io.host_store`), each of which
            answers to its id; None for none.

    Returns:
        None where neither is there.

    Raises:
        As `response_library`.
    """
    library = response_library(source)
    return library if given_hosts is None else GivenHosts(library, HostStore.at(given_hosts))


@lru_cache(maxsize=4)
def _read(source: str) -> ResponseLibrary:
    return ResponseLibrary.read(source)
