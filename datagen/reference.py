"""The pristine host's spectrum from its crystal structure, for a user who has not measured it; kept in a cache."""

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from defectnet.binning import IMAGINARY_THZ
from defectnet.errors import DefectNetError, InputError
from defectnet.io.cache import cache_folder
from defectnet.references import MISTAKEN, PristineHost
from defectnet.spectrum import Spectrum

if TYPE_CHECKING:
    from datagen.parents import Parent

__all__ = ["parent_of_structure", "reference_from_structure"]


def reference_from_structure(path: str | Path, potential: str = "nep89") -> PristineHost:
    """The pristine host from a crystal structure file by way of an interatomic potential.

    The force constants are kept in the user's cache, so that the same structure is computed once.

    Args:
        path: CIF, POSCAR or another format that ASE reads.
        potential: nep89, nequix, nep:PATH, nequix:PATH or package.module:Calculator(key=value).

    Raises:
        InputError: the file is no structure.
        SimulationError: the potential cannot be loaded, lacks an element, or finds the crystal unstable.
    """
    from datagen.dos import choose_bins, pristine_dos

    path = Path(path)
    parent = parent_of_structure(path, potential)
    lowest = parent.lowest_thz()
    dos = pristine_dos(parent, choose_bins(parent.top_thz()))
    note = f"the reference is computed, not measured: {path.name} with the potential {potential}"
    if lowest < IMAGINARY_THZ:
        note += f", which finds the crystal unstable (lowest mode {lowest:.2f} THz): do not rely on it"
    else:
        note += f"; {MISTAKEN}"
    spectrum = Spectrum.from_bins(dos.total, dos.bins.step_thz)
    return PristineHost("", parent.host, spectrum, dos.partial, path.name, note)


def parent_of_structure(path: Path, potential: str) -> "Parent":
    """A structure file's parent with force constants; kept in the user's cache by the content of the file."""
    from datagen.parents import from_folder
    from datagen.potentials import load_potential
    from datagen.structures import from_structure as compute
    from datagen.structures import save_parent

    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror})", fix="check the path", field="structure") from None
    # ASE chooses its reader by the suffix too.
    key = hashlib.sha256(b"\0".join([content, path.suffix.encode(), potential.encode()])).hexdigest()[:24]
    folder = cache_folder() / "parents" / key
    if (folder / "phonopy_params.yaml").exists():
        try:
            return from_folder(folder)
        except DefectNetError:
            pass  # a damaged cache is made again
    parent = compute(path, load_potential(potential))
    partial = folder.with_name(f".{key}.{os.getpid()}")
    save_parent(parent, partial)
    folder.mkdir(parents=True, exist_ok=True)
    (partial / "phonopy_params.yaml").replace(folder / "phonopy_params.yaml")
    partial.rmdir()
    return from_folder(folder)
