"""A user's own host: from a crystal structure by way of a potential, or from a phonopy calculation."""

from dataclasses import replace
from pathlib import Path

from datagen.parents import Parent, from_file, from_folder
from datagen.reference import parent_of_structure
from defectnet.errors import InputError

__all__ = ["host_of_phonons", "host_of_structure"]

# Names that programs give their files, which say nothing of the crystal.
_NAMELESS = ("poscar", "contcar", "phonopy", "phonopy_params", "phonopy_disp", "structure", "geometry")


def host_of_structure(path: str | Path, potential: str) -> tuple[Parent, bytes]:
    """A host from a CIF, a POSCAR or another format that ASE reads; its force constants are the potential's.

    Returns:
        the host, named as its file or, where that is a name like POSCAR, by its formula; and what the file holds.

    Raises:
        InputError: the file cannot be read as a crystal.
        SimulationError: the potential cannot be loaded, lacks an element, or the structure does not come to rest.
    """
    path = Path(path)
    return _named(parent_of_structure(path, potential), path), path.read_bytes() + potential.encode()


def host_of_phonons(path: str | Path) -> tuple[Parent, bytes]:
    """A host from phonopy's `phonopy_params.yaml` or `phonopy.yaml`, or the folder that holds it.

    FORCE_SETS, FORCE_CONSTANTS and BORN beside it are read.

    Returns:
        as `host_of_structure`.

    Raises:
        InputError: there is no such file.
        SimulationError: it is no phonopy calculation, or one without forces.
    """
    path = Path(path)
    if path.is_dir():
        parent = from_folder(path.resolve())
        files = sorted(file for file in path.iterdir() if file.is_file() and _belongs(file.name))
        return parent, b"\0".join(file.read_bytes() for file in files)
    if not path.is_file():
        raise InputError(f"there is no {path}", fix="give phonopy.yaml, or its folder", field="phonons")
    return _named(from_file(path, path.stem), path), path.read_bytes()


def _belongs(name: str) -> bool:
    return name.startswith("phonopy") or name in ("FORCE_SETS", "FORCE_CONSTANTS", "BORN")


def _named(parent: Parent, path: Path) -> Parent:
    name = parent.host.formula if path.stem.lower() in _NAMELESS else path.stem
    return replace(parent, parent_id=name)
