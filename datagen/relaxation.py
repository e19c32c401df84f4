"""Atoms brought to rest against a DFT reference.

The DFT structure of the host is the reference: a potential's own residual forces and stress there are subtracted
everywhere, so that the pristine host is exactly at rest and only what a dopant changes moves the atoms.
"""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from datagen.potentials import Potential
from defectnet.errors import SimulationError

__all__ = ["Rest", "Stiffness", "relax", "settle", "strained"]

Array = NDArray[np.float64]

# Forces left after relaxation: with usual third derivatives they change a force constant by a part in a thousand.
_FORCE_TOLERANCE = 2e-3
_MAX_STEPS = 120
_MAX_STEP_ANGSTROM = 0.15
_HISTORY = 30
# eV/Å²: tried in turn until the stiffness is positive definite.
_STIFFNESS_FLOORS = (0.5, 2.0, 8.0)
_PLAIN_STIFFNESS = 30.0
# Beyond this a substitution is a reconstruction: the harmonic picture around the host's sites no longer holds.
_MAX_MOVE_ANGSTROM = 1.0


class Stiffness:
    """What a displacement of every atom costs to second order: the metric in which `relax` takes its steps.

    Steps through the pristine host's force constants need some 5 to 20 forces where steps along the forces alone
    need 30 to 120 (Si:Ge, Si:C, MgO:Ca, ZnS:Cd, AlAs:In, TiO2:Zr in 120 atoms).
    """

    def __init__(self, phi: Array | None = None) -> None:
        self._factor = None  # the same stiffness for every displacement
        # Acoustic modes cost nothing and soft ones little; the floor keeps steps along them short.
        if phi is None:
            return
        for floor in _STIFFNESS_FLOORS:
            try:
                self._factor = cho_factor(phi + floor * np.eye(len(phi)), overwrite_a=True, check_finite=False)
                break
            except np.linalg.LinAlgError:
                continue

    def step(self, gradient: Array) -> Array:
        """The displacement, shape (3 n_atoms,), Å, that answers a gradient in eV/Å."""
        if self._factor is None:
            return gradient / _PLAIN_STIFFNESS
        return np.asarray(cho_solve(self._factor, gradient, check_finite=False))


@dataclass(frozen=True, eq=False)
class Rest:
    """A structure at rest: its atoms, the potential's forces there, (n_atoms, 3) in eV/Å, and stress in eV/Å³."""

    atoms: Atoms
    forces: Array
    stress: Array


def relax(atoms: Atoms, potential: Potential, residual: Array, stiffness: Stiffness | None = None) -> Atoms:
    """The atoms of `settle`."""
    return settle(atoms, potential, residual, stiffness).atoms


def settle(
    atoms: Atoms,
    potential: Potential,
    residual: Array,
    stiffness: Stiffness | None = None,
    tolerance: float = _FORCE_TOLERANCE,
) -> Rest:
    """Positions at which the potential's forces equal `residual`, shape (n_atoms, 3) in eV/Å; the cell is kept.

    A limited-memory quasi-Newton method (Nocedal, Math. Comput. 35, 773) that starts from `stiffness` and ends when no
    atom's force is farther than `tolerance`, eV/Å, from its residual.

    Raises:
        SimulationError: not converged, or an atom moved farther than a defect's neighbour ever does.
    """
    name = atoms.get_chemical_formula()
    stiffness = stiffness or Stiffness()
    moved = atoms.copy()
    history: list[tuple[Array, Array]] = []
    last: tuple[Array, Array] | None = None
    for _ in range(_MAX_STEPS):
        forces, stresses = potential.evaluate([moved])
        gradient = (residual - forces[0]).ravel()
        if not np.isfinite(gradient).all():
            break
        if np.linalg.norm(gradient.reshape(-1, 3), axis=1).max() < tolerance:
            if np.linalg.norm(moved.positions - atoms.positions, axis=1).max() > _MAX_MOVE_ANGSTROM:
                raise SimulationError(f"{name}: an atom left its site")
            return Rest(moved, forces[0], stresses[0])
        if last is not None:
            change = gradient - last[1]
            if last[0] @ change > 0:
                history = [*history[1 - _HISTORY :], (last[0], change)]
        step = -_quasi_newton(gradient, history, stiffness)
        longest = float(np.linalg.norm(step.reshape(-1, 3), axis=1).max())
        step *= min(1.0, _MAX_STEP_ANGSTROM / longest)
        moved.positions += step.reshape(-1, 3)
        last = (step, gradient)
    raise SimulationError(f"{name}: atoms did not come to rest in {_MAX_STEPS} steps")


def _quasi_newton(gradient: Array, history: list[tuple[Array, Array]], stiffness: Stiffness) -> Array:
    """The two-loop recursion: the inverse Hessian, as far as the history of steps tells, times the gradient."""
    q = gradient.copy()
    weights = []
    for step, change in reversed(history):
        weights.append(step @ q / (change @ step))
        q -= weights[-1] * change
    z = stiffness.step(q)
    for (step, change), weight in zip(history, reversed(weights), strict=True):
        z += (weight - change @ z / (change @ step)) * step
    return z


def strained(atoms: Atoms, strain: float) -> Atoms:
    """A copy scaled by 1 + `strain` in all directions."""
    scaled = atoms.copy()
    scaled.set_cell(np.asarray(atoms.cell) * (1 + strain), scale_atoms=True)
    return scaled
