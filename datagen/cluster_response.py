"""The response of a host to one dopant alone, exact for a change of the mass and of the nearest bonds.

Where `datagen.responses` fills a supercell with dopants, this solves for one in an infinite crystal by the Green's
function of the host on the cluster of the site and its bonded neighbours (Maradudin, Montroll, Weiss and Ipatova,
*Theory of lattice dynamics in the harmonic approximation*, 1971, chapter VIII). With λ = ω², the host's masses M and
force constants Φ, G = (λ M − Φ)⁻¹, and a dopant V = λ δM − δΦ that is not zero on the cluster alone:

    Δρ(λ) = −Im Tr[(1 + G V)⁻¹ d(G V)/dλ] / π        G' = (1 + G V)⁻¹ G

It costs some ten milliseconds an element where a supercell costs a quarter of a second for each concentration, and has
no noise of configurations; but it holds for dilute dopants only.

Shapes: d = 3 (1 + bonded neighbours), E frequencies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from datagen.dos import Bins, ElementDos, dense_mesh
from datagen.parents import Parent, frequencies_thz
from datagen.springs import cell_of_bonds, length_key
from datagen.symmetry import equivalent_sites
from defectnet.errors import CompositionError
from defectnet.neutron import neutron_weight
from defectnet.spectrum import MODES_PER_ATOM

__all__ = ["Cluster", "DiluteResponse", "clusters_of", "dilute_response"]

Array = NDArray[np.float64]

# Width of the poles in bins: broad enough that a local mode's area is right to 2 % when it is sampled once a bin.
_POLE_BINS = 0.8
# Smoothing of the host's spectral functions, bins (sigma): the mesh is fine enough for that.
_SIGMA_BINS = 0.7
# Room above the highest frequency that a dopant can have, as a factor.
_ROOM = 1.15
# eV/Å²/u in THz².
_THZ2 = float(frequencies_thz(np.ones(1))[0]) ** 2


@dataclass(frozen=True, eq=False)
class DiluteResponse:
    """The change that one dopant atom makes.

    Attributes:
        change: shape (n,), of the normalised density (3 modes an atom), for each unit of concentration, modes per THz.
        change_neutron: the same of the neutron-weighted density; None where a cross-section is not tabulated.
    """

    change: Array
    change_neutron: Array | None


@dataclass(frozen=True, eq=False)
class Cluster:
    """One site of a host and its bonded neighbours.

    Attributes:
        element: of the site.
        count: equivalent sites in the primitive cell.
        atoms: shape (1 + z,), basis atoms: the site, then the neighbours.
        blocks: shape (z, 3, 3), force constants between the site and each neighbour, eV/Å².
        keys: (neighbour, length) of each bond, as `Springs.scales` names it.
        green: shape (E, d, d), G at the middle of each bin, in 1/(u THz²).
        green_slope: shape (E, d, d), its derivative by λ.
        squares: shape (E,), λ = ω² with the poles' width, THz².
    """

    element: str
    count: int
    atoms: NDArray[np.int64]
    blocks: Array
    keys: tuple[tuple[str, int], ...]
    green: NDArray[np.complex128]
    green_slope: NDArray[np.complex128]
    squares: NDArray[np.complex128]


def clusters_of(parent: Parent, bins: Bins) -> list[Cluster]:
    """The clusters around each kind of site of a host, with their Green's functions on `bins`."""
    cell = cell_of_bonds(parent)
    compact = parent.compact_force_constants(cell)
    (images, weights), lengths = cell.nearest_images, cell.neighbours[1]
    symbols = parent.primitive.get_chemical_symbols()
    representatives = [one.representative for one in equivalent_sites(parent.primitive)]
    q = dense_mesh(parent)
    values, vectors = np.linalg.eigh(parent.dynamical_matrices(q))
    frequencies = frequencies_thz(values)
    found = []
    for basis in sorted(set(representatives)):
        near = np.argwhere(cell.bonded[basis])
        cells = np.array([[0, 0, 0], *(images[basis, point, other, image] for point, other, image in near)])
        atoms = np.array([basis, *near[:, 1]])
        # A neighbour that is met through several equally near images shares its force constants between them.
        shares = np.array([weights[basis, point, other, image] for point, other, image in near])
        blocks = np.array([compact[basis, :, point, other, :] for point, other, _ in near]) * shares[:, None, None]
        green, slope, squares = _green(parent, q, frequencies, vectors, atoms, cells, bins)
        found.append(
            Cluster(
                element=symbols[basis],
                count=representatives.count(basis),
                atoms=atoms,
                blocks=0.5 * (blocks + blocks.transpose(0, 2, 1)),
                keys=tuple((symbols[o], length_key(float(lengths[basis, p, o, m]))) for p, o, m in near),
                green=green,
                green_slope=slope,
                squares=squares,
            )
        )
    return found


def _green(
    parent: Parent,
    q: Array,
    frequencies: Array,
    vectors: NDArray[np.complex128],
    atoms: NDArray[np.int64],
    cells: NDArray[np.int64],
    bins: Bins,
) -> tuple[NDArray[np.complex128], NDArray[np.complex128], NDArray[np.complex128]]:
    """G and its slope on the cluster from all modes of a mesh."""
    n = len(parent.primitive)
    d = 3 * len(atoms)
    places = cells + parent.primitive.get_scaled_positions(wrap=False)[atoms]
    phases = np.exp(2j * np.pi * q @ places.T)  # (n_q, 1 + z)
    roots = np.sqrt(parent.primitive.get_masses()[atoms])
    seen = vectors.reshape(len(q), n, 3, -1)[:, atoms] * (phases / roots)[:, :, None, None]  # (n_q, 1 + z, 3, 3n)
    seen = seen.reshape(len(q), d, -1).transpose(0, 2, 1).reshape(-1, d)  # (modes, d)
    index = np.clip((np.maximum(frequencies.ravel(), 0.0) / bins.step_thz).astype(int), 0, bins.n - 1)
    order = np.argsort(index, kind="stable")
    edges = np.searchsorted(index[order], np.arange(bins.n + 1))
    last = int(index.max()) + 1
    spectral = np.zeros((last, d, d))
    for number in range(last):
        some = seen[order[edges[number] : edges[number + 1]]]
        spectral[number] = some.real.T @ some.real + some.imag.T @ some.imag
    spectral = gaussian_filter1d(spectral / len(q), _SIGMA_BINS, axis=0, mode="constant")
    middle = (np.arange(bins.n) + 0.5) * bins.step_thz
    root = (middle + 1j * _POLE_BINS * bins.step_thz)[:, None]
    border = (np.arange(last + 1) * bins.step_thz)[None, :]
    # ∫ dw / (z² − w²) and ∫ dw / (z² − w²)² over each bin: sampled at its middle, poles this narrow would ring.
    logarithm = np.log((root + border) / (root - border))
    kernel = np.diff(logarithm / (2 * root), axis=1) / bins.step_thz
    slope = border / (2 * root**2 * (root**2 - border**2)) + logarithm / (4 * root**3)
    slope = np.diff(slope, axis=1) / bins.step_thz
    flat = spectral.reshape(last, -1)
    green, green_slope = ((part @ flat).reshape(-1, d, d) for part in (kernel, -slope))
    return green.astype(np.complex128), green_slope.astype(np.complex128), root[:, 0].astype(np.complex128) ** 2


def dilute_response(
    cluster: Cluster, parent: Parent, density: ElementDos, dopant: str, scales: Mapping[tuple[str, int], float]
) -> DiluteResponse:
    """The response to one dopant.

    Args:
        cluster: its site.
        parent, density: the pristine host and its converged density, on the bins of the cluster.
        dopant: its element.
        scales: of its bonds, as `Springs.scales` gives them; 1 where not named.
    """
    masses = parent.primitive.get_masses()[cluster.atoms]
    d = 3 * len(cluster.atoms)
    mass = np.zeros((d, d))
    mass[:3, :3] = (atomic_masses[atomic_numbers[dopant]] - masses[0]) * np.eye(3)
    used = _used_bins(density, masses[0] + mass[0, 0], masses[0], scales)
    green, green_slope = cluster.green[:used], cluster.green_slope[:used]
    constants = np.zeros((d, d))
    for number, (key, block) in enumerate(zip(cluster.keys, cluster.blocks, strict=True)):
        change = (scales.get(key, 1.0) - 1.0) * block
        own, other = slice(0, 3), slice(3 + 3 * number, 6 + 3 * number)
        constants[own, other] += change
        constants[other, own] += change
        constants[own, own] -= change
        constants[other, other] -= change
    defect = cluster.squares[:used, None, None] * mass - constants * _THZ2  # (E, d, d)
    inverse = np.linalg.inv(np.eye(d) + green @ defect)
    slope = green_slope @ defect + green @ mass
    double = 2.0 * (np.arange(used) + 0.5) * density.bins.step_thz / np.pi  # dλ/dω / π
    total = -double * np.einsum("eij,eji->e", inverse, slope).imag
    # The atoms of the cluster, each by itself; what is left is spread over the crystal as its modes are.
    atoms = np.arange(d).reshape(-1, 3)
    before = -double[:, None] * masses * green[:, atoms, atoms].sum(axis=2).imag  # (E, 1 + z)
    own = masses.copy()
    own[0] += mass[0, 0]
    after = -double[:, None] * own * (inverse @ green)[:, atoms, atoms].sum(axis=2).imag
    beyond = (0, density.bins.n - used)
    total, before, after = np.pad(total, beyond), np.pad(before, (beyond, (0, 0))), np.pad(after, (beyond, (0, 0)))
    partial = {symbol: np.zeros_like(total) for symbol in density.partial}
    symbols = np.array(parent.primitive.get_chemical_symbols())[cluster.atoms]
    for number, symbol in enumerate(symbols):
        partial[symbol] += -before[:, 0] if number == 0 else after[:, number] - before[:, number]
    left = total - after[:, 0] - sum(partial.values())
    whole = np.maximum(density.total, 1e-6 * density.total.max())
    for symbol, share in density.partial.items():
        partial[symbol] += left * share / whole
    partial[dopant] = partial.get(dopant, 0.0) + after[:, 0]
    return DiluteResponse(total, _as_neutrons_see(partial, density, dopant, cluster.element))


def _used_bins(density: ElementDos, mass: float, replaced: float, scales: Mapping[tuple[str, int], float]) -> int:
    """Bins up to where a local mode can lie: no frequency rises by more than the stiffest bond and lost mass say."""
    stiffer = max(1.0, *scales.values()) if scales else 1.0
    top = int(np.flatnonzero(density.total > 0)[-1]) + 1
    return min(density.bins.n, int(_ROOM * top * np.sqrt(stiffer / min(1.0, mass / replaced))) + 1)


def _as_neutrons_see(partial: dict[str, Array], density: ElementDos, dopant: str, replaced: str) -> Array | None:
    """The change of the weighted and normalised density, to first order in the concentration."""
    try:
        weights = {symbol: neutron_weight(symbol) for symbol in {*partial, *density.partial}}
    except CompositionError:
        return None
    changed = np.sum([weights[symbol] * values for symbol, values in partial.items()], axis=0)
    pristine = np.sum([weights[symbol] * values for symbol, values in density.partial.items()], axis=0)
    integral = float(pristine.sum()) * density.bins.step_thz
    gained = MODES_PER_ATOM * (weights[dopant] - weights[replaced])
    return np.asarray(MODES_PER_ATOM * (changed - pristine * gained / integral) / integral)
