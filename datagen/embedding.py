"""What a dopant changes in the force constants, found once in a small cell and laid over every dopant of a large one.

Φ(doped) = Φ_DFT(host) + Σ_sites [Φ_pot(host with one dopant) − Φ_pot(host)] + strain × dΦ_pot(host)/dstrain
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from datagen.force_constants import OneSided, compact_and_even, compact_by_displacement, full_by_displacement
from datagen.parents import IMAGINARY_THZ, Parent, compact_solve
from datagen.potentials import Potential
from datagen.relaxation import Rest, Stiffness, relax, settle, strained
from datagen.supercells import Supercell
from datagen.symmetry import Equivalence, Operations, compact_operations, symmetry_operations
from defectnet.errors import PotentialError, UnstableError

__all__ = [
    "Fragment",
    "PotentialHost",
    "Site",
    "compute_fragment",
    "compute_potential_host",
    "pressure_of",
    "superpose",
]

Array = NDArray[np.float64]

# For the derivative of force constants and pressure by strain: well above noise, well below anharmonic.
_STRAIN_STEP = 0.005
# Of a costly potential: forces left after relaxation, eV/Å; and how far, in distances to the nearest, atoms count as a
# dopant's neighbours, whose anharmonicity is not the host's.
_COARSE = 3e-3
_FIRST_SHELL = 1.3


@dataclass(frozen=True, eq=False)
class PotentialHost:
    """The pristine host as the potential sees it, in the cell in which fragments are computed.

    Attributes:
        supercell: the fragments' cell.
        stiffness: its force constants as the metric of relaxations there.
        offsets: where the basis atoms sit relative to the DFT structure, shape (n_basis, 3), Å. Zero where the
            potential is stable on the DFT structure; else its own positions of rest in the DFT cell.
        residual: forces of the potential there, shape (n_basis, 3), eV/Å; subtracted everywhere.
        compact: compact force constants, eV/Å².
        compact_per_strain: their derivative by linear isotropic strain.
        pressure: mean pressure there, eV/Å³; subtracted everywhere.
        pressure_per_strain: its derivative by linear isotropic strain, −3 times the bulk modulus.
        even: even part of the forces of displaced atoms, shape of `compact`, eV/Å (see `compact_and_even`).
    """

    supercell: Supercell
    stiffness: Stiffness
    offsets: Array
    residual: Array
    compact: Array
    compact_per_strain: Array
    pressure: float
    pressure_per_strain: float
    even: Array

    def atoms_in(self, supercell: Supercell) -> Atoms:
        """Any supercell of the pristine host with the atoms where the potential is asked about it."""
        return _shifted(supercell, self.offsets)

    def residual_in(self, supercell: Supercell) -> Array:
        """The residual forces on every atom of a supercell, shape (n_atoms, 3), eV/Å."""
        return np.tile(self.residual, (supercell.n_points, 1))


@dataclass(frozen=True, eq=False)
class Fragment:
    """The change that one dopant makes.

    Attributes:
        element: the dopant.
        basis: the basis atom whose site it takes, in the cell at the origin.
        change: change of the full force constants of the fragments' cell, shape (3 n_atoms, 3 n_atoms), eV/Å².
        strain_per_fraction: linear strain of the crystal for each unit of the dopant's share of all atoms.
        force_calls: structures of which forces were asked.
        seconds: what it cost.
    """

    element: str
    basis: int
    change: NDArray[np.float32]
    strain_per_fraction: float
    force_calls: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, order=True)
class Site:
    """A dopant on a site of a large cell: the index of the lattice point, the basis atom, and the element."""

    point: int
    basis: int
    element: str


def pressure_of(stress: Array) -> float:
    """Mean pressure, eV/Å³, of a stress tensor that is positive under tension."""
    return -float(np.trace(stress)) / 3.0


def compute_potential_host(
    parent: Parent, potential: Potential, supercell: Supercell, max_imaginary: float
) -> PotentialHost:
    """Ask the potential about the pristine host, at its own positions of rest if it fails the gate at DFT's.

    Raises:
        PotentialError: an element that the potential does not know, or forces that are not finite.
        UnstableError: more imaginary modes than `max_imaginary` at both: its gate.
    """
    unknown = [symbol for symbol in parent.host.elements if not potential.knows(symbol)]
    if unknown:
        raise PotentialError(f"{potential.name} does not know {', '.join(unknown)}")
    offsets = np.zeros((supercell.n_basis, 3))
    operations = compact_operations(supercell)
    compact, even, imaginary = _host_constants(potential, supercell, offsets, operations)
    if imaginary > max_imaginary:
        # A third of the hosts that fail on the DFT structure are stable at the potential's own positions of rest.
        rest = relax(supercell.atoms, potential, np.zeros((supercell.n_atoms, 3)))
        moved = (rest.positions - supercell.atoms.positions).reshape(supercell.n_points, -1, 3)
        offsets = moved.mean(axis=0)
        compact, even, imaginary = _host_constants(potential, supercell, offsets, operations)
        if imaginary > max_imaginary:
            raise UnstableError(f"{parent.parent_id}: {potential.name} fails its gate on the pristine host")
    atoms = _shifted(supercell, offsets)
    forces, stresses = potential.evaluate([atoms])
    residual = forces[0].reshape(supercell.n_points, -1, 3).mean(axis=0)
    stiffness = Stiffness(supercell.expand(compact))
    everywhere = np.tile(residual, (supercell.n_points, 1))
    at_strain, pressures = [], []
    for strain in (_STRAIN_STEP, -_STRAIN_STEP):
        scaled = settle(strained(atoms, strain), potential, everywhere, stiffness)
        at_strain.append(compact_by_displacement(supercell, scaled.atoms, potential, operations))
        pressures.append(pressure_of(scaled.stress))
    return PotentialHost(
        supercell=supercell,
        stiffness=stiffness,
        offsets=offsets,
        residual=residual,
        compact=compact,
        compact_per_strain=(at_strain[0] - at_strain[1]) / (2 * _STRAIN_STEP),
        pressure=pressure_of(stresses[0]),
        pressure_per_strain=(pressures[0] - pressures[1]) / (2 * _STRAIN_STEP),
        even=even,
    )


def _shifted(supercell: Supercell, offsets: Array) -> Atoms:
    atoms = supercell.atoms.copy()
    atoms.positions += np.tile(offsets, (supercell.n_points, 1))
    return atoms


def _host_constants(
    potential: Potential, supercell: Supercell, offsets: Array, operations: Operations
) -> tuple[Array, Array, float]:
    compact, even = compact_and_even(supercell, _shifted(supercell, offsets), potential, operations)
    if not np.isfinite(compact).all():
        raise PotentialError(f"{supercell.atoms.get_chemical_formula()}: {potential.name} gives forces not finite")
    frequencies, _ = compact_solve(compact, supercell, supercell.commensurate_q())
    return compact, even, float((frequencies < IMAGINARY_THZ).mean())


class _Counted:
    """A potential that counts the structures it is asked about."""

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self.name, self.fingerprint = potential.name, potential.fingerprint
        self.calls = 0

    def knows(self, symbol: str) -> bool:
        return self._potential.knows(symbol)

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Array], Array]:
        self.calls += len(structures)
        return self._potential.evaluate(structures)


def compute_fragment(
    host: PotentialHost, potential: Potential, basis: int, element: str, *, thrifty: bool | None = None
) -> Fragment:
    """Put one dopant on a site of the fragments' cell, relax it and take the change of the force constants.

    Args:
        host: the potential's view of the host.
        potential: the same potential.
        basis: the basis atom whose site the dopant takes, in the cell at the origin.
        element: the dopant.
        thrifty: displace atoms beyond the dopant's nearest neighbours to one side only, and take the host's
            anharmonicity off: a third fewer force calls. None leaves it to the potential (its attribute `costly`).

    Raises:
        SimulationError: the potential does not know the element, or the atoms do not come to rest.
    """
    if not potential.knows(element):
        raise PotentialError(f"{potential.name} does not know {element}")
    started = time.perf_counter()
    counted = _Counted(potential)
    thrifty = bool(getattr(potential, "costly", False)) if thrifty is None else thrifty
    doped = host.atoms_in(host.supercell)
    doped.symbols[basis] = element
    operations = symmetry_operations(doped)
    rest = settle(
        doped, counted, host.residual_in(host.supercell), host.stiffness, **({"tolerance": _COARSE} if thrifty else {})
    )
    one_sided = _one_sided(host, rest, basis) if thrifty else None
    doped_phi = full_by_displacement(rest.atoms, counted, operations, one_sided=one_sided)
    excess = pressure_of(rest.stress) - host.pressure
    strain = -excess / host.pressure_per_strain if host.pressure_per_strain < 0 else 0.0
    change = doped_phi - host.supercell.expand(host.compact)
    return Fragment(
        element=element,
        basis=basis,
        change=(0.5 * (change + change.T)).astype(np.float32),  # to the last digit: half of it is kept on disk
        strain_per_fraction=strain * host.supercell.n_atoms,
        force_calls=counted.calls,
        seconds=time.perf_counter() - started,
    )


def _one_sided(host: PotentialHost, rest: Rest, basis: int) -> OneSided:
    supercell = host.supercell
    n = supercell.n_atoms
    even = supercell.expand(host.even).reshape(n, 3, n, 3)
    distances = supercell.atoms.get_distances(basis, np.arange(n), mic=True)
    nearest = np.partition(distances, 1)[1] if n > 1 else 0.0
    return OneSided(rest.forces, even, distances <= _FIRST_SHELL * nearest)


def place(fragment: Fragment, source: Supercell, target: Supercell, equivalence: Equivalence) -> NDArray[np.float32]:
    """The fragment's change in another cell, turned by `equivalence` onto its basis atom in the cell at the origin.

    Atoms go to their nearest image from the dopant, and from there each pair to its nearest image; equally near images
    share. Nothing is cut off, so that each atom's row still sums to zero.
    """
    n, n_basis = source.n_atoms, source.n_basis
    vectors, weights = source.nearest_images
    home = vectors[fragment.basis, :, :, 0]  # (L, k, 3): nearest image of each atom from the dopant
    pair = source.differences
    # (L1, k1, L2, k2, m): where the second atom of each pair lies
    relative = vectors[:, pair].transpose(1, 0, 2, 3, 4, 5)
    share = weights[:, pair].transpose(1, 0, 2, 3, 4)
    shifts = equivalence.shifts - equivalence.shifts[fragment.basis]
    seconds = (home[:, :, None, None, None, :] + relative) @ equivalence.turn + shifts[:, None, :]
    columns = target.index_of(seconds) * n_basis + equivalence.images[:, None]
    columns = columns.reshape(n, n, -1)
    share = share.reshape(n, n, -1)
    rows = (target.index_of(home @ equivalence.turn + shifts) * n_basis + equivalence.images).reshape(n)
    flat = (rows[:, None, None] * target.n_atoms + columns).ravel()
    turn = equivalence.rotation
    blocks = np.einsum("xa,iajb,yb->ixjy", turn, fragment.change.reshape(n, 3, n, 3), turn, optimize=True)
    placed = np.empty((target.n_atoms, 3, target.n_atoms, 3), dtype=np.float32)
    for a in range(3):
        for b in range(3):
            spread = (share * blocks[:, a, :, b][:, :, None]).ravel()
            total = np.bincount(flat, weights=spread, minlength=target.n_atoms**2)
            placed[:, a, :, b] = total.reshape(target.n_atoms, target.n_atoms)
    return placed.reshape(3 * target.n_atoms, 3 * target.n_atoms)


def superpose(
    host: PotentialHost,
    fragments: dict[tuple[int, str], Fragment],
    sites: Sequence[Site],
    target: Supercell,
    equivalences: Sequence[Equivalence],
) -> tuple[Array, float]:
    """What dopants change in the force constants of the cell `target`.

    Args:
        host: the potential's view of the host.
        fragments: by (representative basis atom, element), every kind of dopant among `sites`.
        sites: the dopants.
        target: the large cell.
        equivalences: for each basis atom, how its representative is carried onto it.

    Returns:
        change of the full force constants, shape (3 n_atoms, 3 n_atoms), eV/Å², and the linear strain.
    """

    def fragment_of(basis: int, element: str) -> Fragment:
        return fragments[equivalences[basis].representative, element]

    strain = sum(fragment_of(site.basis, site.element).strain_per_fraction for site in sites) / target.n_atoms
    phi = target.expand(strain * host.supercell.transfer(host.compact_per_strain, target))
    for kind in sorted({(site.basis, site.element) for site in sites}):
        placed = place(fragment_of(*kind), host.supercell, target, equivalences[kind[0]])
        for site in sites:
            if (site.basis, site.element) != kind:
                continue
            moved = target.index_of(target.points + target.points[site.point])
            order = (moved[:, None] * target.n_basis + np.arange(target.n_basis)).ravel()
            components = (order[:, None] * 3 + np.arange(3)).ravel()
            phi[np.ix_(components, components)] += placed
    return 0.5 * (phi + phi.T), float(strain)
