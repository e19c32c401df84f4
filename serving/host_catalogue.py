"""The hosts that the service knows by name: packaged crystals, those of a response library, those that users gave."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import islice

import pyarrow.parquet as pq

from defectnet.errors import CompositionError, InputError
from defectnet.host import Host
from defectnet.io.host_store import HostStore, is_uploaded
from defectnet.io.response_library import ResponseLibrary
from defectnet.references import MISTAKEN, library_reference
from defectnet.responses import response_library
from defectnet.spectrum import Spectrum
from serving.settings import HostSettings

__all__ = ["HostCatalogue", "KnownHost"]


@dataclass(frozen=True)
class KnownHost:
    """A crystal that can be named.

    Attributes:
        host_id: such as "mp-149".
        description: name and space group, for people.
        reference: whether its spectrum can stand in for a reference that nobody measured.
        responses: whether it is known how its spectrum answers to dopants.
        packaged: whether every installation has it, so that a command line can name it too.
    """

    host_id: str
    formula: str
    description: str
    reference: bool
    responses: bool
    packaged: bool = False


class HostCatalogue:
    """Looks hosts up by the beginning of a formula; nothing is read before it is first asked.

    Args:
        settings: which response library, and where the hosts of users are.
    """

    def __init__(self, settings: HostSettings) -> None:
        self._source = settings.library
        self._store = HostStore.at(settings.store) if settings.prepare else None
        self._given: dict[str, KnownHost] = {}

    @cached_property
    def _library(self) -> ResponseLibrary | None:
        return response_library(self._source)

    @cached_property
    def _known(self) -> dict[str, KnownHost]:
        path = files("defectnet.references").joinpath("hosts.parquet")
        rows = pq.read_table(str(path), columns=["parent_id", "host", "sample_id"]).to_pylist()
        library = self._library
        known = {
            row["parent_id"]: KnownHost(
                row["parent_id"],
                row["host"],
                row["sample_id"],
                reference=True,
                responses=library is not None and row["parent_id"] in library,
                packaged=True,
            )
            for row in rows
        }
        for host_id, formula in () if library is None else library.formulas():
            known.setdefault(host_id, KnownHost(host_id, formula, host_id, reference=True, responses=True))
        return dict(sorted(known.items(), key=lambda item: (len(item[1].formula), item[1].formula, item[0])))

    def _all(self) -> list[KnownHost]:
        """Those of users, which can become more at any time, and then the others."""
        for host_id in () if self._store is None else self._store.ids():
            if host_id not in self._given and self._store is not None and self._store.ready(host_id):
                request = self._store.read(host_id, "request") or {}
                formula = self._store.responses(host_id).formula
                name = f"{request.get('name', host_id)} (yours or a colleague's)"
                self._given[host_id] = KnownHost(host_id, formula, name, reference=True, responses=True)
        return [*self._given.values(), *self._known.values()]

    def find(self, formula: str, limit: int) -> list[KnownHost]:
        """Hosts of this very composition first, then those whose formula begins so, the shortest first."""
        return list(islice(self._matching(formula.strip()), limit))

    def _matching(self, text: str) -> Iterator[KnownHost]:
        try:
            exact = Host(text).formula
        except CompositionError:
            exact = ""
        every = self._all()
        yield from (one for one in every if one.formula == exact)
        begun = text.lower()
        yield from (one for one in every if one.formula != exact and one.formula.lower().startswith(begun))

    def named(self, host_id: str) -> KnownHost:
        """One host; raises `InputError` where there is none of this name."""
        if is_uploaded(host_id) and host_id not in self._given:
            self._all()
        found = self._given.get(host_id) or self._known.get(host_id)
        if found is None:
            raise InputError(f"no host {host_id[:80]!r} is known", fix="see GET /v1/hosts", field="host_id")
        return found

    def spectrum(self, host_id: str, kind: str) -> tuple[Spectrum, str]:
        """A host's computed density as a spectrum of this kind, and what to mind of it.

        Raises:
            InputError: no such host, or its density of this kind is not known.
        """
        known = self.named(host_id)
        library = self._library
        if is_uploaded(host_id) and self._store is not None:
            spectrum = self._store.responses(host_id).spectrum(kind)
        elif known.packaged or library is None:
            packaged = library_reference(Host(known.formula), host_id)
            return packaged.as_measured(kind), packaged.note
        else:
            spectrum = library.host(host_id).spectrum(kind)
        if spectrum is None:
            raise InputError(f"the {kind} density of {host_id} is not known", fix="take the other kind", field="kind")
        return spectrum, f"the reference is computed, not measured: {known.description}; {MISTAKEN}"
