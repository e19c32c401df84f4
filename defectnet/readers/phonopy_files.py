"""phonopy's files of modes and force constants: `mesh.yaml`, `mesh.hdf5`, `phonopy.yaml`.

Nothing is read from the working directory: `phonopy.load` looks there for BORN, FORCE_SETS and force constants, and one
file would give another answer in another folder. Here these files count where they lie beside the YAML.
"""

import contextlib
import io
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from defectnet.errors import SpectrumError
from defectnet.extras import require
from defectnet.io.safe_yaml import check_yaml
from defectnet.readers.content import Source, load
from defectnet.readers.modes import density_of_modes
from defectnet.readers.reading import Reading, settle_unit
from defectnet.readers.registry import Format
from defectnet.units import unit_named

if TYPE_CHECKING:
    from phonopy import Phonopy

__all__ = ["FORMATS", "load_phonopy"]

_TOP_LEVEL = re.compile(r"^(phonopy|mesh|npath|segment_nqpoint|nqpoint)\s*:", re.MULTILINE)
# Modes that are summed: a bin's statistical error is then about one per cent.
_MODES = 45_000
_USUAL = "phonopy's default is THz"
# phonopy up to 2.6 wrote "Angstrom"; later ones compare letter by letter with "angstrom".
_UNITS = re.compile(r"^physical_unit:[ \t]*\n(?:[ \t]+.*\n)+", re.MULTILINE)


def _kind(source: Source) -> str | None:
    """Which of phonopy's YAML files a text begins like: "phonopy", "mesh", "qpoints", or None."""
    match = _TOP_LEVEL.search(source.head)
    if match is None or "\n" not in source.head:
        return None
    if match[1] in ("npath", "segment_nqpoint") or re.search(
        r"^(npath|segment_nqpoint)\s*:", source.head, re.MULTILINE
    ):
        return "band"
    return {"nqpoint": "qpoints"}.get(match[1], match[1])


def _read_mesh(source: Source) -> Reading:
    """`mesh.yaml`; with eigenvectors in it, the elements' parts too. It does not say its unit."""
    where = source.where
    unit = settle_unit([], source.wish, where, _USUAL)
    check_yaml(source.text, where)
    try:
        content: Any = yaml.load(source.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        phonon = content["phonon"]
        frequency = np.array([[band["frequency"] for band in q["band"]] for q in phonon], dtype=float)
        weight = np.array([q["weight"] for q in phonon], dtype=float)
        symbols = [str(atom["symbol"]) for atom in content.get("points") or content.get("atoms") or []]
        shares = None
        if symbols and all("eigenvector" in band for q in phonon for band in q["band"]):
            vectors = np.array([[band["eigenvector"] for band in q["band"]] for q in phonon])  # (q, mode, atom, 3, 2)
            shares = _shares((vectors**2).sum(axis=(3, 4)), symbols)
        n_atoms = len(symbols) or int(content["natom"])
        if frequency.shape != (len(phonon), 3 * n_atoms) or len(phonon) != int(content["nqpoint"]):
            raise ValueError
        n_points = _points(content.get("mesh"), weight)
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise SpectrumError(
            f"{where} is not a whole mesh.yaml of phonopy", fix="write or copy it again", field="file"
        ) from None
    return density_of_modes(
        frequency * unit.thz, weight, shares, where, "phonopy mesh.yaml", unit=unit, n_points=n_points
    )


def _read_mesh_hdf5(source: Source) -> Reading:
    """`mesh.hdf5`: as `mesh.yaml`, but without the atoms' symbols."""
    import h5py

    where = source.where
    unit = settle_unit([], source.wish, where, _USUAL)
    try:
        with h5py.File(io.BytesIO(source.content), "r") as file:
            frequency, weight = np.array(file["frequency"], dtype=float), np.array(file["weight"], dtype=float)
            mesh = np.array(file["mesh"]) if "mesh" in file else None
        if frequency.ndim != 2 or weight.shape != frequency.shape[:1]:
            raise ValueError
    except (OSError, KeyError, TypeError, ValueError, RuntimeError):
        raise SpectrumError(
            f"{where} is not a whole mesh.hdf5 of phonopy", fix="write it again", field="file"
        ) from None
    n_points = _points(mesh, weight)
    return density_of_modes(
        frequency * unit.thz, weight, None, where, "phonopy mesh.hdf5", unit=unit, n_points=n_points
    )


def _points(mesh: Any, weight: NDArray[np.float64]) -> int | None:
    """How many q-points the full mesh has, where the file says it and the weights agree.

    On an even mesh shifted off the zone centre every point stands for two or more: the least weight is no measure.
    """
    if mesh is None:
        return None
    product = int(np.prod(np.array(mesh, dtype=int)))
    return product if product > 0 and np.isclose(weight.sum(), product) else None


def _shares(squares: NDArray[np.float64], symbols: list[str]) -> dict[str, NDArray[np.float64]]:
    """Each element's share of each mode, from the squared eigenvectors, shape (n_q, n_modes, n_atoms)."""
    squares = squares / squares.sum(axis=2, keepdims=True)
    names = np.array(symbols)
    return {str(symbol): squares[:, :, names == symbol].sum(axis=2) for symbol in np.unique(names)}


def load_phonopy(path: str | Path, *, symmetrise: bool = True) -> "Phonopy":
    """A phonopy calculation with force constants, from its YAML and from files beside it, never from elsewhere.

    `phonopy.yaml` or `phonopy_params.yaml` of phonopy 2.0 and later, compressed or not; where it holds no force
    constants or forces: FORCE_CONSTANTS, force_constants.hdf5 or FORCE_SETS beside it; and BORN beside it.

    Args:
        path: the YAML file.
        symmetrise: whether force constants made of forces are symmetrised.

    Raises:
        InputError: there is no such file.
        SpectrumError: phonopy cannot read it, or there are no force constants.
        MissingExtraError: phonopy is not installed.
    """
    return _load(load(Path(path)), symmetrise)


def _load(source: Source, symmetrise: bool = True) -> "Phonopy":
    require("simulate", "a density from force constants", "phonopy")
    check_yaml(source.text, source.where)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return _phonopy(source, symmetrise)
    except Exception as error:  # phonopy raises several unrelated types for incomplete files
        reason = f" ({str(error).splitlines()[0][:100]})" if str(error) else ""
        raise SpectrumError(
            f"{source.where} gives no force constants{reason}",
            fix="save phonopy with force_constants, or put FORCE_SETS or FORCE_CONSTANTS beside it",
            field="file",
        ) from None


def _phonopy(source: Source, symmetrise: bool) -> "Phonopy":
    """What `phonopy.load` does, with every file that it may read named."""
    from phonopy import Phonopy
    from phonopy.cui import load_helper
    from phonopy.interface.phonopy_yaml import PhonopyYaml
    from phonopy.physical_units import get_calculator_physical_units
    from phonopy.structure.dataset import forces_in_dataset

    text = _UNITS.sub(lambda match: match[0].replace("Angstrom", "angstrom"), source.text)
    content = PhonopyYaml()
    content.read(io.StringIO(text))
    matrix = np.eye(3, dtype=int) if content.supercell_matrix is None else content.supercell_matrix
    primitive = "auto" if content.primitive_matrix is None else content.primitive_matrix
    phonons = Phonopy(content.unitcell, matrix, primitive_matrix=primitive, calculator=content.calculator, log_level=0)

    def beside(*names: str) -> str | None:
        return next((str(file) for name in names if (file := source.path.with_name(name)).is_file()), None)

    nac = load_helper.get_nac_params(
        primitive=phonons.primitive,
        nac_params=content.nac_params,
        born_filename=beside("BORN"),
        is_nac=False,  # it would look in the working directory
        nac_factor=get_calculator_physical_units(content.calculator).nac_factor,
    )
    if nac is not None:
        phonons.nac_params = nac
    constants_file = beside("FORCE_CONSTANTS", "force_constants.hdf5")
    if content.force_constants is not None or constants_file is not None:
        phonons.force_constants = load_helper.select_and_extract_force_constants(
            phonons, force_constants=content.force_constants, force_constants_filename=constants_file
        )
        return phonons
    dataset = content.dataset
    if not forces_in_dataset(dataset):
        sets = beside("FORCE_SETS")
        dataset = None if sets is None else load_helper.read_force_sets(sets, supercell=phonons.supercell)
    if dataset is None:
        raise ValueError
    phonons.dataset = dataset
    load_helper.produce_force_constants(phonons, symmetrize_fc=symmetrise, use_symfc_projector=True)
    if phonons.force_constants is None:
        raise ValueError
    return phonons


def _read_phonopy(source: Source) -> Reading:
    """`phonopy.yaml` with force constants or forces: the density on a mesh of our own; in THz, as phonopy computes."""
    unit = settle_unit([(unit_named("THz"), "phonopy")], replace(source.wish, override_unit=False), source.where)
    phonons = _load(source)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            n = len(phonons.primitive)
            lengths = np.linalg.norm(np.linalg.inv(phonons.primitive.cell).T, axis=1)
            density = (_MODES / (3 * n) / np.prod(lengths)) ** (1 / 3)
            divisions = np.maximum(np.rint(density * lengths), 2).astype(int)
            phonons.run_mesh(divisions, shift=[0.5] * 3, is_mesh_symmetry=False, with_eigenvectors=True)
        mesh = phonons.mesh
        vectors = np.asarray(mesh.eigenvectors)  # (n_q, 3n, n_modes)
    except Exception as error:
        reason = str(error).splitlines()[0][:100] if str(error) else "no mesh"
        raise SpectrumError(
            f"{source.where} gives no modes ({reason})", fix="check the calculation", field="file"
        ) from None
    squares = (np.abs(vectors) ** 2).reshape(len(vectors), n, 3, -1).sum(axis=2)
    shares = _shares(np.swapaxes(squares, 1, 2), [str(symbol) for symbol in phonons.primitive.symbols])
    frequency, weight = np.asarray(mesh.frequencies), np.asarray(mesh.weights, dtype=float)
    return density_of_modes(frequency, weight, shares, source.where, "phonopy.yaml", unit=unit)


def _is_mesh_hdf5(source: Source) -> bool:
    return source.holds("frequency", "weight", "qpoint") or source.holds("frequency", "weight", "mesh")


_CONSTANTS = (
    "density and parts from its force constants (or forces, or FORCE_SETS, FORCE_CONSTANTS, "
    "force_constants.hdf5, BORN beside it); phonopy 2.0 and later; .xz and .gz too"
)
FORMATS = (
    Format(
        "phonopy `phonopy.yaml`, `phonopy_params.yaml`",
        _CONSTANTS,
        "THz, by definition",
        "phonopy.yaml.xz",
        lambda source: _kind(source) == "phonopy",
        _read_phonopy,
    ),
    Format(
        "phonopy `mesh.yaml`",
        "density of the modes; with eigenvectors, the elements' parts too",
        "`--unit` (phonopy's default is THz)",
        "mesh.yaml.xz",
        lambda source: _kind(source) == "mesh",
        _read_mesh,
    ),
    Format(
        "phonopy `mesh.hdf5`",
        "density of the modes",
        "`--unit` (phonopy's default is THz)",
        "mesh.hdf5",
        _is_mesh_hdf5,
        _read_mesh_hdf5,
    ),
)
