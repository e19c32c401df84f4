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
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, InputError, TableError
from defectnet.host import MAX_DEFECTS, Defect, Host
from defectnet.io.storage import Location
from defectnet.model.features import FrequencyGrid, element_index, host_vector
from defectnet.model.network import MAX_HOST_ELEMENTS, Inputs
from defectnet.model.prior import expectations
from defectnet.query import Query, iterate_rows

__all__ = ["SPLITS", "SpectraArrays", "dataset_sha256", "dopant_mask", "require_rows", "rows_of_split", "split_of"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
# Per cent of the formulas: validation serves early stopping and calibration, test is only ever reported.
_TRAIN_BELOW, _VALIDATION_BELOW = 80, 90
_COLUMNS = ("sample_id", "host", "defects", "frequency_step_thz", "dos", "reference_dos", "kind", "error")
# Elements of a doped crystal whose partial densities are kept.
_MAX_PARTIAL = MAX_DEFECTS + MAX_HOST_ELEMENTS
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
        neutron: shape (n,), bool: the densities are weighted as neutrons weigh them.
        truth: shape (n, 94), float32, concentration of each element as a dopant, fraction of all atoms.
        expected, site: the chemical prior of the host, shapes (n, 94, 5) and (n, 94).
        partial: shape (n, 12, bins), float16, the shares of the modes that each element of the doped crystal has; zeros
            where the table does not say.
        partial_element: shape (n, 12), places in the vocabulary, −1 where there is none.
        formula: shape (n,), the hosts' reduced formulas.
        split: shape (n,), names from `SPLITS`.
        sample_id: shape (n,).
    """

    sample: NDArray[np.float32]
    reference: NDArray[np.float32]
    has_reference: NDArray[np.bool_]
    neutron: NDArray[np.bool_]
    host: NDArray[np.float32]
    truth: NDArray[np.float32]
    expected: NDArray[np.float32]
    site: NDArray[np.int64]
    partial: NDArray[np.float16]
    partial_element: NDArray[np.int64]
    formula: NDArray[np.str_]
    split: NDArray[np.str_]
    sample_id: NDArray[np.str_]

    def __len__(self) -> int:
        return int(self.sample.shape[0])

    def where(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> "SpectraArrays":
        """The chosen rows."""
        return SpectraArrays(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def inputs(self, asked: NDArray[np.bool_], *, prior: bool = True) -> Inputs:
        """What the network reads when it is asked for the elements `asked`, shape (n, 94)."""
        arrays = (self.sample, self.reference, self.has_reference, self.neutron, self.host, asked)
        with_prior = np.full(len(self), prior)
        return Inputs(*(torch.from_numpy(array) for array in (*arrays, self.expected, self.site, with_prior)))

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
        rows: list[_Row] = []
        skipped: Counter[str] = Counter()
        partial = table["partial_dos"].combine_chunks()
        for place, row in enumerate(iterate_rows(table, _COLUMNS)):
            if row["error"]:
                skipped["no spectrum was made"] += 1
                continue
            try:
                query = Query.from_row(row)
                reference = None if query.reference is None else grid.mode_shares(query.reference)
                truth = _truth(row["defects"], query.host)
                parts = _partial_shares(partial[place], row["frequency_step_thz"], grid)
                rows.append(_Row(query, grid.mode_shares(query.spectrum), reference, truth, *parts))
            except DefectNetError as error:
                skipped[str(error)] += 1
        for reason, count in skipped.most_common(5):
            logger.warning("left out %d rows: %s", count, reason)
        if not rows:
            raise TableError("no row has a spectrum", fix="simulate again and look at the error column", field="input")
        hosts = [row.query.host for row in rows]
        empty = np.zeros(grid.n_bins, dtype=np.float32)
        return cls(
            sample=np.stack([row.sample for row in rows]),
            reference=np.stack([empty if row.reference is None else row.reference for row in rows]),
            has_reference=np.array([row.reference is not None for row in rows]),
            neutron=np.array([row.query.kind == "neutron" for row in rows]),
            host=np.stack([host_vector(host) for host in hosts]),
            truth=np.stack([row.truth for row in rows]),
            expected=np.stack([expectations(host)[0] for host in hosts]),
            site=np.stack([expectations(host)[1] for host in hosts]),
            partial=np.stack([row.partial for row in rows]),
            partial_element=np.stack([row.partial_element for row in rows]),
            formula=np.array([host.formula for host in hosts]),
            split=np.array([split_of(host) for host in hosts]),
            sample_id=np.array([row.query.sample_id for row in rows]),
        )


@dataclass(frozen=True)
class _Row:
    """One labelled spectrum on its way into the arrays."""

    query: Query
    sample: NDArray[np.float32]
    reference: NDArray[np.float32] | None
    truth: NDArray[np.float32]
    partial: NDArray[np.float16]
    partial_element: NDArray[np.int64]


def _partial_shares(
    entries: pa.Scalar, step_thz: float, grid: FrequencyGrid
) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """The share of all modes that each element has in each bin, shape (12, bins), and the elements' places, (12,)."""
    shares = np.zeros((_MAX_PARTIAL, grid.n_bins), dtype=np.float32)
    elements = np.full(_MAX_PARTIAL, -1, dtype=np.int64)
    if not entries.is_valid:
        return shares.astype(np.float16), elements
    structs = entries.values
    densities = structs.field("dos")
    for place, symbol in enumerate(structs.field("element").to_pylist()[:_MAX_PARTIAL]):
        density = densities[place].values.to_numpy(zero_copy_only=False)
        cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(density, 0.0))])
        shares[place] = np.diff(np.interp(grid.edges_thz, np.arange(density.size + 1) * step_thz, cumulative))
        elements[place] = element_index(symbol)
    return (shares / max(float(shares.sum()), 1e-9)).astype(np.float16), elements


def dopant_mask(data: SpectraArrays) -> NDArray[np.bool_]:
    """Which elements are a dopant in some row, shape (94,)."""
    return np.asarray((data.truth > 0).any(axis=0))


def rows_of_split(table: pa.Table, split: str) -> pa.Table:
    """The rows of a spectra table whose host belongs to `split`, before the cost of binning.

    Raises:
        TableError: there is none.
    """
    names = {name for name in table["host"].unique().to_pylist() if name and _split_of_name(name) == split}
    rows = table.filter(pc.is_in(table["host"], pa.array(sorted(names), pa.string())))
    if not rows.num_rows:
        raise TableError(f"no host falls into the {split} split", fix="give more hosts", field="input")
    return rows


def _split_of_name(name: str) -> str | None:
    try:
        return split_of(Host(name))
    except DefectNetError:
        return None


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
    """Hash of a Parquet file, or of every Parquet file of a folder in name order; a path or a URI.

    Raises:
        StorageError: the object store cannot be reached.
        OSError: there is no such file.
    """
    location = Location.of(path, field="input")
    digest = hashlib.sha256()
    for file in location.files(".parquet") if location.is_folder() else [location]:
        digest.update(file.name.encode())
        with file.open() as stream:
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
