"""The response library: hosts, and how each answers to each dopant; a contract between the simulator and the model.

One row of `RESPONSES_SCHEMA` is one host with its substitutions; a host may have several rows, one for each run that
added to it, and the first tells its densities. Curves are on bins of `frequency_step_thz` from
0 THz and end where they vanish. They are stored as integers of one byte (changes, sites) or two (densities), little
endian, times a scale: the greatest error is half a step, 1/254 or 1/65,534 of the curve's greatest value.

Responses by springs are many and alike. `defectnet.io.library_compaction` moves them into the column `springs`, in
which they stand together with an error of 2 % of each curve's norm (`defectnet.io.curve_family`); whoever reads a host
does not see the difference. Version 1 had no such column and is read all the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from defectnet.errors import InputError, TableError
from defectnet.host import Host
from defectnet.io.cache import shared_tables
from defectnet.io.curve_family import FAMILY, unpack_family
from defectnet.io.storage import Location
from defectnet.spectrum import Spectrum, bin_centres_thz

__all__ = [
    "LIBRARY_VERSION",
    "RESPONSES_SCHEMA",
    "HostResponses",
    "KnownHosts",
    "ResponseLibrary",
    "Site",
    "StoredResponse",
    "packed",
    "read_responses",
    "response_files",
]

LIBRARY_VERSION = "2"
_READABLE = ("1", LIBRARY_VERSION)

Array = NDArray[np.float64]

_CURVE = pa.struct([pa.field("scale", pa.float32()), pa.field("values", pa.binary())])
_SUBSTITUTION = pa.struct(
    [
        pa.field("element", pa.string()),
        pa.field("replaces", pa.string()),
        pa.field("source", pa.string()),  # "endmember", "measured", "potential:NAME", "springs" or "masses"
        pa.field("concentration", pa.float32()),  # fraction of all atoms
        pa.field("strain", pa.float32()),  # linear, at this concentration
        pa.field("imaginary_weight", pa.float32()),
        pa.field("change", _CURVE),  # of the normalised density, for each unit of concentration; null if not measured
        pa.field("change_neutron", _CURVE),  # null where a cross-section is unknown
    ]
)
_SPRINGS = pa.struct(
    [
        pa.field("elements", pa.list_(pa.string())),
        pa.field("replaces", pa.list_(pa.string())),
        pa.field("curves", FAMILY),  # of single dopants: concentration, strain and imaginary weight are 0
    ]
)
_SITE = pa.struct(
    [
        pa.field("element", pa.string()),
        pa.field("count", pa.int16()),  # equivalent sites in the primitive cell
        pa.field("dos", _CURVE),  # 3 modes of one atom
    ]
)
RESPONSES_SCHEMA = pa.schema(
    [
        pa.field("host_id", pa.string(), nullable=False),
        pa.field("formula", pa.string(), nullable=False),
        pa.field("space_group", pa.int16()),
        pa.field("n_atoms_cell", pa.int32()),  # of the supercell in which responses were computed
        pa.field("frequency_step_thz", pa.float64()),
        pa.field("dos", _CURVE),  # of the pristine host, 3 modes an atom
        pa.field("dos_neutron", _CURVE),
        pa.field("sites", pa.list_(_SITE)),
        pa.field("substitutions", pa.list_(_SUBSTITUTION)),
        pa.field("settings", pa.string()),  # hash of what decides the physics
        pa.field("error", pa.string()),  # why there are no responses
        pa.field("springs", _SPRINGS),  # responses by springs, packed together; null where none are
    ],
    metadata={"defectnet_schema": "responses", "defectnet_schema_version": LIBRARY_VERSION},
)


def packed(values: Array, kind: type[np.signedinteger[Any]] = np.int8) -> dict[str, Any]:
    """A curve as integers times a scale, the zeros at its end cut off."""
    most = float(np.abs(values).max(initial=0.0))
    scale = most / np.iinfo(kind).max if most > 0 else 1.0
    whole = np.rint(values / scale).astype(np.dtype(kind).newbyteorder("<"))
    used = np.flatnonzero(whole)
    return {"scale": scale, "values": whole[: used[-1] + 1 if used.size else 0].tobytes()}


def _unpacked(curve: Mapping[str, Any] | None, kind: str) -> Array | None:
    if curve is None or curve["values"] is None:
        return None
    return np.frombuffer(curve["values"], dtype=kind).astype(np.float64) * float(curve["scale"])


@dataclass(frozen=True, eq=False)
class StoredResponse:
    """One substitution at one concentration; see `RESPONSES_SCHEMA`.

    Attributes:
        change, change_neutron: shape (m,), modes per THz of the normalised density (3 modes) for each unit of
            concentration; zero beyond the last; None where it is not known.
    """

    element: str
    replaces: str
    source: str
    concentration: float
    strain: float
    imaginary_weight: float
    change: Array | None
    change_neutron: Array | None

    def change_of(self, kind: str) -> Array | None:
        """The change as a spectrum of this kind shows it; None where that is not known."""
        return self.change_neutron if kind == "neutron" else self.change


def _stored(one: Mapping[str, Any]) -> StoredResponse:
    plain = {name: one[name] for name in ("element", "replaces", "source", "concentration", "strain")}
    return StoredResponse(
        **plain,
        imaginary_weight=one["imaginary_weight"],
        change=_unpacked(one["change"], "<i1"),
        change_neutron=_unpacked(one["change_neutron"], "<i1"),
    )


def _springs(packed: Mapping[str, Any], host: Array | None) -> list[StoredResponse]:
    changes, weighted = unpack_family(packed["curves"], host)
    found = []
    for place, (element, replaces) in enumerate(zip(packed["elements"], packed["replaces"], strict=True)):
        neutron = None if weighted is None or np.isnan(weighted[place, 0]) else weighted[place]
        found.append(StoredResponse(element, replaces, "springs", 0.0, 0.0, 0.0, changes[place], neutron))
    return found


@dataclass(frozen=True, eq=False)
class Site:
    """One kind of site: its element, how many the primitive cell has, and its density (3 modes), shape (m,)."""

    element: str
    count: int
    dos: Array


@dataclass(frozen=True, eq=False)
class HostResponses:
    """A host of the library.

    Attributes:
        frequency_step_thz: width of the bins, from 0 THz, of every curve.
        dos, dos_neutron: shape (m,), the pristine host's densities per THz, 3 modes an atom.
    """

    host_id: str
    formula: str
    space_group: int
    frequency_step_thz: float
    dos: Array
    dos_neutron: Array | None
    sites: tuple[Site, ...]
    responses: tuple[StoredResponse, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "HostResponses":
        """A row of `RESPONSES_SCHEMA` without an error."""
        dos, dos_neutron = _unpacked(row["dos"], "<i2"), _unpacked(row["dos_neutron"], "<i2")
        assert dos is not None
        responses = [_stored(one) for one in row["substitutions"] or ()]
        if row.get("springs") is not None:
            responses += _springs(row["springs"], dos_neutron)
        return cls(
            host_id=row["host_id"],
            formula=row["formula"],
            space_group=row["space_group"],
            frequency_step_thz=row["frequency_step_thz"],
            dos=dos,
            dos_neutron=dos_neutron,
            sites=tuple(
                Site(one["element"], one["count"], site)
                for one in row["sites"] or ()
                if (site := _unpacked(one["dos"], "<i1")) is not None
            ),
            responses=tuple(responses),
        )

    def spectrum(self, kind: str = "vibrational") -> Spectrum | None:
        """The pristine host's density of states of this kind; None where it is not known."""
        density = self.dos_neutron if kind == "neutron" else self.dos
        if density is None:
            return None
        return Spectrum(bin_centres_thz(density.size, self.frequency_step_thz), density)

    def of(self, element: str) -> tuple[StoredResponse, ...]:
        """All responses of one dopant, on whatever site and from whatever source."""
        return tuple(one for one in self.responses if one.element == element)


class KnownHosts(Protocol):
    """Whoever knows hosts: a response library, or one with the hosts that users gave (`GivenHosts`)."""

    def of_formula(self, formula: str) -> list[str]:
        """The ids of the hosts that may be meant by this composition."""

    def host(self, host_id: str) -> HostResponses:
        """One host; raises `InputError` where it is not known."""


class ResponseLibrary:
    """Hosts by id and by formula; their curves are unpacked when a host is asked for."""

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        self._tables = [table.combine_chunks() for table in tables]
        self._places: dict[str, list[tuple[int, int]]] = {}
        self._formulas: dict[str, list[str]] = {}
        for number, table in enumerate(self._tables):
            columns = table.select(["host_id", "formula", "error"]).to_pydict()
            for row, (name, formula, error) in enumerate(zip(*columns.values(), strict=True)):
                if error is not None:
                    continue
                if name not in self._places:
                    self._formulas.setdefault(Host(formula).formula, []).append(name)
                self._places.setdefault(name, []).append((number, row))

    @classmethod
    def read(cls, source: str | Path) -> "ResponseLibrary":
        """A library from a Parquet file, or a folder of such files, in memory that processes share.

        Raises:
            TableError: a file is no response library, or one of another version.
            StorageError: the object store cannot be reached.
        """
        files = response_files(source)
        return cls(shared_tables(files, read_responses, version=LIBRARY_VERSION, kind="responses"))

    @classmethod
    def joined(cls, parts: Sequence["ResponseLibrary"]) -> "ResponseLibrary":
        """Several libraries as one; a host of several has the responses of all, its densities from the first."""
        return cls([table for part in parts for table in part._tables])

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, host_id: object) -> bool:
        return host_id in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def formulas(self) -> Iterator[tuple[str, str]]:
        """The id and the formula of every host."""
        for formula, names in self._formulas.items():
            yield from ((name, formula) for name in names)

    def of_formula(self, formula: str) -> list[str]:
        """The ids of the hosts of this composition."""
        return list(self._formulas.get(Host(formula).formula, ()))

    def rows_of(self, names: Sequence[str]) -> pa.Table:
        """The rows of these hosts, with the columns of `RESPONSES_SCHEMA`."""
        places = sorted(place for name in names for place in self._places.get(name, ()))
        chosen = [
            table.take(pa.array([row for at, row in places if at == number], pa.int64()))
            for number, table in enumerate(self._tables)
        ]
        return pa.concat_tables(chosen)

    def host(self, host_id: str) -> HostResponses:
        """One host.

        Raises:
            InputError: it is not in the library.
        """
        if host_id not in self._places:
            raise InputError(f"no host {host_id!r} in the response library", fix="prepare it first", field="host")
        rows = [self._tables[number].slice(row, 1).to_pylist()[0] for number, row in self._places[host_id]]
        first, *more = (HostResponses.from_row(row) for row in rows)
        return replace(first, responses=sum((one.responses for one in more), start=first.responses))


def response_files(source: str | Path | Location) -> list[Location]:
    """The files of a library: of a folder, in the order of their names, or the one file."""
    location = Location.of(source, field="responses")
    return location.files(".parquet") if location.is_folder() else [location]


def read_responses(path: str | Path | Location) -> pa.Table:
    """One file of a response library, of whatever version, with the columns of `RESPONSES_SCHEMA`.

    Raises:
        TableError: it is no response library, or one of another version.
        StorageError: the object store cannot be reached.
    """
    file = Location.of(path, field="responses")
    try:
        with file.open() as opened:
            table = pq.read_table(opened)
    except (OSError, pa.ArrowInvalid) as error:
        raise TableError(
            f"{file} is no response library ({error})", fix="prepare it again", field="responses"
        ) from None
    metadata = table.schema.metadata or {}
    found = metadata.get(b"defectnet_schema"), metadata.get(b"defectnet_schema_version")
    if found not in [(b"responses", version.encode()) for version in _READABLE]:
        raise TableError(
            f"{file} is no response library of version {' or '.join(_READABLE)}",
            fix="prepare it again",
            field="responses",
        )
    for field in RESPONSES_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(RESPONSES_SCHEMA.names).cast(RESPONSES_SCHEMA)
