"""Nequix, phonon-fine-tuned (Koker et al., arXiv:2601.07742, MIT licence), run by torch alone.

The weights are one file, `nequix-oam-1-pft.nqx`: a line of JSON and a sequence of plain numpy arrays. Nothing is
unpickled. The original package needs jax; here are neither it nor its code, only the same function of the atoms.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from datagen.potentials.base import Array
from datagen.potentials.couplings import L_MAX, paths_between
from datagen.potentials.equivariant import Layer, Network, RadialBasis
from defectnet.errors import PotentialError
from defectnet.io.cache import cache_folder

__all__ = ["DEFAULT_MODEL", "NequixPotential", "find_weights", "read_network"]

DEFAULT_MODEL = "nequix-oam-1-pft"
_SOURCE = "https://github.com/atomicarchitects/nequix (folder models)"
_MAX_HEADER_BYTES = 1_000_000
# Points of the table of radial functions (every 0.0015 Å): interpolated to better than single precision.
_TABLE_POINTS = 4097
_SHORTEST_ANGSTROM = 1e-3
# Functions to which the radial functions of all layers are compressed.
_RANK = 64
# Neighbours up to this far (Å) beyond the cutoff are kept, so that the list holds while no atom moves half of it.
_SKIN_ANGSTROM = 0.4
_LISTS_KEPT = 8
# Edges a batch: about 4 kB each.
_EDGES_PER_BATCH = {"cpu": 60_000, "cuda": 1_000_000}


def find_weights(name: str = DEFAULT_MODEL) -> Path:
    """The weights file of a model, in this project's cache or the original package's.

    Raises:
        PotentialError: in neither; says where to get it.
    """
    own = cache_folder() / f"{name}.nqx"
    for path in (own, Path.home() / ".cache" / "nequix" / "models" / f"{name}.nqx"):
        if path.is_file():
            return path
    raise PotentialError(f"`nequix` needs {name}.nqx; get it from {_SOURCE}, put it at {own} or name it: nequix:PATH")


class NequixPotential:
    """Forces and stresses by Nequix, on the processor or a GPU.

    Displaced copies of a cell share one neighbour list and run in batches; nothing is compiled for a shape.
    """

    costly = True  # for `datagen.embedding.compute_fragment`: a call takes 0.1 to 0.2 s for 64 atoms, NEP89's 2 ms

    def __init__(
        self,
        path: str | Path | None = None,
        name: str = "",
        *,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        rank: int = _RANK,
    ) -> None:
        """Load.

        Args:
            path: the weights file; None looks for it (see `find_weights`).
            name: how the potential is called.
            device: "cpu", "cuda", or "auto" for a GPU where there is one.
            dtype: of the network; single precision leaves about 1e-5 eV/Å of noise.
            rank: radial functions after compression.

        Raises:
            PotentialError: no file, or one that is no such network.
        """
        path = find_weights() if path is None else Path(path)
        if not path.is_file():
            raise PotentialError(f"no Nequix weights at {path}; get {DEFAULT_MODEL}.nqx from {_SOURCE}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.name = name or f"nequix:{path.stem}"
        # The version stands for this implementation: raised when its forces change.
        self.fingerprint = f"nequix-1 {hashlib.sha256(path.read_bytes()).hexdigest()}"
        self._device, self._dtype = torch.device(device), dtype
        self._network, numbers = read_network(path, self._device, dtype, rank)
        self._cutoff = self._network.basis.cutoff
        self._species = np.full(120, -1)
        self._species[numbers] = np.arange(len(numbers))
        self._lists: list[_Candidates] = []

    def knows(self, symbol: str) -> bool:
        return bool(self._species[atomic_numbers.get(symbol, 0)] >= 0)

    def evaluate(self, structures: Sequence[Atoms]) -> tuple[list[Array], Array]:
        _, forces, stresses = self.compute(structures)
        return forces, stresses

    def compute(self, structures: Sequence[Atoms]) -> tuple[Array, list[Array], Array]:
        """Energies too, shape (n,), eV, and forces and stresses as `evaluate` gives them.

        Raises:
            PotentialError: an element without weights.
        """
        energies = np.zeros(len(structures))
        forces: list[Array] = []
        stresses = np.zeros((len(structures), 3, 3))
        for start, batch in self._batches(structures):
            found = self._batch(batch)
            stop = start + len(batch)
            energies[start:stop], stresses[start:stop] = found[0], found[2]
            forces += found[1]
        return energies, forces, stresses

    def _batches(self, structures: Sequence[Atoms]) -> Iterator[tuple[int, list["_Neighbours"]]]:
        """Structures one after another until a batch is full, with the place of its first."""
        limit = _EDGES_PER_BATCH[self._device.type]
        batch: list[_Neighbours] = []
        start = edges = 0
        for place, atoms in enumerate(structures):
            one = self._neighbours(atoms)
            if batch and edges + one.senders.size > limit:
                yield start, batch
                batch, start, edges = [], place, 0
            batch.append(one)
            edges += one.senders.size
        if batch:
            yield start, batch

    def _neighbours(self, atoms: Atoms) -> "_Neighbours":
        species = self._species[atoms.numbers]
        if (species < 0).any():
            unknown = sorted({atoms.symbols[i] for i in np.flatnonzero(species < 0)})
            raise PotentialError(f"{self.name} does not know {', '.join(unknown)}")
        for candidates in self._lists:
            if candidates.hold(atoms):
                return candidates.of(atoms, species, self._cutoff)
        self._lists = [_Candidates.around(atoms, self._cutoff + _SKIN_ANGSTROM), *self._lists][:_LISTS_KEPT]
        return self._lists[0].of(atoms, species, self._cutoff)

    def _batch(self, batch: list["_Neighbours"]) -> tuple[Array, list[Array], Array]:
        most = max(one.senders.shape[1] for one in batch)
        starts = np.cumsum([0, *(len(one.senders) for one in batch)])
        n = int(starts[-1])
        senders = np.zeros((n, most), dtype=np.int64)
        vectors = np.zeros((n, most, 3))
        vectors[..., 2] = 2 * self._cutoff  # padding: out of reach
        for one, (start, stop) in zip(batch, pairwise(starts), strict=True):
            width = one.senders.shape[1]
            senders[start:stop] = start
            senders[start:stop, :width] += one.senders
            vectors[start:stop, :width] = one.vectors
        device = self._device
        species = torch.as_tensor(np.concatenate([one.species for one in batch]), device=device)
        sent = torch.as_tensor(senders, device=device)
        # Distances are taken in double precision: rounded positions alone would leave 1e-5 eV/Å.
        energies, gradients = self._network.energies_and_gradients(
            torch.as_tensor(vectors, device=device).to(torch.float64), species, sent
        )
        gradients = gradients.double()
        forces = gradients.sum(1)
        forces.index_add_(0, sent.flatten(), -gradients.flatten(0, 1))
        virials = np.einsum("nea,neb->nab", vectors, gradients.cpu().numpy())
        offsets = self._network.offsets[species].double()
        totals = (energies.double() + offsets).cpu().numpy()
        pushed = forces.cpu().numpy()
        found = [pushed[start:stop] for start, stop in pairwise(starts)]
        summed = np.add.reduceat(virials, starts[:-1])
        volumes = np.array([one.volume for one in batch])[:, None, None]
        stresses = 0.5 * (summed + summed.transpose(0, 2, 1)) / volumes
        return np.add.reduceat(totals, starts[:-1]), found, stresses


@dataclass(frozen=True)
class _Neighbours:
    """Neighbours of one structure's atoms, padded: senders (n, N), vectors to them (n, N, 3) in Å, species (n,)."""

    senders: NDArray[np.int64]
    vectors: Array
    species: NDArray[np.int64]
    volume: float


@dataclass(frozen=True)
class _Candidates:
    """Pairs that may be neighbours while no atom has moved far: first, second and the lattice shift of the second."""

    cell: Array
    positions: Array
    pbc: NDArray[np.bool_]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    shifts: Array
    volume: float

    @staticmethod
    def around(atoms: Atoms, reach: float) -> "_Candidates":
        """All pairs nearer than `reach`, Å, images of an atom itself among them."""
        cell = np.asarray(atoms.cell.complete())
        # Within a folded cell the second atom's image lies no farther than this many cells away.
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        fractions = atoms.positions @ np.linalg.inv(cell)
        folded = np.where(atoms.pbc, np.floor(fractions), 0.0)
        positions = atoms.positions - folded @ cell
        counts = np.where(atoms.pbc, np.ceil(reach / heights), 0).astype(int)
        images = np.stack(np.meshgrid(*(np.arange(-c, c + 1) for c in counts), indexing="ij"), -1).reshape(-1, 3)
        shifted = (positions[None] + (images @ cell)[:, None]).reshape(-1, 3)
        near = np.all(shifted > positions.min(0) - reach, axis=1) & np.all(shifted < positions.max(0) + reach, axis=1)
        chosen = np.flatnonzero(near)
        tree = cKDTree(shifted[chosen])
        found = tree.query_ball_point(positions, reach, return_sorted=True)
        first = np.repeat(np.arange(len(positions)), [len(one) for one in found])
        where = chosen[np.concatenate([np.asarray(one, dtype=np.int64) for one in found])]
        image, second = np.divmod(where, len(positions))
        other = (first != second) | np.any(images[image] != 0, axis=1)
        first, second, image = first[other], second[other], image[other]
        shifts = images[image] + folded[first] - folded[second]
        volume = abs(float(np.linalg.det(cell)))
        return _Candidates(cell, atoms.positions.copy(), atoms.pbc.copy(), first, second, shifts, volume)

    def hold(self, atoms: Atoms) -> bool:
        """Whether all neighbours of `atoms` are among the pairs."""
        if len(atoms) != len(self.positions) or np.any(atoms.pbc != self.pbc):
            return False
        if not np.array_equal(np.asarray(atoms.cell.complete()), self.cell):
            return False
        moved = np.linalg.norm(atoms.positions - self.positions, axis=1)
        return bool(moved.max() < 0.5 * _SKIN_ANGSTROM)

    def of(self, atoms: Atoms, species: NDArray[np.int64], cutoff: float) -> _Neighbours:
        """The pairs that are nearer than `cutoff`, by first atom."""
        vectors = atoms.positions[self.second] - atoms.positions[self.first] + self.shifts @ self.cell
        near = np.einsum("ea,ea->e", vectors, vectors) < cutoff**2
        first, second, vectors = self.first[near], self.second[near], vectors[near]
        counts = np.bincount(first, minlength=len(atoms))
        rank = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        most = max(1, int(counts.max()))
        senders = np.zeros((len(atoms), most), dtype=np.int64)
        padded = np.zeros((len(atoms), most, 3))
        padded[..., 2] = 2 * cutoff
        senders[first, rank] = second
        padded[first, rank] = vectors
        return _Neighbours(senders, padded, species, self.volume)


def read_network(
    path: Path, device: torch.device, dtype: torch.dtype = torch.float32, rank: int = _RANK
) -> tuple[Network, list[int]]:
    """A network from a weights file, and the atomic numbers of its species.

    Raises:
        PotentialError: no such file, or a network of another kind.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline(_MAX_HEADER_BYTES))
            return _network(header, file, device, dtype, rank)
    except PotentialError:
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise PotentialError(f"{path} is not a Nequix weights file ({error}); get one from {_SOURCE}") from None


def _channels(irreps: str) -> list[int]:
    """Channels by order of irreps such as "128x0e + 64x1o + 32x2e + 32x3o"."""
    found = [re.fullmatch(r"(\d+)x(\d)([eo])", part.strip()) for part in irreps.split("+")]
    for order, match in enumerate(found):
        if match is None or int(match[2]) != order or match[3] != "eo"[order % 2]:
            raise PotentialError(f"Nequix with features {irreps}: only 0e + 1o + 2e + 3o in turn can be run")
    return [int(match[1]) for match in found if match]


def _radial_functions(perceptrons: list[list[Array]], cutoff: float, power: float) -> Array:
    """All radial functions of all layers at even distances from 0 to the cutoff, shape (_TABLE_POINTS, n)."""
    distances = np.maximum(np.linspace(0.0, cutoff, _TABLE_POINTS), _SHORTEST_ANGSTROM)[:, None]
    orders = np.arange(1, len(perceptrons[0][0]) + 1) * np.pi / cutoff
    bessel = 2.0 / cutoff * np.sin(orders * distances) / distances
    x, p = distances / cutoff, power
    envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    columns = []
    for weights in perceptrons:
        hidden = bessel * envelope
        for weight in weights[:-1]:
            hidden = hidden @ weight
            hidden = hidden / (1 + np.exp(-hidden))
        columns.append(hidden @ weights[-1])
    return np.hstack(columns)


def _network(
    header: dict[str, Any], file: IO[bytes], device: torch.device, dtype: torch.dtype, rank: int
) -> tuple[Network, list[int]]:
    """A network from its header and the arrays that follow in the file."""
    for key, needed in (("lmax", L_MAX), ("index_weights", False), ("layer_norm", True)):
        if header[key] != needed:
            raise PotentialError(f"Nequix with {key} = {header[key]}: only {key} = {needed} can be run")

    def read(*shape: int) -> Array:
        array = np.lib.format.read_array(file, allow_pickle=False)
        if array.shape != shape:
            raise ValueError(f"an array of shape {array.shape} where {shape} belongs")
        return np.asarray(array, dtype=np.float64)

    def tensor(array: Array) -> torch.Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device).contiguous()

    numbers = sorted(int(number) for number in header["atomic_numbers"])
    n_species, n_layers = len(numbers), int(header["n_layers"])
    hidden = _channels(header["hidden_irreps"])
    width = int(header["radial_mlp_size"])
    sizes = [int(header["radial_basis_size"]), *[width] * int(header["radial_mlp_layers"])]
    atom_energies = read(n_species)
    layers: list[Layer] = []
    perceptrons, embedding, first_skip = [], None, None
    inputs = [n_species]
    for number in range(n_layers):
        outputs = hidden if number < n_layers - 1 else hidden[:1]
        paths = paths_between(inputs, outputs)
        widths = [sum(path.channels for path in paths if path.l3 == order) for order in range(len(outputs))]
        gates = sum(outputs[1:])
        after_sizes = [outputs[0] + gates, *outputs[1:]]
        perceptrons.append([read(*shape) for shape in zip(sizes, [*sizes[1:], sum(widths)], strict=True)])
        # A linear map divides by the root of its inputs, and a sum over neighbours by the root of their mean number.
        before = [read(c, c) / math.sqrt(c) for c in inputs]
        neighbours = math.sqrt(float(header["avg_n_neighbors"]))
        after = [
            read(c_in, c_out) / math.sqrt(c_in) / neighbours for c_in, c_out in zip(widths, after_sizes, strict=True)
        ]
        skip = [read(c_in, c_out) / math.sqrt(c_in) for c_in, c_out in zip(inputs, after_sizes, strict=False)]
        norm = [read(c) for c in after_sizes]
        if number == 0:
            embedding, first_skip = before[0], skip[0]
        tensors = ([tensor(array) for array in arrays] for arrays in (before, after, skip, norm))
        layers.append(Layer(paths, gates, [], *tensors))
        inputs = outputs
    readout = read(inputs[0], 1)[:, 0] / math.sqrt(inputs[0]) * float(header["scale"])
    if embedding is None or first_skip is None:
        raise ValueError("no layers")
    cutoff = float(header["cutoff"])
    basis = RadialBasis(_radial_functions(perceptrons, cutoff, float(header["radial_polynomial_p"])), cutoff, rank)
    for layer, places in zip(layers, _radial_places(layers), strict=True):
        layer.mixing.extend(tensor(basis.mixing[:, begin : begin + count]) for begin, count in places)
    network = Network(
        basis.to(device, dtype),
        tensor(embedding),
        tensor(first_skip),
        layers,
        tensor(readout),
        torch.as_tensor(atom_energies + float(header["shift"]), device=device),
    )
    return network, numbers


def _radial_places(layers: Sequence[Layer]) -> list[list[tuple[int, int]]]:
    """Where the weights of each layer's paths stand among all radial functions: (first column, how many)."""
    found: list[list[tuple[int, int]]] = []
    start = 0
    for layer in layers:
        # Weights of a layer's radial functions run by order out, and within it by path.
        begins = []
        for order in range(L_MAX + 1):
            begins.append(start)
            start += sum(path.channels for path in layer.paths if path.l3 == order)
        found.append([(begins[path.l3] + path.offset, path.channels) for path in layer.paths])
    return found
