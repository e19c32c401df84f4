"""One host from a user's file to its responses, a Ray job: `python -m datagen.uploaded_hosts STORE ID`.

The file comes from a stranger: it is read as data, checked before anything is computed from it, and every refusal is
one sentence in the store. A job that was killed goes on from the force constants, if it had them.
"""

import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ase import Atoms
from ase.neighborlist import neighbor_list

from datagen.parents import Parent, from_folder
from datagen.potentials import load_potential
from datagen.prepare import host_row
from datagen.structures import from_atoms, save_parent
from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, InputError, SimulationError
from defectnet.io.host_store import HOST_STEPS, HostStore
from defectnet.io.response_library import RESPONSES_SCHEMA

__all__ = ["prepare_uploaded", "structure_of"]

logger = logging.getLogger(__name__)

# Nearer than this no two atoms of a crystal come: H2 has 0.74 Å.
_LEAST_DISTANCE_ANGSTROM = 0.6
_PARENT = "phonopy_params.yaml"
_FIX = "give one relaxed crystal"


def prepare_uploaded(store: HostStore, host_id: str) -> bool:
    """Do what `ID.request.json` asks for; whether it succeeded. A failure leaves its sentence in the store."""
    request = store.read(host_id, "request") or {}
    with tempfile.TemporaryDirectory(prefix="defectnet-host-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ASE about symmetry in CIFs, for each of them
        try:
            parent = _parent(store, host_id, request, Path(folder))
            _tell(store, host_id, 2, parent)
            row = host_row(parent)
            _write(store, host_id, row)
        except DefectNetError as error:
            text = str(error).replace(f"{folder}/", "")
            store.write(host_id, "failure", {"error": text})
            return False
        except Exception:
            logger.exception("host %s failed", host_id)
            store.write(host_id, "failure", {"error": "the crystal could not be computed; check it, or report it"})
            return False
    _tell(store, host_id, 3, parent)
    return True


def _parent(store: HostStore, host_id: str, request: dict[str, Any], folder: Path) -> Parent:
    saved = store.place(host_id, "parent.yaml")
    calculation = folder / host_id  # a parent's name is its folder's
    calculation.mkdir()
    if saved.is_file():
        with saved.open() as file:
            (calculation / _PARENT).write_bytes(file.read())
        return from_folder(calculation)
    _tell(store, host_id, 0)
    with store.place(host_id, "structure").open() as file:
        content = file.read()
    if request["kind"] == "phonopy":
        (calculation / _PARENT).write_bytes(content)
        parent = from_folder(calculation)
        check_atoms(parent.primitive, int(request["max_atoms"]))
    else:
        atoms = structure_of(content, int(request["max_atoms"]))
        _tell(store, host_id, 1)
        parent = from_atoms(atoms, host_id, load_potential(str(request["potential"])))
    save_parent(parent, calculation)
    saved.write((calculation / _PARENT).read_bytes())
    return parent


def structure_of(content: bytes, max_atoms: int) -> Atoms:
    """The crystal of a CIF.

    Raises:
        InputError: it is no CIF, holds no ordered crystal, more than `max_atoms` atoms, or atoms on top of each other.
    """
    with tempfile.NamedTemporaryFile(suffix=".cif") as file:
        file.write(content)
        file.flush()
        try:
            found = ase.io.read(file.name, format="cif")
        except Exception as error:  # ASE's reader raises whatever the first bad line leads to
            said = (str(error).splitlines() or [type(error).__name__])[0][:100].replace(file.name, "the file")
            raise InputError(f"it is no CIF of a crystal ({said})", fix=_FIX, field="structure") from None
    assert isinstance(found, Atoms)
    occupied = found.info.get("occupancy") or {}
    if any(len(shares) > 1 or min(shares.values()) < 1.0 for shares in occupied.values()):
        raise InputError("a site is shared or partly empty", fix="give an ordered cell", field="structure")
    check_atoms(found, max_atoms)
    return found


def check_atoms(atoms: Atoms, max_atoms: int) -> None:
    """Make sure that a cell is one that can be computed; raises `InputError`."""

    def refuse(what: str) -> InputError:
        return InputError(what, fix=_FIX, field="structure")

    if not 0 < len(atoms) <= max_atoms:
        raise refuse(f"{len(atoms):,} atoms in the cell are not between 1 and {max_atoms}")
    cell = np.asarray(atoms.cell)
    if not np.isfinite(cell).all() or not np.isfinite(atoms.positions).all() or abs(np.linalg.det(cell)) < 1.0:
        raise refuse("its cell or a position is not a number, or the cell has no volume")
    if unknown := sorted(set(atoms.get_chemical_symbols()) - set(VOCABULARY)):
        raise refuse(f"{', '.join(unknown)} is no element between H and Pu")
    atoms = atoms.copy()
    atoms.pbc = True
    if len(neighbor_list("i", atoms, _LEAST_DISTANCE_ANGSTROM)):
        raise refuse(f"atoms lie nearer to each other than {_LEAST_DISTANCE_ANGSTROM} Å")


def _write(store: HostStore, host_id: str, row: dict[str, Any]) -> None:
    if row["error"] is not None:
        raise SimulationError(row["error"])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row | {"host_id": host_id}], schema=RESPONSES_SCHEMA), sink)
    store.place(host_id, "responses.parquet").write(sink.getvalue())


def _tell(store: HostStore, host_id: str, step: int, parent: Parent | None = None) -> None:
    told: dict[str, Any] = {"step": HOST_STEPS[step], "done": step, "steps": len(HOST_STEPS) - 1}
    if parent is not None:
        told["formula"] = parent.host.formula
    store.write(host_id, "progress", told)


if __name__ == "__main__":
    sys.exit(0 if prepare_uploaded(HostStore.at(sys.argv[1]), sys.argv[2]) else 1)
