"""Parents from folders, tables and structure files; what is wrong is said in one sentence."""

from pathlib import Path

import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase.build import bulk
from phonopy.file_IO import get_FORCE_SETS_lines
from phonopy.interface.vasp import get_vasp_structure_lines

from datagen.parents import Parent, from_folder, from_row, list_parents, load_parents, packaged_folder
from datagen.potentials import Potential
from datagen.structures import from_structure, save_parent
from defectnet.errors import InputError, SimulationError, TableError


@pytest.fixture
def row(silicon: Parent) -> dict[str, str | None]:
    phonons = silicon.phonons
    return {
        "material_id": "mine",
        "poscar_unitcell": "\n".join(get_vasp_structure_lines(phonons.unitcell)),
        "supercell_matrix": " ".join(str(n) for n in np.array(phonons.supercell_matrix).ravel()),
        "primitive_axis": "",
        "force_sets": "\n".join(get_FORCE_SETS_lines(phonons.dataset)),
        "born": None,
    }


def test_packaged_parents_are_listed() -> None:
    assert {"Si", "Ge", "GaAs", "MgO"} <= set(list_parents("packaged"))


def test_a_row_and_a_folder_give_the_same_crystal(row: dict[str, str | None], silicon: Parent) -> None:
    parent = from_row(row)
    assert parent.host == silicon.host
    assert parent.top_thz() == pytest.approx(silicon.top_thz(), rel=1e-4)


def test_parents_of_a_parquet_file(row: dict[str, str | None], tmp_path: Path) -> None:
    path = tmp_path / "parents.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert list_parents(path) == ["mine"]
    assert list(load_parents(path, [])) == []
    ((name, load),) = load_parents(path, ["mine"])
    assert (name, load().host.formula) == ("mine", "Si")


@pytest.mark.parametrize("field", ["poscar_unitcell", "supercell_matrix", "force_sets"])
def test_a_broken_row_costs_itself_only(field: str, row: dict[str, str | None]) -> None:
    with pytest.raises(SimulationError, match="mine"):
        from_row({**row, field: "rubbish"})


def test_a_folder_round_trip(silicon: Parent, tmp_path: Path) -> None:
    save_parent(silicon, tmp_path / "copy")
    assert from_folder(tmp_path / "copy").top_thz() == pytest.approx(silicon.top_thz())


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="no phonopy calculation"):
        from_folder(tmp_path)
    with pytest.raises(TableError, match="no phonopy folders"):
        list_parents(tmp_path)


def test_a_missing_or_truncated_file(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no file of parents"):
        list_parents(tmp_path / "absent.parquet")
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(TableError, match="no file of parents"):
        list_parents(cut)


def test_a_structure_file_becomes_a_parent(potential: Potential, tmp_path: Path) -> None:
    path = tmp_path / "diamond.cif"
    ase.io.write(path, bulk("C", "diamond", a=3.6, cubic=True))
    parent = from_structure(path, potential)
    assert len(parent.primitive) == 2
    assert parent.lowest_thz() > 0
    assert 35 < parent.top_thz() < 45  # 39.9 THz by experiment


def test_a_structure_file_that_is_none(potential: Potential, tmp_path: Path) -> None:
    path = tmp_path / "broken.cif"
    path.write_text("nothing of the kind")
    with pytest.raises(InputError, match="not a structure file"):
        from_structure(path, potential)


def test_the_library_says_where_it_comes_from() -> None:
    assert (packaged_folder() / "README.md").read_text(encoding="utf-8").count("NEP89") >= 1
