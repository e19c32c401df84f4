"""The compact form gives the spectra table back: same schema, same rows, densities to within what is promised."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import TableError
from defectnet.io.compact import compacted, expanded, is_compact
from defectnet.io.quantised import LARGEST_L1
from defectnet.io.tables import SPECTRA_SCHEMA, conform, read_spectra, write_spectra, write_table

BINS = 300


def spectra(hosts: int = 2, each: int = 4) -> pa.Table:
    """Rows of `hosts` crystals, each with a reference of its own, one of them pristine and one without a spectrum."""
    rng = np.random.default_rng(0)
    axis = np.arange(BINS)
    rows = []
    for host in range(hosts):
        reference = np.exp(-(((axis - 100 - 20 * host) / 30) ** 2))
        for number in range(each):
            parts = {"Ga": 0.5 * reference, "As": 0.5 * reference, "Al": 0.01 * np.exp(-(((axis - 250) / 9) ** 2))}
            parts["As"] = parts["As"] * rng.uniform(0.9, 1.1, BINS)
            rows.append(
                {
                    "sample_id": f"{host}-{number}",
                    "parent_id": f"mp-{host}",
                    "host": "GaAs",
                    "defects": [{"element": "Al", "replaces": "Ga", "concentration": 0.01}],
                    "frequency_step_thz": 0.05,
                    "dos": sum(parts.values()),
                    "partial_dos": [{"element": e, "dos": d} for e, d in parts.items()],
                    "reference_dos": reference,
                    "kind": "vibrational",
                    "origin": {"method": "interpolated", "potential": "", "seed": 7},
                }
            )
    rows.append({"sample_id": "failed", "host": "GaAs", "origin": {"method": "none"}, "error": "no forces"})
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


def _close(found: list[float] | None, truth: list[float] | None, factor: float = 1.0) -> bool:
    if truth is None or found is None:
        return found is truth
    return bool(np.abs(np.subtract(found, truth)).sum() <= factor * LARGEST_L1 * np.sum(truth))


def _same(found: pa.Table, truth: pa.Table) -> None:
    densities = {"dos", "reference_dos", "partial_dos"}
    assert found.schema.equals(truth.schema, check_metadata=True)
    others = [name for name in truth.column_names if name not in densities]
    assert found.select(others).equals(truth.select(others))
    for one, other in zip(found.to_pylist(), truth.to_pylist(), strict=True):
        assert _close(one["dos"], other["dos"])
        assert _close(one["reference_dos"], other["reference_dos"])
        parts = [one["partial_dos"] or [], other["partial_dos"] or []]
        assert [part["element"] for part in parts[0]] == [part["element"] for part in parts[1]]
        for part, true in zip(*parts, strict=True):
            # The largest is what the others leave of the total: it has their errors beside its own.
            assert _close(part["dos"], true["dos"], 2 * len(parts[1]))


def test_a_table_comes_back(tmp_path: Path) -> None:
    table = spectra()
    write_spectra(table, tmp_path / "spectra.parquet")
    assert is_compact(pq.read_schema(tmp_path / "spectra.parquet"))
    _same(read_spectra(tmp_path / "spectra.parquet"), table)


def test_errors_come_back_and_a_table_without_any_is_stored_as_before(tmp_path: Path) -> None:
    table = spectra(1, 2)
    assert "uncertainty" not in compacted(table).column_names
    assert compacted(table).schema.metadata[b"defectnet_schema_version"] == b"2"
    rows = table.to_pylist()
    rows[0]["uncertainty"] = [0.1, float("nan"), *[0.02] * (BINS - 2)]
    measured = pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
    write_spectra(measured, tmp_path / "spectra.parquet")
    metadata = pq.read_schema(tmp_path / "spectra.parquet").metadata
    assert metadata[b"defectnet_schema_version"] == b"2.1"
    back = read_spectra(tmp_path / "spectra.parquet")
    assert back.schema.equals(SPECTRA_SCHEMA, check_metadata=True)
    np.testing.assert_array_equal(
        np.array(back["uncertainty"][0].as_py(), np.float32), np.array(rows[0]["uncertainty"], np.float32)
    )
    assert back["uncertainty"].to_pylist()[1:] == [None, None]


def test_what_is_asked_beside_the_spectrum_comes_back(tmp_path: Path) -> None:
    rows = spectra(1, 1).to_pylist()
    rows[0] |= {"host_id": "mp-149", "reference_kind": "computed", "prior": False}
    write_spectra(pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA), tmp_path / "spectra.parquet")
    stored = pq.read_schema(tmp_path / "spectra.parquet")
    assert stored.metadata[b"defectnet_schema_version"] == b"2.1"
    assert "uncertainty" not in stored.names
    back = read_spectra(tmp_path / "spectra.parquet").to_pylist()
    assert [(row["host_id"], row["reference_kind"], row["prior"]) for row in back] == [
        ("mp-149", "computed", False),
        (None, None, None),
    ]


def test_both_forms_stand_in_one_folder(tmp_path: Path) -> None:
    table = spectra()
    write_table(table, tmp_path / "a.parquet")
    write_spectra(table, tmp_path / "b.parquet")
    _same(read_spectra(tmp_path), pa.concat_tables([table, table]))


def test_the_largest_part_is_stored_only_where_the_others_do_not_say_it() -> None:
    table = spectra(1, 1)
    contents = compacted(table)["partial_dos"][0].as_py()
    assert [part["element"] for part in contents if part["dos"] is None] == ["As"]
    wrong = table.to_pylist()
    wrong[0]["dos"] = (2 * np.array(wrong[0]["dos"])).tolist()  # the parts are not those of the total
    other = pa.Table.from_pylist(wrong, schema=SPECTRA_SCHEMA)
    assert all(part["dos"] is not None for part in compacted(other)["partial_dos"][0].as_py())
    _same(conform(compacted(other)), other)


def test_a_host_stands_in_a_file_once(tmp_path: Path) -> None:
    sizes = []
    for each in (2, 40):
        write_spectra(spectra(3, each).select(["sample_id", "host", "reference_dos"]), tmp_path / f"{each}.parquet")
        sizes.append((tmp_path / f"{each}.parquet").stat().st_size)
    assert sizes[1] < sizes[0] + 40 * 3 * 20  # twenty bytes a row for its id, and no density of 300 bins


def test_some_columns_are_read_alone() -> None:
    table = compacted(spectra())
    found = expanded(table.select(["sample_id", "dos"]))
    assert found.schema.field("dos").type == SPECTRA_SCHEMA.field("dos").type
    with pytest.raises(TableError, match="beside its total"):
        expanded(table.select(["sample_id", "partial_dos"]))


def test_slices_and_nothing_at_all_come_back() -> None:
    table = spectra()
    _same(conform(compacted(table).slice(3, 6)), table.slice(3, 6))
    _same(conform(compacted(table.slice(0, 0))), table.slice(0, 0))


def test_compacting_twice_is_compacting_once() -> None:
    once = compacted(spectra())
    assert compacted(once).equals(once)


def test_a_spectrum_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    rows = spectra(1, 1).to_pylist()
    rows[0]["dos"][3] = float("nan")
    with pytest.raises(TableError, match="finite"):
        write_spectra(pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())


def test_bytes_that_are_no_density_are_one_sentence() -> None:
    table = compacted(spectra(1, 1))
    column = pa.array([b"12345"] * table.num_rows, pa.binary())
    with pytest.raises(TableError, match="cannot be read"):
        expanded(table.set_column(table.column_names.index("dos"), table.schema.field("dos"), column))
