from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from defectnet.errors import InputError, TableError
from defectnet.io.response_library import RESPONSES_SCHEMA, HostResponses, ResponseLibrary, packed
from defectnet.io.tables import SPECTRA_SCHEMA, write_table

CURVE = np.sin(np.linspace(0, 7, 50)) * np.exp(-np.linspace(0, 3, 50))


def row(host_id: str = "mp-1", formula: str = "SiC", **changes: object) -> dict[str, object]:
    substitution = {
        "element": "Ge",
        "replaces": "Si",
        "source": "springs",
        "concentration": 0.05,
        "strain": 0.0,
        "imaginary_weight": 0.0,
        "change": packed(CURVE),
        "change_neutron": None,
    }
    return {
        "host_id": host_id,
        "formula": formula,
        "space_group": 216,
        "n_atoms_cell": 200,
        "frequency_step_thz": 0.1,
        "dos": packed(np.abs(CURVE), np.int16),
        "dos_neutron": None,
        "sites": [{"element": "Si", "count": 1, "dos": packed(np.abs(CURVE))}],
        "substitutions": [substitution],
        "settings": "0",
        "error": None,
    } | changes


def written(folder: Path, *rows: dict[str, object]) -> Path:
    for number, one in enumerate(rows):
        write_table(pa.Table.from_pylist([one], schema=RESPONSES_SCHEMA), folder / f"responses-{number}.parquet")
    return folder


def test_curves_survive_within_half_a_step(tmp_path: Path) -> None:
    host = ResponseLibrary.read(written(tmp_path, row())).host("mp-1")
    (response,) = host.of("Ge")
    assert np.abs(response.change - CURVE).max() <= np.abs(CURVE).max() / 254 * 1.001
    assert np.abs(host.dos - np.abs(CURVE)).max() <= np.abs(CURVE).max() / 65_534 * 1.01
    assert response.change_of("neutron") is None
    assert host.spectrum("neutron") is None
    spectrum = host.spectrum()
    assert spectrum is not None
    assert spectrum.frequency_thz[:2] == pytest.approx([0.05, 0.15])


def test_zeros_at_the_end_are_not_stored() -> None:
    assert len(packed(np.array([1.0, -2.0, 0.0, 0.0]))["values"]) == 2
    assert packed(np.zeros(5))["values"] == b""


def test_a_host_gathers_what_later_runs_added(tmp_path: Path) -> None:
    more = row()
    more["substitutions"][0]["source"] = "potential:nequix"  # type: ignore[index]
    library = ResponseLibrary.read(written(tmp_path, row(), more, row("mp-2", error="unstable")))
    assert [one.source for one in library.host("mp-1").of("Ge")] == ["springs", "potential:nequix"]
    assert (len(library), "mp-2" in library) == (1, False)
    assert library.of_formula("CSi") == ["mp-1"]
    with pytest.raises(InputError, match="prepare it"):
        library.host("mp-2")


def test_another_table_is_refused(tmp_path: Path, spectra: pa.Table) -> None:
    write_table(spectra, tmp_path / "spectra.parquet")
    assert spectra.schema.metadata == SPECTRA_SCHEMA.metadata
    with pytest.raises(TableError, match="no response library"):
        ResponseLibrary.read(tmp_path / "spectra.parquet")


def test_a_row_without_substitutions_is_a_host_all_the_same() -> None:
    assert HostResponses.from_row(row(substitutions=[])).responses == ()
