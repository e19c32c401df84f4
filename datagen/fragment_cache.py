"""Fragments kept on disk between runs, each under the hash of everything that it follows from.

A fragment costs some hundred force calls and the same one is wanted by every run that meets the host again: a dataset
with other concentrations, the check of another answer. What is kept is plain arrays; nothing is unpickled.
"""

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from datagen.embedding import Fragment, PotentialHost, compute_fragment
from datagen.potentials import Potential
from defectnet.io.storage import Location

__all__ = ["FragmentCache"]

# Raised when the same inputs would give another fragment.
_VERSION = 1


class FragmentCache:
    """A folder of fragments; without a folder every fragment is computed. Safe to share between processes."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def fragment(self, host: PotentialHost, potential: Potential, basis: int, element: str) -> Fragment:
        """The fragment of `element` on the site `basis`, read if it is there, else computed and kept.

        Raises:
            SimulationError: see `datagen.embedding.compute_fragment`.
            StorageError: the disk is full.
        """
        if self._folder is None:
            return compute_fragment(host, potential, basis, element)
        path = self._folder / f"{_key(host, potential, basis, element)}.npz"
        found = _read(path, element, basis)
        if found is None:
            found = compute_fragment(host, potential, basis, element)
            _write(path, found, host, potential)
        return found


def _key(host: PotentialHost, potential: Potential, basis: int, element: str) -> str:
    primitive = host.supercell.primitive
    digest = hashlib.sha256(f"{_VERSION}/{potential.fingerprint}/{basis}/{element}".encode())
    arrays = [primitive.numbers, primitive.cell[:], primitive.positions, host.supercell.matrix]
    if getattr(potential, "costly", False):
        # Single precision: another machine's forces differ in the last digits, and its fragments are as good.
        arrays.append(np.any(host.offsets))
    else:
        # Force constants and residual forces follow from the rest, and stand for how they were asked for.
        arrays += [host.offsets, host.residual.round(6), host.compact.round(4)]
    for array in arrays:
        digest.update(np.ascontiguousarray(array + 0.0).tobytes())  # -0.0 is 0.0
    return digest.hexdigest()[:32]


def _read(path: Path, element: str, basis: int) -> Fragment | None:
    """A kept fragment; None where there is none, or only a damaged one, which is made again."""
    try:
        # Opened here, for of a torn file numpy would leave it open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            strain = float(kept["strain_per_fraction"])
            if "change" in kept:  # as versions before the upper triangle wrote it
                return Fragment(element, basis, kept["change"], strain)
            n = 3 * int(kept["n_atoms"])
            change = np.zeros((n, n), dtype=np.float32)
            change[np.triu_indices(n)] = kept["upper"]
            change = np.triu(change) + np.triu(change, 1).T
            return Fragment(element, basis, change, strain, int(kept["force_calls"]), float(kept["seconds"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, fragment: Fragment, host: PotentialHost, potential: Potential) -> None:
    """Keep a fragment, and beside it what a reader without the host needs to lay it over a crystal."""
    content = io.BytesIO()
    supercell = host.supercell
    np.savez_compressed(
        content,
        upper=fragment.change[np.triu_indices(len(fragment.change))],  # it is symmetric
        strain_per_fraction=fragment.strain_per_fraction,
        element=fragment.element,
        basis=fragment.basis,
        n_atoms=supercell.n_atoms,
        matrix=supercell.matrix,
        cell=supercell.primitive.cell[:],
        positions=supercell.primitive.positions,
        numbers=supercell.primitive.numbers,
        potential=potential.name,
        fingerprint=potential.fingerprint,
        force_calls=fragment.force_calls,
        seconds=fragment.seconds,
    )
    Location.of(path).write(content.getvalue())
