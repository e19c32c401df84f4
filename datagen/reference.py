"""The pristine host's spectrum, made for a user who has not measured it; `predict` and the check share it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from defectnet.errors import DefectNetError, InputError
from defectnet.host import Host
from defectnet.neutron import Resolution, neutron_weighted, resolved
from defectnet.references import find_hosts
from defectnet.spectrum import Spectrum

if TYPE_CHECKING:
    from datagen.parents import Parent

__all__ = ["MadeReference", "as_measured", "cache_folder", "from_library", "from_structure", "parent_of_structure"]


# Of 28 pristine crystals 21 were called doped beside a reference from the library, beside their own none (`make
# bench-hosts`).
_MISTAKEN = "; where it differs from your own crystal, elements are found that are not there"


@dataclass(frozen=True, eq=False)
class MadeReference:
    """A pristine spectrum that was computed, and a sentence that says how."""

    spectrum: Spectrum
    note: str


def from_library(
    host: Host, kind: str, resolution: Resolution | None = None, parent_id: str | None = None
) -> MadeReference:
    """The pristine host from the packaged library of DFT densities of states.

    Raises:
        InputError: the library does not hold the host.
    """
    found = find_hosts(host, parent_id)
    if not found:
        raise InputError(
            f"{host.formula} is not in the library of hosts",
            fix="give its spectrum with --reference or its crystal structure with --structure",
            field="reference",
        )
    chosen = found[0]
    note = f"the reference is computed, not measured: {chosen.description}, DFT (PBEsol){_MISTAKEN}"
    if len(found) > 1:
        others = ", ".join(known.description for known in found[1:])
        note += f"; {host.formula} also crystallises as {others}: name one with --reference if that is yours"
    return MadeReference(as_measured(chosen.spectrum, chosen.partial, kind, resolution), note)


def from_structure(
    path: Path, potential: str, kind: str, resolution: Resolution | None = None
) -> tuple[MadeReference, Host]:
    """The pristine host from a crystal structure file by way of an interatomic potential, and its composition.

    Raises:
        InputError: the file is no structure.
        SimulationError: the potential cannot be loaded, lacks an element, or finds the crystal unstable.
    """
    from datagen.dos import choose_bins, pristine_dos

    parent = parent_of_structure(path, potential)
    lowest = parent.lowest_thz()
    dos = pristine_dos(parent, choose_bins(parent.top_thz()))
    spectrum = Spectrum.from_bins(dos.total, dos.bins.step_thz)
    note = f"the reference is computed, not measured: {path.name} with the potential {potential}"
    if lowest < -0.05:
        note += f", which finds the crystal unstable (lowest mode {lowest:.2f} THz): do not rely on it"
    else:
        note += _MISTAKEN
    return MadeReference(as_measured(spectrum, dos.partial, kind, resolution), note), parent.host


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


def cache_folder() -> Path:
    """Where what was computed for this user is kept: `$XDG_CACHE_HOME/defectnet`, by default under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".cache") / "defectnet"


def as_measured(
    spectrum: Spectrum, partial: Mapping[str, NDArray[np.float64]], kind: str, resolution: Resolution | None
) -> Spectrum:
    """The computed density as the sample's measurement would show it: its weights and its resolution."""
    if kind == "neutron":
        spectrum = neutron_weighted(partial, spectrum.frequency_thz)
    return spectrum if resolution is None else resolved(spectrum, resolution)
