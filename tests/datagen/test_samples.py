"""One parent's rows: the contract is kept, failures are rows, and an identity gives the same row as it always did."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ase import Atoms
from numpy.typing import NDArray

from datagen.dopants import replacements
from datagen.parents import Parent, from_folder, packaged_folder
from datagen.potentials import Potential
from datagen.samples import rows_table, simulate_parent
from datagen.settings import SimulateSettings
from defectnet.errors import SimulationError
from defectnet.io.tables import conform

# Rows of the first edition, by end members and by masses: neither asks a potential.
_FORMER = Path(__file__).with_name("former_rows.parquet")
_ENDS = {("Ga", "Al"): "AlAs", ("As", "P"): "GaP"}


def test_rows_keep_the_contract(silicon: Parent, potential: Potential, small: SimulateSettings) -> None:
    germanium = small.model_copy(update={"dopants": ("Ge",), "pristine_share": 0.0})
    rows = simulate_parent("Si", lambda: silicon, [0, 1], potential, germanium)
    table = conform(rows_table(rows))
    for row in table.to_pylist():
        assert row["error"] is None
        step = row["frequency_step_thz"]
        assert sum(row["dos"]) * step == pytest.approx(3.0, rel=0.01)
        assert sum(row["reference_dos"]) * step == pytest.approx(3.0, rel=0.01)
        total = [sum(values) for values in zip(*(part["dos"] for part in row["partial_dos"]), strict=True)]
        assert total == pytest.approx(row["dos"], abs=5e-3 * max(row["dos"]))


def test_a_failing_parent_is_rows_with_an_error(potential: Potential, small: SimulateSettings) -> None:
    def broken() -> Parent:
        raise SimulationError("bad: no forces")

    rows = simulate_parent("bad", broken, [0, 1, 2], potential, small)
    assert [row["error"] for row in rows] == ["bad: no forces"] * 3
    assert len({row["sample_id"] for row in rows}) == 3


class _Upside:
    """Pushes atoms away from where they rest: no host is stable with it."""

    name = fingerprint = "upside down"

    def __init__(self, potential: Potential) -> None:
        self._potential = potential

    def knows(self, symbol: str) -> bool:
        return self._potential.knows(symbol)

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
        forces, stresses = self._potential.evaluate(structures)
        return [-one for one in forces], stresses


def test_the_second_potential_is_asked_where_the_first_fails_its_gate(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    settings = small.model_copy(update={"dopants": ("Ge",), "pristine_share": 0.0})
    wrong = _Upside(potential)
    (alone,) = simulate_parent("Si", lambda: silicon, [0], wrong, settings)
    assert "fails its gate" in alone["error"]
    (row,) = simulate_parent("Si", lambda: silicon, [0], wrong, settings, second=potential)
    assert row["error"] is None
    assert row["origin"]["potential"] == potential.name


def test_a_site_that_the_host_does_not_have_is_an_error(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    settings = small.model_copy(update={"dopants": ("Al",), "sublattices": ("Ga",)})
    rows = simulate_parent("Si", lambda: silicon, [0], potential, settings)
    assert "none of the dopants asked for" in rows[0]["error"]


def test_only_the_likeliest_dopants_are_drawn_where_the_settings_say_so(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    settings = small.model_copy(update={"pristine_share": 0.0, "potential_likeliest": 1, "max_concentration": 0.02})
    rows = simulate_parent("Si", lambda: silicon, [0, 1, 2], potential, settings)
    likeliest = replacements(silicon.host, potential)[0].element
    assert {one["element"] for row in rows for one in row["defects"]} == {likeliest}
    assert settings.digest() != small.digest() == small.model_copy(update={"potential_likeliest": 0}).digest()


def test_a_concentrated_sample_fails_where_no_doped_cell_may_be_computed(
    silicon: Parent, potential: Potential, small: SimulateSettings
) -> None:
    much = {"dopants": ("Ge",), "pristine_share": 0.0, "min_concentration": 0.1, "allow_direct": False}
    (row,) = simulate_parent("Si", lambda: silicon, [0], potential, small.model_copy(update=much))
    assert "too much for fragments to be superposed" in row["error"]


class _Ignorant:
    """Knows every element and no forces: the host fails its gate, and masses stand in."""

    name = fingerprint = "ignorant"

    def knows(self, symbol: str) -> bool:
        return True

    def evaluate(self, structures: object) -> object:
        raise SimulationError("no forces")


def former_rows() -> pa.Table:
    """What the first edition made of the same settings and seeds."""
    settings = SimulateSettings(min_atoms=64, direct_atoms=54, max_atoms=130, pristine_share=0.2)
    masses = settings.model_copy(update={"allow_masses": True, "quasirandom": 3, "use_endmembers": False})

    def load(name: str) -> Parent:
        return from_folder(packaged_folder() / name)

    ignorant: Potential = _Ignorant()  # type: ignore[assignment]
    rows = simulate_parent("GaAs", lambda: load("GaAs"), [0, 1, 2, 3, 4], ignorant, settings, _ENDS, load)
    rows += simulate_parent("MgO", lambda: load("MgO"), [0, 1], ignorant, masses)
    return rows_table(rows).drop_columns("reference_partial_dos")


def test_an_identity_gives_the_row_that_it_always_gave() -> None:
    """To the last digit of float16, but for the few modes that lie at a bin's edge.

    Cells are diagonalised in single precision, so that two processors' kernels differ by 1e-5 THz in a frequency. A
    mode nearer than that to an edge (one of GaAs lies at 330.999994 bins) falls into either of two neighbours. What may
    differ is therefore the way that weight moves along the axis, in modes times bins: less than a fiftieth of a mode.
    """
    before, now = pq.read_table(_FORMER).to_pylist(), former_rows().to_pylist()
    assert {row["origin"]["method"] for row in before} == {"interpolated", "masses", "pristine"}
    assert len(before) == len(now)
    for one, other in zip(before, now, strict=True):
        parts = [{part["element"]: part["dos"] for part in row.pop("partial_dos")} for row in (one, other)]
        assert parts[0].keys() == parts[1].keys()
        pairs = [(one.pop(name), other.pop(name)) for name in ("dos", "reference_dos")]
        for old, new in [*pairs, *((density, parts[1][element]) for element, density in parts[0].items())]:
            if new != pytest.approx(old, rel=1.1e-3, abs=1e-5 * max(old)):
                change = (np.asarray(new) - np.asarray(old)) * one["frequency_step_thz"]
                assert np.abs(np.cumsum(change)).sum() < 0.02
        strains = [row["origin"].pop("strain") for row in (one, other)]
        assert strains[1] == pytest.approx(strains[0], rel=1e-5)
        later = [other.pop(name) for name in sorted(other.keys() - one.keys())]  # columns that the table has since
        assert later == [None] * len(later)
        assert one == other
