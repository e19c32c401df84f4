"""A response library written again: one row a host, its responses by springs packed together, in few files.

Runs add to a library one after another: end members first, springs, a potential's responses as its hours allow. Each
leaves rows of its own; here they become one.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from defectnet.errors import InputError
from defectnet.io.curve_family import pack_family
from defectnet.io.datasets import shard_key
from defectnet.io.response_library import (
    RESPONSES_SCHEMA,
    HostResponses,
    StoredResponse,
    read_responses,
    response_files,
)
from defectnet.io.storage import Location
from defectnet.io.tables import write_table

__all__ = ["merge_rows", "rewrite_library"]

# Hosts of a file: some 2 MB.
_HOSTS = 128
# Digits of a concentration in which two are the same.
_DIGITS = 5


def merge_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows of one host as one, its responses by springs packed together.

    The first row tells its densities. Of several responses of one substitution from one source at one concentration the
    last is kept. A row with an error counts only where there is no other, and rows on other bins are left out.
    """
    good = [row for row in rows if row["error"] is None]
    if not good:
        return dict(rows[0])
    first = good[0]
    good = [row for row in good if row["frequency_step_thz"] == first["frequency_step_thz"]]
    loose = {_key(one): one for row in good for one in row["substitutions"] or () if not _is_single(one)}
    merged = dict(first) | {"substitutions": list(loose.values()), "springs": None}
    packed = [row["springs"] for row in good if row.get("springs") is not None]
    if len(packed) == 1 and not any(_is_single(one) for row in good for one in row["substitutions"] or ()):
        return merged | {"springs": packed[0]}  # packed again, it would lose some more
    single: dict[tuple[str, str], StoredResponse] = {}
    for row in good:
        # Of a row, those that are packed come after the loose ones, which are newer.
        for one in reversed(HostResponses.from_row(row).responses):
            if one.source == "springs" and one.concentration == 0.0:
                single[one.replaces, one.element] = one
    return merged | {"springs": _packed(list(single.values()), HostResponses.from_row(first)) if single else None}


def _key(one: Mapping[str, Any]) -> tuple[str, str, str, float]:
    return one["replaces"], one["element"], one["source"], round(one["concentration"], _DIGITS)


def _is_single(one: Mapping[str, Any]) -> bool:
    """Whether it is a response by springs to a single dopant, whose other columns are 0."""
    return bool(one["source"] == "springs" and one["concentration"] == 0.0)


def _packed(responses: Sequence[StoredResponse], host: HostResponses) -> dict[str, Any]:
    both = [curve for one in responses for curve in (one.change, one.change_neutron) if curve is not None]
    n = max(1, *(curve.size for curve in both))
    change = np.zeros((len(responses), n))
    weighted = np.full_like(change, np.nan)
    for place, one in enumerate(responses):
        assert one.change is not None  # springs always have one
        change[place, : one.change.size] = one.change
        if one.change_neutron is not None:
            weighted[place] = np.pad(one.change_neutron, (0, n - one.change_neutron.size))
    order, curves = pack_family(change, weighted, host.dos_neutron)
    return {
        "elements": [responses[place].element for place in order],
        "replaces": [responses[place].replaces for place in order],
        "curves": curves,
    }


def rewrite_library(sources: Iterable[str | Path], output: str | Path) -> dict[str, int]:
    """Write libraries again as one, a row a host, in the order in which hosts first come.

    Args:
        sources: files or folders; of equal responses that of the last source is kept.
        output: another folder, without files yet.

    Returns:
        how many hosts, hosts without responses (an `error`), and bytes.

    Raises:
        InputError: `output` holds files already.
        TableError, StorageError: as `read_responses` and `write_table`.
    """
    folder = Location.of(output, field="output")
    if folder.files(".parquet"):
        raise InputError(f"{output} holds a library already", fix="give an empty folder", field="output")
    tables = [read_responses(file) for source in sources for file in response_files(source)]
    places: dict[str, list[tuple[int, int]]] = {}
    for number, table in enumerate(tables):
        for row, name in enumerate(table["host_id"].to_pylist()):
            places.setdefault(name, []).append((number, row))
    names = list(places)
    counts = {"hosts": 0, "failed": 0, "bytes": 0}
    for number, start in enumerate(range(0, len(names), _HOSTS)):
        part = names[start : start + _HOSTS]
        merged = [
            merge_rows([tables[table].slice(row, 1).to_pylist()[0] for table, row in places[name]]) for name in part
        ]
        file = folder.child(f"responses-{number:04d}-{shard_key(part)}.parquet")
        write_table(pa.Table.from_pylist(merged, schema=RESPONSES_SCHEMA), file)
        failed = sum(row["error"] is not None for row in merged)
        counts["hosts"] += len(merged) - failed
        counts["failed"] += failed
        with file.open() as opened:
            counts["bytes"] += opened.size()
    return counts
