"""Force constants of doped cells: sum rules, and methods that agree where more than one applies."""

import numpy as np
import pytest

from datagen.dopants import Replacement
from datagen.dos import doped_dos
from datagen.engine import Workbench
from datagen.methods import MethodName
from datagen.parents import Parent
from datagen.potentials import Potential
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.sites import choose_sites, doped_atoms

pytestmark = pytest.mark.physics


def test_sum_rule_survives_doping(silicon_bench: Workbench) -> None:
    cell = silicon_bench.cell(100)
    plan = Plan(((Replacement("Ge", "Si", 1.0, False), 0.05),))
    sites = choose_sites(plan, cell.supercell, np.random.default_rng(0))
    phi, strain = silicon_bench.methods["embedded"].force_constants(cell, sites, plan)
    assert np.abs(phi.reshape(len(phi), -1, 3).sum(axis=1)).max() < 1e-9
    assert phi == pytest.approx(phi.T, abs=1e-9)
    assert strain > 0  # germanium is the larger


def test_the_two_engines_agree_where_both_apply(silicon: Parent, potential: Potential) -> None:
    silicon_bench = Workbench(silicon, potential, SimulateSettings())  # fragments of full size: what is tested here
    cell = silicon_bench.cell(100)
    plan = Plan(((Replacement("Ge", "Si", 1.0, False), 0.03),))
    sites = choose_sites(plan, cell.supercell, np.random.default_rng(4))
    doped = doped_atoms(cell.supercell, sites)
    spectra = {}
    names: tuple[MethodName, ...] = ("embedded", "direct", "masses")
    for name in names:
        phi, _ = silicon_bench.methods[name].force_constants(cell, sites, plan)
        spectra[name] = doped_dos(phi, cell.supercell, doped.numbers, doped.get_masses(), silicon_bench.bins).total
    assert _r2(spectra["embedded"], spectra["direct"]) > 0.99
    assert _r2(spectra["masses"], spectra["direct"]) < _r2(spectra["embedded"], spectra["direct"])


def _r2(prediction: np.ndarray, truth: np.ndarray) -> float:
    return float(1 - ((prediction - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())
