"""From force constants to densities of states."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter1d
from scipy.sparse.linalg import eigsh

from datagen.dynamical import half_mesh
from datagen.parents import Parent, compact_solve, frequencies_thz, shifted_mesh
from datagen.supercells import Supercell
from defectnet.binning import BINS_TO_TOP, IMAGINARY_THZ, SIGMA_BINS
from defectnet.errors import SimulationError
from defectnet.spectrum import MODES_PER_ATOM

__all__ = [
    "HALF_MESH",
    "Bins",
    "ElementDos",
    "cell_dos",
    "chebyshev_dos",
    "choose_bins",
    "corrected",
    "dense_mesh",
    "density_by_element",
    "density_by_site",
    "doped_dos",
    "folded_q",
    "is_solved",
    "mesh_error",
    "pristine_dos",
    "pristine_dos_on_mesh",
]

Array = NDArray[np.float64]

# The 2×2×2 mesh of a supercell with the zone centre: at these q the dynamical matrix is real. Γ alone is not converged
# even at 216 atoms.
HALF_MESH: tuple[tuple[int, int, int], ...] = tuple(product((0, 1), repeat=3))  # type: ignore[arg-type]

# Room above the host's top for the local modes of light dopants, as a factor: hydrogen for caesium needs more than 3.
# Empty bins cost nothing, for they are not stored.
_HEADROOM = 4.0
# Modes of the pristine crystal that are summed: enough that a bin's statistical error is a few per mille.
_DENSE_MODES = 45_000
# L1 distance from the host at which a doped cell no longer shares the host's quadrature error.
_CORRELATION_RANGE = 0.2

# Beyond this many atoms Chebyshev moments are cheaper than solving for the modes, by far (`make bench-simulate`).
_MOST_ATOMS_SOLVED = 1000
# Chebyshev polynomials: enough that Jackson's kernel is narrower than a bin almost everywhere, and the smoothing that
# is then still missing. Two points of the mesh and a few vectors will do, for the host shares the noise.
_MOMENTS = 512
_SIGMA_AFTER = 1.25
_RANDOM_VECTORS = 12
_SPARSE_MESH = ((1, 0, 0), (0, 1, 1))
# Room for imaginary modes, as a share of the highest squared frequency.
_BELOW_ZERO = 0.02


@dataclass(frozen=True)
class Bins:
    """Bins of width `step_thz` from 0 THz."""

    step_thz: float
    n: int


@dataclass(frozen=True, eq=False)
class ElementDos:
    """Partial densities of states of a crystal, by element, in modes per atom of the crystal and THz.

    Attributes:
        partial: element → shape (n_bins,); they sum to the total, which integrates to 3 but for imaginary modes.
        imaginary_weight: share of modes below `IMAGINARY_THZ`.
    """

    partial: dict[str, Array]
    bins: Bins
    imaginary_weight: float

    @property
    def total(self) -> Array:
        return np.sum(list(self.partial.values()), axis=0)


def choose_bins(top_thz: float) -> Bins:
    """Bins for a host with this top frequency: a step of 1, 2 or 5 times a power of ten."""
    wanted = top_thz / BINS_TO_TOP
    decade = 10.0 ** np.floor(np.log10(wanted))
    step = float(decade * max(factor for factor in (1, 2, 5) if factor <= wanted / decade + 1e-9))
    return Bins(round(step, 6), int(np.ceil(_HEADROOM * top_thz / step)))


def _histogram(frequencies: Array, weights: Array, bins: Bins) -> Array:
    """Smoothed density of weighted modes; modes within noise of zero count as zero, imaginary ones not at all."""
    if frequencies.max() >= bins.n * bins.step_thz:
        raise SimulationError(f"a local mode at {frequencies.max():.1f} THz lies beyond the frequency bins")
    real = frequencies >= IMAGINARY_THZ
    index = (np.maximum(frequencies[real], 0.0) / bins.step_thz).astype(int)
    counts = np.bincount(index, weights=weights[real], minlength=bins.n) / bins.step_thz
    return np.asarray(gaussian_filter1d(counts, SIGMA_BINS, mode="reflect", truncate=5.0))


def pristine_dos(parent: Parent, bins: Bins) -> ElementDos:
    """Converged density of states of the pristine host, by element, from a dense mesh with the dipole term."""
    return density_by_element(parent.primitive, *parent.frequencies_and_weights(dense_mesh(parent)), bins)


def density_by_site(parent: Parent, bins: Bins) -> list[Array]:
    """The converged density of each basis atom, 3 modes per atom, from the same mesh as `pristine_dos`."""
    frequencies, weights = parent.frequencies_and_weights(dense_mesh(parent))
    n_q = len(frequencies)
    return [_histogram(frequencies.ravel(), (weights[:, k] / n_q).ravel(), bins) for k in range(len(parent.primitive))]


def dense_mesh(parent: Parent) -> Array:
    """The mesh of the converged density: some 45,000 modes, off the zone centre; shape (n_q, 3)."""
    n = len(parent.primitive)
    lengths = np.linalg.norm(np.linalg.inv(np.asarray(parent.primitive.cell)).T, axis=1)
    density = (_DENSE_MODES / (3 * n) / np.prod(lengths)) ** (1 / 3)
    return shifted_mesh(tuple(np.maximum(np.rint(density * lengths), 2).astype(int)))


def pristine_dos_on_mesh(parent: Parent, compact: Array, supercell: Supercell, bins: Bins) -> ElementDos:
    """The pristine host sampled exactly as a doped cell is: the q-points that fold onto the supercell's 2×2×2 mesh."""
    q, multiplicity = half_mesh(folded_q(supercell))
    return density_by_element(parent.primitive, *compact_solve(compact, supercell, q), bins, multiplicity)


def folded_q(supercell: Supercell) -> Array:
    """The primitive q-points that fold onto the supercell's 2×2×2 mesh, shape (8 n_points, 3)."""
    inverse = np.linalg.inv(supercell.matrix).T
    return np.concatenate([supercell.commensurate_q() + 0.5 * np.array(half) @ inverse for half in HALF_MESH])


def density_by_element(
    primitive: Atoms, frequencies: Array, weights: Array, bins: Bins, multiplicity: Array | None = None
) -> ElementDos:
    """Density of states of a crystal from the modes on a mesh.

    Args:
        primitive: its primitive cell, n atoms.
        frequencies: shape (n_q, 3n), THz, negative where imaginary.
        weights: the share of each atom in each mode, shape (n_q, n, 3n).
        bins: where the modes are counted.
        multiplicity: how many q-points of the mesh each stands for, shape (n_q,); one where not given.
    """
    symbols = np.array(primitive.get_chemical_symbols())
    multiplicity = np.ones(len(frequencies)) if multiplicity is None else multiplicity
    part = multiplicity / multiplicity.sum()
    partial = {}
    for symbol in sorted(set(symbols)):
        share = weights[:, symbols == symbol].sum(axis=1) * part[:, None] / len(symbols)
        partial[str(symbol)] = _histogram(frequencies.ravel(), share.ravel(), bins)
    return ElementDos(partial, bins, float(part @ (frequencies < IMAGINARY_THZ).mean(axis=1)))


def is_solved(supercell: Supercell) -> bool:
    """Whether `cell_dos` solves for the modes of a cell of this size."""
    return supercell.n_atoms <= _MOST_ATOMS_SOLVED


def cell_dos(phi: Array, supercell: Supercell, numbers: NDArray[np.int64], masses: Array, bins: Bins) -> ElementDos:
    """Density of states of a doped cell: `doped_dos`, or for large cells `chebyshev_dos`, which take the same."""
    density = doped_dos if is_solved(supercell) else chebyshev_dos
    return density(phi, supercell, numbers, masses, bins)


def doped_dos(phi: Array, supercell: Supercell, numbers: NDArray[np.int64], masses: Array, bins: Bins) -> ElementDos:
    """Density of states of a doped cell on its 2×2×2 mesh.

    Args:
        phi: full force constants, shape (3 n_atoms, 3 n_atoms), eV/Å².
        supercell: the undistorted cell; its nearest images carry the phases.
        numbers: atomic numbers, shape (n_atoms,), dopants in place.
        masses: shape (n_atoms,), u.
        bins: where the modes are counted.

    Raises:
        SimulationError: a mode lies beyond the last bin.
    """
    n = supercell.n_atoms
    dynamical, symbols = _dynamical(phi, masses), _atoms_of(numbers)
    partial = {symbol: np.zeros(bins.n) for symbol in symbols}
    # Which coordinates are of which element: the shares of all elements in a mode are one product.
    of_element = np.zeros((len(symbols), 3 * n), dtype=np.float32)
    for row, atoms in enumerate(symbols.values()):
        of_element[row].reshape(n, 3)[atoms] = 1.0
    imaginary = 0.0
    for half in HALF_MESH:
        signs = supercell.half_phases(half)
        matrix = (dynamical * signs[:, None, :, None]).reshape(3 * n, 3 * n)
        # Single precision is exact enough for a density of states, and twice as fast.
        values, vectors = eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
        frequencies = frequencies_thz(values)
        shares = of_element @ (vectors * vectors) / (n * len(HALF_MESH))
        imaginary += float((frequencies < IMAGINARY_THZ).mean()) / len(HALF_MESH)
        for symbol, share in zip(symbols, shares, strict=True):
            partial[symbol] += _histogram(frequencies.astype(float), share.astype(float), bins)
    return ElementDos(partial, bins, imaginary)


def _dynamical(phi: Array, masses: Array) -> NDArray[np.float32]:
    """Force constants over the roots of both masses, shape (n_atoms, 3, n_atoms, 3), without phases."""
    n = len(masses)
    root = np.repeat(1.0 / np.sqrt(masses), 3)
    return (phi * root[:, None] * root[None, :]).astype(np.float32).reshape(n, 3, n, 3)


def _atoms_of(numbers: NDArray[np.int64]) -> dict[str, NDArray[np.intp]]:
    """Which atoms are of each element, by symbol."""
    kinds = sorted((chemical_symbols[z], z) for z in np.unique(numbers))
    return {symbol: np.flatnonzero(numbers == z) for symbol, z in kinds}


def chebyshev_dos(
    phi: Array, supercell: Supercell, numbers: NDArray[np.int64], masses: Array, bins: Bins
) -> ElementDos:
    """As `doped_dos`, without solving for the modes: for cells of more than about a thousand atoms.

    The kernel polynomial method (Weiße et al., Rev. Mod. Phys. 78, 275): Chebyshev moments of the dynamical matrix
    between random vectors, or between all vectors of an element with few atoms, with Jackson's kernel. The random
    signs belong to the sites, so that the host and a doped crystal in the same cell share their noise and `corrected`
    takes it out.
    """
    n = supercell.n_atoms
    dynamical, symbols = _dynamical(phi, masses), _atoms_of(numbers)
    field = np.random.default_rng(0).choice(np.array([-1.0, 1.0], dtype=np.float32), (n, 3, _RANDOM_VECTORS))
    starts = {symbol: _starting_vectors(atoms, field) for symbol, atoms in symbols.items()}
    together = np.concatenate([vectors for vectors, _ in starts.values()], axis=1)
    partial = {symbol: np.zeros(bins.n) for symbol in symbols}
    imaginary = 0.0
    for half in _SPARSE_MESH:
        matrix = (dynamical * supercell.half_phases(half)[:, None, :, None]).reshape(3 * n, 3 * n)
        highest = 1.02 * float(eigsh(matrix, k=1, tol=1e-3, return_eigenvectors=False, v0=together[:, 0])[0])
        centre, width = 0.5 * (1 - _BELOW_ZERO) * highest, 0.5 * (1 + _BELOW_ZERO) * highest
        if frequencies_thz(np.array([highest]))[0] >= bins.n * bins.step_thz:
            raise SimulationError("a local mode lies beyond the frequency bins")
        matrix -= centre * np.eye(3 * n, dtype=np.float32)
        matrix /= width
        moments = _chebyshev_moments(matrix, together)
        first = 0
        for symbol, (vectors, factor) in starts.items():
            some = moments[:, first : first + vectors.shape[1]].sum(axis=1) * factor / (n * len(_SPARSE_MESH))
            first += vectors.shape[1]
            density, below = _from_moments(some, centre, width, bins)
            partial[symbol] += density
            imaginary += below / MODES_PER_ATOM
    return ElementDos(partial, bins, imaginary)


def _starting_vectors(atoms: NDArray[np.int64], field: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Vectors, shape (3 n_atoms, m), whose mean square with a matrix times a factor is its trace over `atoms`."""
    n = len(field)
    if 3 * len(atoms) <= field.shape[2]:
        vectors = np.zeros((n, 3, 3 * len(atoms)), dtype=np.float32)
        for column, (atom, axis) in enumerate(product(atoms, range(3))):
            vectors[atom, axis, column] = 1.0
        return vectors.reshape(3 * n, -1), 1.0
    vectors = np.zeros_like(field)
    vectors[atoms] = field[atoms]
    return vectors.reshape(3 * n, -1), 1.0 / field.shape[2]


def _chebyshev_moments(matrix: NDArray[np.float32], start: NDArray[np.float32]) -> Array:
    """Moments v·T_k(matrix)·v for each column v, two for each product, shape (_MOMENTS, m)."""
    before, now = start, matrix @ start
    moments = np.empty((_MOMENTS, start.shape[1]))
    moments[0] = np.einsum("ij,ij->j", start, start)
    moments[1] = np.einsum("ij,ij->j", start, now)
    for k in range(1, _MOMENTS // 2):
        before, now = now, 2.0 * (matrix @ now) - before
        moments[2 * k] = 2 * np.einsum("ij,ij->j", before, before) - moments[0]
        moments[2 * k + 1] = 2 * np.einsum("ij,ij->j", now, before) - moments[1]
    return moments


def _from_moments(moments: Array, centre: float, width: float, bins: Bins) -> tuple[Array, float]:
    """A density in frequency bins, and its integral below zero, from the moments of the squared frequency."""
    m, k = len(moments), np.arange(len(moments))
    angle = np.pi / (m + 1)
    jackson = ((m - k + 1) * np.cos(angle * k) + np.sin(angle * k) / np.tan(angle)) / (m + 1)
    terms = jackson * moments * np.where(k == 0, 1.0, 2.0)
    # The distribution function at the edges of the bins: the integral of T_k(x) / (π √(1 − x²)) is elementary.
    edges = np.arange(bins.n + 1) * bins.step_thz
    squares = (edges / float(frequencies_thz(np.ones(1))[0])) ** 2
    theta = np.arccos(np.clip((squares - centre) / width, -1.0, 1.0))
    below = np.zeros(len(edges))
    for order in range(1, m):
        below -= terms[order] * np.sin(order * theta) / (order * np.pi)
    below += terms[0] * (1 - theta / np.pi)
    density = np.diff(below) / bins.step_thz
    return np.asarray(gaussian_filter1d(density, _SIGMA_AFTER, mode="reflect", truncate=5.0)), max(float(below[0]), 0.0)


def mesh_error(parent: Parent, supercell: Supercell, dense: ElementDos) -> float:
    """How badly a supercell's 2×2×2 mesh samples the pristine host: L1 distance to the converged density, 0 … 2."""
    frequencies = parent.frequencies(folded_q(supercell)).ravel()
    modes = np.full(frequencies.size, MODES_PER_ATOM / frequencies.size)
    return _distance(_histogram(frequencies, modes, dense.bins), dense.total, dense.bins)


def _distance(one: Array, other: Array, bins: Bins) -> float:
    return float(np.abs(one - other).sum() * bins.step_thz / MODES_PER_ATOM)


def corrected(doped: ElementDos, mesh: ElementDos, dense: ElementDos) -> ElementDos:
    """Take the error of the coarse mesh out of a doped density, as far as the doped crystal is still the host.

    The host sampled on the doped cell's own mesh (`mesh`) and densely (`dense`) differ by the error of the quadrature.
    A lightly doped cell shares that error, a heavily doped one does not, so the difference is added with a weight that
    falls from 1 to 0 as the doped density leaves the host's (measured on Si:Ge and MgO:Zn in cells of 128 to 500 atoms:
    the error falls by half at 0.5 %, and nothing is gained beyond 5 %).
    """
    weight = max(0.0, 1.0 - _distance(doped.total, mesh.total, doped.bins) / _CORRELATION_RANGE)
    partial = dict(doped.partial)
    for symbol in mesh.partial:
        if symbol in partial:
            share = weight * doped.partial[symbol].sum() / mesh.partial[symbol].sum()
            partial[symbol] = partial[symbol] + share * (dense.partial[symbol] - mesh.partial[symbol])
    # Where a van Hove peak has moved the correction can overshoot below zero: clip, and give the modes back.
    for symbol, density in partial.items():
        positive = np.maximum(density, 0.0)
        partial[symbol] = positive * (density.sum() / positive.sum())
    return ElementDos(partial, doped.bins, doped.imaginary_weight)
