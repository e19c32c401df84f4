"""A dataset written again: rows in their order, spectra by source, hosts once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from defectnet.errors import InputError
from defectnet.io.datasets import read_hosts, rewrite_dataset, spectra_by_source, without_sources
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra, write_spectra, write_table

SOURCES = ("", "nep89", "", "nequix", "nep89")


def _table() -> pa.Table:
    rng = np.random.default_rng(1)
    rows = []
    for number, potential in enumerate(SOURCES):
        density = rng.random(50)
        rows.append(
            {
                "sample_id": str(number),
                "parent_id": "p",
                "host": "Si",
                "defects": [] if number == 2 else [{"element": "Ge", "replaces": "Si", "concentration": 0.1}],
                "frequency_step_thz": 0.1,
                "dos": density,
                "partial_dos": [{"element": "Si", "dos": density}],
                "reference_dos": np.ones(50),
                "origin": {"potential": potential},
            }
        )
    rows.append({"sample_id": "failed", "host": "Si", "origin": {"potential": "nep89"}, "error": "unstable"})
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


def test_spectra_are_counted_by_what_they_rest_on() -> None:
    assert spectra_by_source(_table()) == {"dft": 2, "nep89": 2, "nequix": 1}


def test_a_source_is_left_out_and_failures_stay() -> None:
    left = without_sources(_table(), {"nep89"})
    assert left["sample_id"].to_pylist() == ["0", "2", "3", "failed"]
    assert without_sources(_table(), ()).num_rows == len(SOURCES) + 1


def test_a_dataset_written_again_keeps_its_rows_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("defectnet.io.datasets._ROWS", 2)
    for start in (0, 3):
        write_table(_table().slice(start, 3), tmp_path / "old" / f"spectra-{start}.parquet")
    assert rewrite_dataset(tmp_path / "old", tmp_path / "new") == {"dft": 2, "nep89": 2, "nequix": 1}
    assert len(list((tmp_path / "new").iterdir())) == 3
    before, after = read_spectra(tmp_path / "old"), read_spectra(tmp_path / "new")
    assert after["sample_id"].equals(before["sample_id"])
    assert after["origin"].to_pylist() == before["origin"].to_pylist()
    with pytest.raises(InputError, match="holds shards already"):
        rewrite_dataset(tmp_path / "old", tmp_path / "new")


def test_hosts_are_read_once_with_their_parts(tmp_path: Path) -> None:
    table = _table()
    write_spectra(table.slice(0, 2), tmp_path / "a.parquet")
    (host,) = read_hosts(tmp_path).values()
    assert host["partial_dos"] is None  # the rows say nothing of the pristine crystal's elements
    assert host["dos"] == pytest.approx(np.ones(50), rel=1e-3)
    write_spectra(table.slice(2, 1), tmp_path / "b.parquet")  # one that is pristine itself
    (host,) = read_hosts(tmp_path).values()
    assert list(host["partial_dos"]) == ["Si"]
    kept = table.slice(3, 1).append_column(
        pa.field("reference_partial_dos", SPECTRA_SCHEMA.field("partial_dos").type),
        pa.array([[{"element": "Si", "dos": [1.0] * 50}]], SPECTRA_SCHEMA.field("partial_dos").type),
    )
    write_spectra(kept, tmp_path / "0.parquet")
    (host,) = read_hosts(tmp_path).values()
    assert host["partial_dos"]["Si"] == pytest.approx(np.ones(50), rel=1e-3)
    assert read_spectra(tmp_path).schema == SPECTRA_SCHEMA
