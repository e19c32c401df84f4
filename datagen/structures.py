"""A structure file becomes a parent by way of a potential: relaxed, displaced, forces collected."""

import logging
from pathlib import Path

import ase.io
import numpy as np
import spglib
from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

from datagen.parents import Parent, from_phonopy
from datagen.potentials import Potential, PotentialCalculator
from datagen.supercells import choose_matrix
from defectnet.errors import InputError, PotentialError, SimulationError

__all__ = ["from_atoms", "from_structure", "save_parent"]

_LOG = logging.getLogger(__name__)

# Tight: 0.1 meV/Å left on an atom moves a phonon by less than the finite displacement's own error.
_FORCE_TOLERANCE = 1e-4
_MAX_STEPS = 500
# Room for the force constants of a short-ranged potential to die off on both sides of an atom.
_SUPERCELL_ATOMS = 220


def from_structure(path: str | Path, potential: Potential) -> Parent:
    """Read a CIF, POSCAR or anything else that ASE reads, and compute its force constants with `potential`.

    Raises:
        InputError: the file cannot be read as a crystal.
        PotentialError: the potential does not know an element of it.
        SimulationError: the structure does not come to rest.
    """
    path = Path(path)
    try:
        atoms = ase.io.read(path)
    except Exception as error:  # ASE's readers raise whatever the first bad line leads to
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a structure file ({reason})", fix="give a CIF or POSCAR", field="structure"
        ) from None
    if not isinstance(atoms, Atoms) or not atoms.cell.rank == 3 or not np.isfinite(atoms.positions).all():
        raise InputError(f"{path} holds no three-dimensional crystal", fix="give a CIF or POSCAR", field="structure")
    return from_atoms(atoms, path.stem, potential)


def from_atoms(atoms: Atoms, parent_id: str, potential: Potential) -> Parent:
    """A parent from a crystal structure: cell and atoms relaxed in their space group, symmetry-reduced displacements.

    Raises: as `from_structure`.
    """
    unknown = sorted({symbol for symbol in atoms.get_chemical_symbols() if not potential.knows(symbol)})
    if unknown:
        raise PotentialError(f"{potential.name} does not know {', '.join(unknown)}")
    relaxed = _relax(atoms, parent_id, potential)
    relaxed = _primitive(relaxed)
    unitcell = PhonopyAtoms(
        symbols=relaxed.get_chemical_symbols(), cell=relaxed.cell[:], scaled_positions=relaxed.get_scaled_positions()
    )
    matrix = choose_matrix(relaxed, max(_SUPERCELL_ATOMS, 2 * len(relaxed)))
    # phonopy's matrix holds the supercell's vectors in columns.
    phonons = Phonopy(unitcell, matrix.T, primitive_matrix="P", log_level=0)
    phonons.generate_displacements(distance=0.01)
    cells = [
        Atoms(symbols=cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
        for cell in phonons.supercells_with_displacements
    ]
    phonons.forces = potential.evaluate(cells)[0]
    _LOG.info("%s: %d displacements in %d atoms", parent_id, len(cells), len(cells[0]))
    return from_phonopy(phonons, parent_id)


def _primitive(atoms: Atoms) -> Atoms:
    found = spglib.find_primitive((atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3)
    if found is None:
        return atoms
    cell, positions, numbers = found
    return Atoms(numbers=numbers, cell=cell, scaled_positions=positions, pbc=True)


def _relax(atoms: Atoms, parent_id: str, potential: Potential) -> Atoms:
    relaxed = atoms.copy()
    relaxed.set_constraint(FixSymmetry(relaxed))
    relaxed.calc = PotentialCalculator(potential)
    with LBFGS(FrechetCellFilter(relaxed), logfile=None, maxstep=0.1) as optimizer:
        converged = optimizer.run(fmax=_FORCE_TOLERANCE, steps=_MAX_STEPS)
    relaxed.calc = None
    relaxed.set_constraint()
    if not converged:
        raise SimulationError(f"{parent_id}: cell and atoms did not come to rest in {_MAX_STEPS} steps")
    return relaxed


def save_parent(parent: Parent, folder: str | Path) -> None:
    """Write a parent as a folder that `datagen.parents.from_folder` reads, in phonopy's own format."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"displacements": True, "force_sets": True, "force_constants": False, "born_effective_charge": True}
    parent.phonons.save(folder / "phonopy_params.yaml", settings=contents)
