from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import InputError
from defectnet.io.library_compaction import merge_rows, rewrite_library
from defectnet.io.response_library import RESPONSES_SCHEMA, HostResponses, ResponseLibrary, packed
from defectnet.io.tables import write_table

AXIS = np.linspace(0.0, 1.0, 80)
HOST = np.exp(-(((AXIS - 0.5) / 0.2) ** 2))


def curve(place: float) -> np.ndarray:
    return np.asarray(np.exp(-(((AXIS - place) / 0.03) ** 2)) - HOST)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Of two curves that may end early, in norms of the second."""
    n = max(one.size, other.size)
    one, other = (np.pad(c, (0, n - c.size)) for c in (one, other))
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def substitution(
    element: str, source: str = "springs", concentration: float = 0.0, place: float = 0.4
) -> dict[str, object]:
    return {
        "element": element,
        "replaces": "Si",
        "source": source,
        "concentration": concentration,
        "strain": 0.0,
        "imaginary_weight": 0.0,
        "change": packed(curve(place)),
        "change_neutron": None if element == "Bi" else packed(2.0 * curve(place)),
    }


def row(*substitutions: dict[str, object], host_id: str = "mp-1", error: str | None = None) -> dict[str, object]:
    return {
        "host_id": host_id,
        "formula": "SiC",
        "space_group": 216,
        "n_atoms_cell": 200,
        "frequency_step_thz": 0.1,
        "dos": packed(HOST, np.int16),
        "dos_neutron": packed(HOST, np.int16),
        "sites": [],
        "substitutions": list(substitutions),
        "settings": "0",
        "error": error,
    }


SPRINGS = [substitution(e, place=p) for e, p in (("Ge", 0.3), ("Sn", 0.25), ("Pb", 0.2), ("Bi", 0.22))]
ENDMEMBER = substitution("Ge", "endmember", 0.06)


def test_packed_springs_are_read_as_those_that_were_loose() -> None:
    before = HostResponses.from_row(row(*SPRINGS, ENDMEMBER))
    merged = merge_rows([row(*SPRINGS, ENDMEMBER)])
    assert [one["source"] for one in merged["substitutions"]] == ["endmember"]
    after = HostResponses.from_row(merged)
    assert len(after.responses) == len(before.responses)
    for element in ("Ge", "Sn", "Pb", "Bi"):
        for one, other in zip(sorted(before.of(element), key=str), sorted(after.of(element), key=str), strict=True):
            assert (one.source, one.concentration, one.replaces) == (other.source, other.concentration, other.replaces)
            assert distance(one.change, other.change) < 0.03
            assert (one.change_neutron is None) == (other.change_neutron is None)
            if one.change_neutron is not None and other.change_neutron is not None:
                assert distance(one.change_neutron, other.change_neutron) < 0.03


def test_rows_of_a_host_become_one_and_the_last_of_equal_responses_stays() -> None:
    late = substitution("Ge", "endmember", 0.06, place=0.7)
    merged = merge_rows([row(ENDMEMBER), row(error="unstable"), row(*SPRINGS, late)])
    host = HostResponses.from_row(merged)
    (ge,) = [one for one in host.of("Ge") if one.source == "endmember"]
    assert distance(ge.change, curve(0.7)) < 0.02
    assert len(host.responses) == 5
    assert merge_rows([row(error="unstable")])["error"] == "unstable"


def test_what_is_packed_is_not_packed_again_unless_it_must() -> None:
    once = merge_rows([row(*SPRINGS)])
    assert merge_rows([once, row(ENDMEMBER)])["springs"] == once["springs"]
    newer = merge_rows([once, row(substitution("Ge", place=0.8))])
    (ge,) = HostResponses.from_row(newer).of("Ge")
    assert distance(ge.change, curve(0.8)) < 0.03
    assert len(HostResponses.from_row(newer).responses) == 4


def test_libraries_of_both_versions_become_one(tmp_path: Path) -> None:
    old = pa.Table.from_pylist([row(*SPRINGS)], schema=RESPONSES_SCHEMA).drop_columns(["springs"])
    metadata = {"defectnet_schema": "responses", "defectnet_schema_version": "1"}
    write_table(old.replace_schema_metadata(metadata), tmp_path / "old" / "part.parquet")
    new = [row(ENDMEMBER), row(host_id="mp-2", error="unstable")]
    write_table(pa.Table.from_pylist(new, schema=RESPONSES_SCHEMA), tmp_path / "new.parquet")
    counts = rewrite_library([tmp_path / "old", tmp_path / "new.parquet"], tmp_path / "all")
    assert (counts["hosts"], counts["failed"]) == (1, 1)
    (file,) = (tmp_path / "all").glob("*.parquet")
    assert counts["bytes"] == file.stat().st_size
    assert pq.read_table(file).num_rows == 2
    library = ResponseLibrary.read(tmp_path / "all")
    assert sorted(one.source for one in library.host("mp-1").of("Ge")) == ["endmember", "springs"]
    with pytest.raises(InputError, match="holds a library"):
        rewrite_library([tmp_path / "old"], tmp_path / "all")
