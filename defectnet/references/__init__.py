"""Densities of states of pristine hosts from DFT force constants, shipped inside the package.

`hosts.parquet` has one row a crystal in the schema of the spectra table, with the elements' parts, so that a reference
can be made for neutron spectra too. Computed from the Kyoto phonon database (A. Togo, version 2018-04-17, PBEsol, CC BY
4.0) by `examples/make_references.py`, and shared under the same terms.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.io.compact import expanded
from defectnet.spectrum import Spectrum, bin_centres_thz

__all__ = ["KnownHost", "find_hosts"]


@dataclass(frozen=True, eq=False)
class KnownHost:
    """A pristine crystal of the library.

    Attributes:
        parent_id: its name in the Materials Project, such as "mp-149".
        description: name and space group, for people.
        partial: element → shape (n,), its part of the density, modes per atom and THz.
        spectrum: the density of states.
    """

    parent_id: str
    description: str
    partial: dict[str, NDArray[np.float64]]
    spectrum: Spectrum


def find_hosts(host: Host, parent_id: str | None = None) -> list[KnownHost]:
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
        found.append(KnownHost(row["parent_id"], row["sample_id"], partial, spectrum))
    return found
