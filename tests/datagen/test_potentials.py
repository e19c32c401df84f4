"""Naming a potential: what works, and one clear sentence for what does not."""

from typing import ClassVar

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator

from datagen.potentials import AsePotential, Potential, load_potential
from defectnet.errors import PotentialError


def test_any_ase_calculator_by_import_path() -> None:
    argon = bulk("Ar", "fcc", a=5.26, cubic=True) * 2
    argon.rattle(0.05, seed=1)
    potential = load_potential("ase.calculators.lj:LennardJones(sigma=3.4, epsilon=0.0104, rc=6.0)")
    forces, stresses = potential.evaluate([argon, argon])
    assert [block.shape for block in forces] == [(32, 3), (32, 3)]
    assert stresses.shape == (2, 3, 3)
    assert np.abs(forces[0].sum(axis=0)).max() < 1e-9


def test_the_default_gives_forces_and_stress_that_agree(potential: Potential) -> None:
    """The stress is the derivative of the work of the forces: checked by a uniform strain of a strained crystal."""
    silicon = bulk("Si", "diamond", a=5.43, cubic=True) * 2
    pressures = []
    for scale in (0.99, 1.01):
        scaled = silicon.copy()
        scaled.set_cell(silicon.cell * scale, scale_atoms=True)
        pressures.append(-np.trace(potential.evaluate([scaled])[1][0]) / 3)
    bulk_modulus = -(pressures[1] - pressures[0]) / (1.01**3 - 0.99**3) * 160.2177
    assert 80 < bulk_modulus < 110  # GPa; experiment 98


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ("nonsense", "package.module:Calculator"),
        ("nep:/no/such/file.txt", "check the path"),
        ("no_such_package:Thing", "install the package"),
        ("ase.calculators.lj:NoSuchClass", "import path"),
        ("ase.calculators.lj:LennardJones(sigma=__import__('os'))", "cannot be read"),
    ],
)
def test_a_wrong_name_is_one_sentence(spec: str, word: str) -> None:
    with pytest.raises(PotentialError, match=word):
        load_potential(spec)


def test_a_file_that_is_no_model(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("nep_adapters", reason="needs the NEP runtime")
    wrong = tmp_path / "model.txt"
    wrong.write_text("not a potential\n")
    with pytest.raises(PotentialError, match="not a NEP model"):
        load_potential(f"nep:{wrong}")


def test_a_calculator_that_fails_names_the_crystal() -> None:
    class Broken(Calculator):
        implemented_properties: ClassVar = ["forces"]

        def calculate(self, *arguments: object) -> None:
            raise RuntimeError("no")

    with pytest.raises(PotentialError, match="Ar"):
        AsePotential(Broken(), "broken").evaluate([bulk("Ar", "fcc", a=5.26)])
