"""Interpolation between crystals of one structure is exact at both ends and agrees with the potential between them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import wasserstein_distance

from datagen.dopants import Replacement, replacements
from datagen.endmembers import Endmember, find_endmembers, interpolate
from datagen.engine import Workbench
from datagen.parents import Parent, compact_solve, from_folder, packaged_folder
from datagen.potentials import Potential
from datagen.samples import simulate_parent
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.supercells import Supercell
from defectnet.errors import SimulationError

ALUMINIUM = Replacement("Al", "Ga", 1.0, False, endmember="AlAs")


@pytest.fixture(scope="module")
def aluminium_arsenide() -> Parent:
    return from_folder(packaged_folder() / "AlAs")


def _packaged(name: str) -> Parent:
    return from_folder(packaged_folder() / name)


def test_the_far_end_is_the_end_member_itself(gallium_arsenide: Parent, aluminium_arsenide: Parent) -> None:
    end = Endmember(gallium_arsenide, aluminium_arsenide, "Ga", "Al")
    cell = Supercell(gallium_arsenide.primitive, np.array([[3, 0, 1], [-1, 3, 0], [0, 1, 3]]))
    compact = end.compact_force_constants(cell)
    symbols = np.array(cell.atoms.get_chemical_symbols())
    full = np.where(symbols == "Ga", "Al", symbols)
    phi = interpolate(gallium_arsenide.compact_force_constants(cell), {("Ga", "Al"): compact}, cell, full)
    assert phi == pytest.approx(cell.expand(compact), abs=1e-6)
    # The same crystal in its own axes: equal frequencies, with the masses of the end member.
    q = cell.commensurate_q()
    masses = {"Al": 26.9815, "As": 74.9216}
    primitive = gallium_arsenide.primitive.copy()
    primitive.set_masses([masses[{"Ga": "Al"}.get(s, s)] for s in primitive.get_chemical_symbols()])
    found = np.sort(compact_solve(compact, Supercell(primitive, cell.matrix), q)[0].ravel())
    truth = np.sort(aluminium_arsenide.frequencies_and_weights(q)[0].ravel())
    assert found == pytest.approx(truth, abs=0.02)


def test_no_dopant_leaves_the_host(gallium_arsenide: Parent, aluminium_arsenide: Parent) -> None:
    end = Endmember(gallium_arsenide, aluminium_arsenide, "Ga", "Al")
    cell = Supercell(gallium_arsenide.primitive, np.diag([3, 3, 3]))
    host = gallium_arsenide.compact_force_constants(cell)
    symbols = np.array(cell.atoms.get_chemical_symbols())
    phi = interpolate(host, {("Ga", "Al"): end.compact_force_constants(cell)}, cell, symbols)
    assert phi == pytest.approx(cell.expand(host), abs=1e-9)


@pytest.mark.physics
def test_it_agrees_with_the_potential_that_made_both_ends(gallium_arsenide: Parent, potential: Potential) -> None:
    """The packaged parents are the potential's own crystals, so the two methods answer the same question."""
    settings = SimulateSettings()
    by_ends = Workbench(gallium_arsenide, potential, settings, _packaged)
    by_potential = Workbench(gallium_arsenide, potential, settings)
    plan = Plan(((ALUMINIUM, 0.15),))
    one = by_ends.simulate(plan, np.random.default_rng(3))
    other = by_potential.simulate(plan, np.random.default_rng(3))
    assert (one.method, other.method) == ("interpolated", "direct")
    assert one.strain == pytest.approx(other.strain, abs=0.002)
    axis = np.arange(by_ends.bins.n) * by_ends.bins.step_thz
    truth, host = other.dos.total, by_ends.reference.total
    left = wasserstein_distance(axis, axis, one.dos.total, truth)
    assert left < 0.4 * wasserstein_distance(axis, axis, host, truth)


def test_another_structure_is_refused(gallium_arsenide: Parent) -> None:
    with pytest.raises(SimulationError, match="structure"):
        Endmember(gallium_arsenide, _packaged("MgO"), "Ga", "Mg")


def test_end_members_are_found_in_a_table_and_not_in_a_folder(tmp_path: Path) -> None:
    rows = [
        {"material_id": "a", "formula": "ZnS", "spacegroup": 216, "n_atoms_primitive": 2},
        {"material_id": "b", "formula": "CdS", "spacegroup": 216, "n_atoms_primitive": 2},
        {"material_id": "c", "formula": "MgS", "spacegroup": 225, "n_atoms_primitive": 2},
        {"material_id": "d", "formula": "ZnSe", "spacegroup": 216, "n_atoms_primitive": 2},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "parents.parquet")
    found = find_endmembers(tmp_path / "parents.parquet")
    assert found["a"] == {("Zn", "Cd"): "b", ("S", "Se"): "d"}
    assert "c" not in found
    assert find_endmembers(packaged_folder()) == {}


def test_an_end_member_makes_a_candidate_without_the_potential(gallium_arsenide: Parent) -> None:
    class Ignorant:
        name = "knows nothing"

        def knows(self, symbol: str) -> bool:
            return False

        def evaluate(self, structures: object) -> object:
            raise AssertionError("an end member needs no forces")

    found = replacements(gallium_arsenide.host, Ignorant(), {("Ga", "Al"): "AlAs"})  # type: ignore[arg-type]
    assert [(one.element, one.replaces, one.endmember) for one in found] == [("Al", "Ga", "AlAs")]
    settings = SimulateSettings(min_atoms=64, direct_atoms=54, max_atoms=130, pristine_share=0.0)
    made = simulate_parent(
        "GaAs",
        lambda: gallium_arsenide,
        [0, 1],
        Ignorant(),  # type: ignore[arg-type]
        settings,
        {("Ga", "Al"): "AlAs"},
        _packaged,
    )
    assert [row["error"] for row in made] == [None, None]
    assert {row["origin"]["method"] for row in made} == {"interpolated"}
