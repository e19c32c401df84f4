"""Packaged parents and the default potential, loaded once for all tests of the simulator."""

from pathlib import Path

import pytest

from datagen.engine import Workbench
from datagen.parents import Parent, from_folder, packaged_folder
from datagen.potentials import Potential, load_potential
from datagen.settings import SimulateSettings
from defectnet.errors import PotentialError


@pytest.fixture(scope="session")
def potential() -> Potential:
    try:
        return load_potential("nep89")
    except PotentialError as error:
        pytest.skip(f"the default potential is not installed: {error}")


@pytest.fixture(scope="session")
def small() -> SimulateSettings:
    """Small cells: quick, and exact enough for what is tested here."""
    return SimulateSettings(fragment_atoms=64, min_atoms=64, direct_atoms=54, max_atoms=130, samples_per_parent=2)


@pytest.fixture(scope="session")
def silicon() -> Parent:
    return from_folder(packaged_folder() / "Si")


@pytest.fixture(scope="session")
def gallium_arsenide() -> Parent:
    return from_folder(packaged_folder() / "GaAs")


@pytest.fixture(scope="session")
def silicon_bench(silicon: Parent, potential: Potential, small: SimulateSettings) -> Workbench:
    return Workbench(silicon, potential, small)


@pytest.fixture(scope="session")
def arsenide_bench(gallium_arsenide: Parent, potential: Potential, small: SimulateSettings) -> Workbench:
    return Workbench(gallium_arsenide, potential, small)


@pytest.fixture(scope="session")
def phonon_database() -> Path:
    path = Path(__file__).parents[3] / "shared" / "data" / "phonondb_parents.parquet"
    if not path.exists():
        pytest.skip(f"needs the DFT parents (see the README) at {path.relative_to(Path(__file__).parents[3])}")
    return path
