"""Densities of states of pristine hosts from DFT force constants, shipped inside the package.

`hosts.parquet` has one row a crystal in the schema of the spectra table, with the elements' parts, so that a reference
can be made for neutron spectra too. Computed from the Kyoto phonon database (A. Togo, version 2018-04-17, PBEsol, CC BY
4.0) by `examples/make_references.py`, and shared under the same terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.io.compact import expanded
from defectnet.neutron import Resolution, as_measured
from defectnet.spectrum import Spectrum, bin_centres_thz

__all__ = ["MISTAKEN", "PristineHost", "find_hosts", "library_reference"]


# Of 28 pristine crystals 21 were called doped beside a reference from the library, beside their own none (`make
# bench-hosts`).
MISTAKEN = "where it differs from your own crystal, elements are found that are not there"


@dataclass(frozen=True, eq=False)
class PristineHost:
    """A pristine crystal whose density of states was computed, to stand in for a reference that nobody measured.

    Attributes:
        parent_id: its name in the Materials Project, such as "mp-149"; empty for a user's own structure.
        host: the composition.
        spectrum: the vibrational density of states.
        partial: element → shape (n,), its part of the density, modes per atom and THz.
        description: name and space group, for people.
        note: how it was made and what to mind, as a warning beside the answer.
    """

    parent_id: str
    host: Host
    spectrum: Spectrum
    partial: Mapping[str, NDArray[np.float64]]
    description: str = ""
    note: str = ""

    def as_measured(self, kind: str, resolution: Resolution | None = None) -> Spectrum:
        """The density as a measurement of this kind and resolution shows it (`defectnet.neutron.as_measured`)."""
        return as_measured(self.spectrum, self.partial, kind, resolution)


def library_reference(host: Host, parent_id: str | None = None) -> PristineHost:
    """The pristine host from the packaged library of DFT densities of states: the smallest crystal of the composition.

    Args:
        parent_id: this crystal of the composition, where there are several.

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
    note = f"the reference is computed, not measured: {found[0].description}, DFT (PBEsol); {MISTAKEN}"
    if others := ", ".join(known.description for known in found[1:]):
        note += f"; {host.formula} also crystallises as {others}: name one with --reference if that is yours"
    return replace(found[0], note=note)


def find_hosts(host: Host, parent_id: str | None = None) -> list[PristineHost]:
    """The library's crystals of this composition, smallest primitive cell first; with `parent_id`, that one alone.

    Raises:
        InputError: `parent_id` is not in the library, or is another composition.
    """
    path = Path(__file__).parent / "hosts.parquet"
    by_name = ("parent_id", "==", parent_id) if parent_id else ("host", "==", host.formula)
    rows = expanded(pq.read_table(path, filters=[by_name])).to_pylist()
    if parent_id and not rows:
        raise InputError(f"{parent_id} is not in the library of hosts", fix="give a file", field="reference")
    if parent_id and rows[0]["host"] != host.formula:
        raise InputError(f"{parent_id} is {rows[0]['host']}, not {host.formula}", fix="name another", field="reference")
    found = []
    for row in rows:
        axis = bin_centres_thz(len(row["dos"]), row["frequency_step_thz"])
        partial = {part["element"]: np.array(part["dos"], dtype=float) for part in row["partial_dos"]}
        spectrum = Spectrum(axis, np.array(row["dos"], dtype=float))
        found.append(PristineHost(row["parent_id"], host, spectrum, partial, row["sample_id"]))
    return found
