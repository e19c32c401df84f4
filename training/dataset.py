"""From the spectra table to arrays, once: binning a spectrum costs more than a training step on it.

Rows are split by the formula of their host, never by spectrum: the spectra of one crystal are near copies of each
other, and two polymorphs of one formula are nearly so.
"""

import hashlib
import logging
from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, InputError, TableError
from defectnet.features import FrequencyGrid, element_index, host_vector
from defectnet.host import Defect, Host
from defectnet.query import Query, iterate_rows

__all__ = ["SPLITS", "SpectraArrays", "dataset_sha256", "require_rows", "split_of"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
# Per cent of the formulas: validation serves early stopping and calibration, test is only ever reported.
_TRAIN_BELOW, _VALIDATION_BELOW = 80, 90
# `dos` and what labels it; the partial densities, most of the file, stay unread.
_COLUMNS = ("sample_id", "host", "defects", "frequency_step_thz", "dos", "reference_dos", "kind", "error")
_CHUNK_BYTES = 1 << 20


def split_of(host: Host) -> str:
    """The split of every spectrum of this host, from a hash of its reduced formula: stable between data sets."""
    bucket = int.from_bytes(hashlib.sha256(host.formula.encode()).digest()[:8], "big") % 100
    return "train" if bucket < _TRAIN_BELOW else "validation" if bucket < _VALIDATION_BELOW else "test"


@dataclass(frozen=True)
class SpectraArrays:
    """Labelled spectra, ready for the network.

    Attributes:
        sample, reference: shape (n, bins), float32, shares of the modes; zeros where there is no reference.
        has_reference: shape (n,), bool.
        host: shape (n, 94), float32, fractions of all atoms.
        truth: shape (n, 94), float32, concentration of each element as a dopant, fraction of all atoms.
        formula: shape (n,), the hosts' reduced formulas.
        split: shape (n,), names from `SPLITS`.
        sample_id: shape (n,).
    """

    sample: NDArray[np.float32]
    reference: NDArray[np.float32]
    has_reference: NDArray[np.bool_]
    host: NDArray[np.float32]
    truth: NDArray[np.float32]
    formula: NDArray[np.str_]
    split: NDArray[np.str_]
    sample_id: NDArray[np.str_]

    def __len__(self) -> int:
        return int(self.sample.shape[0])

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "SpectraArrays":
        """The chosen rows."""
        return SpectraArrays(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def without_reference(self) -> "SpectraArrays":
        """The same rows, as they look to one who has no spectrum of the pristine crystal."""
        return replace(self, reference=np.zeros_like(self.reference), has_reference=np.zeros_like(self.has_reference))

    def of_split(self, split: str) -> "SpectraArrays":
        """The rows of one split."""
        return self.where(self.split == split)

    @property
    def dopants(self) -> tuple[str, ...]:
        """Elements that are a dopant in some row."""
        return _named(self.truth)

    @property
    def host_elements(self) -> tuple[str, ...]:
        """Elements that are part of some host."""
        return _named(self.host)

    @classmethod
    def from_table(cls, table: pa.Table, grid: FrequencyGrid) -> "SpectraArrays":
        """Bin every row that has a spectrum; rows with an error, of their own or found here, are counted and left out.

        Raises:
            TableError: no row is left.
        """
        rows: list[tuple[NDArray[np.float32], NDArray[np.float32] | None, Host, NDArray[np.float32], str]] = []
        skipped: Counter[str] = Counter()
        for row in iterate_rows(table, _COLUMNS):
            if row["error"]:
                skipped["no spectrum was made"] += 1
                continue
            try:
                query = Query.from_row(row)
                reference = None if query.reference is None else grid.mode_shares(query.reference)
                truth = _truth(row["defects"], query.host)
                rows.append((grid.mode_shares(query.spectrum), reference, query.host, truth, query.sample_id))
            except DefectNetError as error:
                skipped[str(error)] += 1
        for reason, count in skipped.most_common(5):
            logger.warning("left out %d rows: %s", count, reason)
        if not rows:
            raise TableError("no row has a spectrum", fix="simulate again and look at the error column", field="input")
        empty = np.zeros(grid.n_bins, dtype=np.float32)
        return cls(
            sample=np.stack([row[0] for row in rows]),
            reference=np.stack([empty if row[1] is None else row[1] for row in rows]),
            has_reference=np.array([row[1] is not None for row in rows]),
            host=np.stack([host_vector(row[2]) for row in rows]),
            truth=np.stack([row[3] for row in rows]),
            formula=np.array([row[2].formula for row in rows]),
            split=np.array([split_of(row[2]) for row in rows]),
            sample_id=np.array([row[4] for row in rows]),
        )


def require_rows(data: SpectraArrays, split: str) -> SpectraArrays:
    """The rows of `split`, of which there must be some.

    Raises:
        TableError: the split is empty, as happens with few hosts.
    """
    rows = data.of_split(split)
    if not len(rows):
        hosts = len(set(data.formula))
        raise TableError(
            f"none of the {hosts} hosts falls into the {split} split", fix="simulate more hosts", field="input"
        )
    return rows


def dataset_sha256(path: str | Path) -> str:
    """Hash of a Parquet file, or of every Parquet file of a folder in name order."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _truth(defects: list[dict[str, object]] | None, host: Host) -> NDArray[np.float32]:
    truth = np.zeros(len(VOCABULARY), dtype=np.float32)
    if defects is None:
        raise InputError(
            "is missing", fix="train on labelled rows; a pristine crystal has an empty list", field="defects"
        )
    for entry in defects:
        defect = Defect(str(entry["element"]), str(entry["replaces"]), float(entry["concentration"]))  # type: ignore[arg-type]
        if defect.element in host.fractions:
            # An antisite changes no composition that a candidate could name; it belongs to another kind of defect.
            raise InputError(f"{defect.element} belongs to the host itself", fix="leave such rows out", field="defects")
        truth[element_index(defect.element)] += defect.concentration
    return truth


def _named(columns: NDArray[np.float32]) -> tuple[str, ...]:
    return tuple(VOCABULARY[index] for index in np.flatnonzero((columns > 0).any(axis=0)))
