"""Parents: pristine crystals with their force constants, from which doped ones are made."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase import Atoms
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.file_IO import parse_BORN_from_strings, parse_FORCE_SETS_from_strings
from phonopy.interface.vasp import read_vasp_from_strings
from phonopy.physical_units import get_physical_units

from datagen.dynamical import DynamicalMatrices, LatticeSum
from datagen.supercells import Supercell, symmetrise_compact
from defectnet.binning import IMAGINARY_THZ
from defectnet.errors import InputError, SimulationError, TableError
from defectnet.host import Host
from defectnet.io.storage import Location, reason
from defectnet.readers import load_phonopy

__all__ = [
    "IMAGINARY_THZ",
    "Parent",
    "compact_solve",
    "frequencies_thz",
    "from_file",
    "from_folder",
    "from_phonopy",
    "from_row",
    "is_table",
    "list_parents",
    "load_parents",
    "packaged_folder",
    "parent_columns",
    "read_parents",
    "shifted_mesh",
]

Array = NDArray[np.float64]

_UNITS = get_physical_units()
# Names of a phonopy calculation's file, the one that holds most first.
_CALCULATIONS = ("phonopy_params.yaml", "phonopy_params.yaml.xz", "phonopy.yaml", "phonopy_disp.yaml")
# Gonze and Lee's dipole term is exact away from q = 0; exactly there it has no direction, so meshes avoid the point.
_NAC_FACTOR = _UNITS.Hartree * _UNITS.Bohr


@dataclass(frozen=True, eq=False)
class Parent:
    """A pristine crystal.

    Attributes:
        parent_id: unique name, such as "mp-149".
        host: its composition.
        primitive: the primitive cell, Å.
        phonons: phonopy's object with symmetrised force constants and, where known, Born charges.
    """

    parent_id: str
    host: Host
    primitive: Atoms
    phonons: Phonopy

    def frequencies_and_weights(self, q: Array) -> tuple[Array, Array]:
        """Frequencies in THz and the share of each basis atom in each mode.

        Args:
            q: shape (n_q, 3), units of the primitive reciprocal vectors.

        Returns:
            frequencies, shape (n_q, 3n), negative where imaginary; weights, shape (n_q, n, 3n), summing to 1 over n.
        """
        return _solve(self.dynamical_matrices(q), len(self.primitive))

    def frequencies(self, q: Array) -> Array:
        """Frequencies alone, as `frequencies_and_weights` gives them, at half the cost."""
        return frequencies_thz(np.asarray(np.linalg.eigvalsh(self.dynamical_matrices(q)), dtype=np.float64))

    @cached_property
    def _dynamical(self) -> DynamicalMatrices:
        return DynamicalMatrices(self.phonons.dynamical_matrix)

    def dynamical_matrices(self, q: Array) -> NDArray[np.complex128]:
        """Dynamical matrices in phonopy's convention (eV/Å²/u, Gonze–Lee where Born charges are known)."""
        return self._dynamical.at(q)

    def compact_force_constants(self, supercell: Supercell) -> Array:
        """DFT force constants of the pristine crystal in any supercell, by way of D(q) at its commensurate q-points.

        The long-range dipole part enters through D(q), so the constants of a large cell hold it up to the cell's size.

        Returns:
            shape (n, 3, n_points, n, 3), eV/Å², symmetric, obeying the acoustic sum rule.
        """
        n = len(self.primitive)
        q = supercell.commensurate_q()
        matrices = self.dynamical_matrices(q).reshape(len(q), n, 3, n, 3)
        masses = self.primitive.get_masses()
        matrices = matrices * np.sqrt(masses[:, None] * masses[None, :])[None, :, None, :, None]
        # phonopy's phases run over atoms' positions: D_kk'(q) = Σ_L Φ exp(2πi q·(L + r_k' - r_k)).
        positions = self.primitive.get_scaled_positions(wrap=False)
        offset = positions[None, :, :] - positions[:, None, :]
        matrices = matrices * np.exp(-2j * np.pi * np.einsum("qx,ijx->qij", q, offset))[:, :, None, :, None]
        # The real part of the sum over exp(−2πi q·L).
        angle = 2 * np.pi * (q @ supercell.points.T)  # (q, L)
        flat = matrices.reshape(len(q), -1)
        compact = (np.cos(angle).T @ flat.real + np.sin(angle).T @ flat.imag) / len(q)
        compact = compact.reshape(supercell.n_points, n, 3, n, 3).transpose(1, 2, 0, 3, 4)
        return symmetrise_compact(compact, supercell)

    def lowest_thz(self) -> float:
        """Lowest frequency on a coarse mesh shifted off the zone centre, negative where imaginary."""
        return float(self.frequencies(shifted_mesh((4, 4, 4))).min())

    def top_thz(self) -> float:
        """Highest frequency, with longitudinal modes at the zone centre approached along the three axes."""
        near = np.eye(3) * 1e-3
        return float(self.frequencies(np.vstack([near, shifted_mesh((8, 8, 8))])).max())


def _solve(matrices: NDArray[np.complex128], n: int) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(matrices)
    weights = (np.abs(vectors) ** 2).reshape(len(matrices), n, 3, -1).sum(axis=2)
    return frequencies_thz(values), weights


def frequencies_thz(eigenvalues: Array) -> Array:
    """Frequencies, negative where imaginary, from eigenvalues of dynamical matrices in eV/Å²/u."""
    return np.asarray(np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)) * _UNITS.DefaultToTHz)


def compact_solve(compact: Array, supercell: Supercell, q: Array) -> tuple[Array, Array]:
    """Frequencies (THz) and atoms' weights at `q` from compact force constants, with phases over nearest images.

    Shapes as in `Parent.frequencies_and_weights`.
    """
    n = supercell.n_basis
    vectors, weights = supercell.nearest_images
    masses = supercell.primitive.get_masses()
    first, point, second, image = np.nonzero(weights)
    blocks = weights[first, point, second, image][:, None, None] * compact[first, :, point, second, :]
    pairs = np.stack([first, second], axis=1)
    lattice = LatticeSum(vectors[first, point, second, image], blocks, pairs, np.zeros((n, 3)))
    root = np.repeat(1.0 / np.sqrt(masses), 3)
    matrices = lattice.at(q) * (root[:, None] * root[None, :])
    return _solve(0.5 * (matrices + matrices.conj().transpose(0, 2, 1)), n)


def shifted_mesh(divisions: tuple[int, int, int]) -> Array:
    """An even mesh of q-points shifted off the zone centre, shape (n, 3)."""
    axes = [(np.arange(n) + 0.5) / n for n in divisions]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


def from_phonopy(phonons: Phonopy, parent_id: str, charges: dict[str, Any] | None = None) -> Parent:
    """Make a parent of a phonopy object that has forces or force constants; symmetrises them.

    Args:
        charges: Born charges in phonopy's form, where `phonons` does not have them yet: it prepares its dipole term
            again for each step on the way, and needs it for the last.

    Raises:
        SimulationError: no forces, or force constants that are not finite.
    """
    try:
        if phonons.force_constants is None:
            phonons.produce_force_constants(calculate_full_force_constants=False)
        phonons.symmetrize_force_constants()
        if charges is not None:
            phonons.nac_params = charges
    except Exception as error:  # phonopy raises several unrelated types for incomplete displacement sets
        raise SimulationError(f"{parent_id}: no force constants from these displacements ({error})") from None
    if not np.isfinite(phonons.force_constants).all():
        raise SimulationError(f"{parent_id}: force constants are not finite")
    cell = phonons.primitive
    primitive = Atoms(numbers=cell.numbers, scaled_positions=cell.scaled_positions, cell=cell.cell, pbc=True)
    # phonopy's own masses enter its dynamical matrix; the same must divide the doped one.
    primitive.set_masses(cell.masses)
    return Parent(parent_id, Host(primitive.get_chemical_formula()), primitive, phonons)


def _matrix(text: str, name: str, parent_id: str) -> Array:
    try:
        values = [float(Fraction(item)) for item in text.split()]
        return np.diag(values) if len(values) == 3 else np.array(values).reshape(3, 3)
    except (ValueError, ZeroDivisionError):
        raise SimulationError(f"{parent_id}: {name} {text!r} is not 3 or 9 numbers") from None


def from_row(row: dict[str, Any]) -> Parent:
    """A parent from one row of a Parquet file of phonopy calculations.

    The columns are `material_id`, `poscar_unitcell`, `supercell_matrix`, `primitive_axis` (may be empty), `force_sets`
    and `born` (may be null), each the text of phonopy's own file or tag.

    Raises:
        SimulationError: the texts are incomplete or contradict each other.
    """
    name = row["material_id"]
    axis = (row.get("primitive_axis") or "").strip()
    try:
        phonons = Phonopy(
            read_vasp_from_strings(row["poscar_unitcell"]),
            np.rint(_matrix(row["supercell_matrix"], "supercell_matrix", name)).astype(int),
            _matrix(axis, "primitive_axis", name) if axis else np.eye(3),
            log_level=0,
        )
        phonons.dataset = parse_FORCE_SETS_from_strings(row["force_sets"], natom=len(phonons.supercell))
        if row.get("born"):
            charges = parse_BORN_from_strings(row["born"], phonons.primitive)
            if charges.get("factor") is None:
                charges["factor"] = _NAC_FACTOR
        else:
            charges = None
    except SimulationError:
        raise
    except Exception as error:  # phonopy's parsers raise whatever the first bad line leads to
        raise SimulationError(f"{name}: not a readable phonopy calculation ({error})") from None
    return from_phonopy(phonons, name, charges)


def from_folder(folder: str | Path) -> Parent:
    """A parent from a folder of a phonopy calculation: `phonopy_params.yaml` or `phonopy.yaml` and what lies beside it.

    Raises:
        SimulationError: no such file, or one that phonopy cannot read.
    """
    folder = Path(folder)
    for name in _CALCULATIONS:
        if (folder / name).exists():
            return from_file(folder / name, folder.name)
    raise SimulationError(f"{folder} holds no phonopy calculation; put one of {', '.join(_CALCULATIONS)} there")


def from_file(path: str | Path, parent_id: str) -> Parent:
    """A parent from a file of phonopy, `phonopy_params.yaml` or `phonopy.yaml`, and what lies beside it.

    Raises:
        SimulationError: one that phonopy cannot read.
    """
    path = Path(path)
    try:
        phonons = load_phonopy(path, symmetrise=False)
    except InputError as error:
        raise SimulationError(f"{path}: not a readable phonopy calculation ({error.message}); {error.fix}") from None
    return from_phonopy(phonons, parent_id)


def packaged_folder() -> Path:
    """The folder of parents that ship with the package."""
    return Path(str(files("datagen") / "library"))


def list_parents(source: str | Path, max_basis: int | None = None) -> list[str]:
    """Names of the parents in a Parquet file, or a folder of phonopy folders; "packaged" names the package's own.

    A Parquet file may also be a URI. Where it has a column `n_atoms_primitive`, parents with more than `max_basis`
    atoms are left out unread.

    Raises:
        TableError: the source does not exist or is no such file.
        StorageError: the object store cannot be reached.
    """
    folder = _folder(source)
    if folder is not None:
        names = [entry.name for entry in folder.iterdir() if entry.is_dir() and any(entry.glob("phonopy*.yaml*"))]
        if not names:
            raise TableError(f"{folder} holds no phonopy folders", fix="put one folder a parent there", field="parents")
        return sorted(names)
    sized = max_basis is not None and "n_atoms_primitive" in parent_columns(source)
    table = read_parents(source, ["material_id"], [("n_atoms_primitive", "<=", max_basis)] if sized else None)
    return [str(name) for name in table["material_id"].to_pylist()]


def load_parents(source: str | Path, names: list[str]) -> Iterator[tuple[str, Callable[[], Parent]]]:
    """For each of `names`, a function that loads it; nothing is computed until it is called."""
    folder = _folder(source)
    if not names:  # a filter by none has no type
        return
    if folder is not None:
        for name in names:
            yield name, lambda name=name: from_folder(folder / name)  # type: ignore[misc]
        return
    table = read_parents(source, filters=[("material_id", "in", names)])
    rows = {row["material_id"]: row for row in table.to_pylist()}
    for name in names:
        yield name, lambda name=name: from_row(rows[name])  # type: ignore[misc]


def _folder(source: str | Path) -> Path | None:
    """The folder of parents that `source` names; None where it names a file."""
    path = packaged_folder() if str(source) == "packaged" else Path(source)
    return path if path.is_dir() else None


def is_table(source: str | Path) -> bool:
    """Whether `source` names a Parquet file of parents, and not a folder of them."""
    return _folder(source) is None


def parent_columns(source: str | Path) -> list[str]:
    """Names of the columns of a Parquet file of parents; raises as `read_parents`."""
    with _opened(source) as file:
        return list(pq.read_schema(file).names)


def read_parents(
    source: str | Path, columns: list[str] | None = None, filters: list[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Read a Parquet file of parents, by path or URI.

    Raises:
        TableError: it does not exist, or is no such file.
        StorageError: the object store cannot be reached.
    """
    with _opened(source) as file:
        return pq.read_table(file, columns=columns, filters=filters)


@contextmanager
def _opened(source: str | Path) -> Iterator[pa.NativeFile]:
    try:
        with Location.of(source, field="parents").open() as file:
            yield file
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise TableError(
            f"{source} is no file of parents ({reason(error)})", fix="see the README", field="parents"
        ) from None
