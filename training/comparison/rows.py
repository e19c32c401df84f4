"""Labelled spectra beside the responses of their hosts, all on the axis of the comparison."""

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.errors import CompositionError, TableError
from defectnet.host import Host
from defectnet.io.response_library import ResponseLibrary
from defectnet.model.comparison.axis import N_BINS, WIDTHS, on_axis
from defectnet.model.comparison.hosts import HostOnAxis
from defectnet.neutron import neutron_weight
from defectnet.query import iterate_rows
from defectnet.spectrum import MODES_PER_ATOM
from training.dataset import split_of

__all__ = ["ComparisonRows", "Floats", "RowHost", "Substitutions"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
# By (dopant, replaced element), fraction of all atoms.
Substitutions = dict[tuple[str, str], float]

_COLUMNS = (
    "sample_id",
    "parent_id",
    "host",
    "defects",
    "frequency_step_thz",
    "dos",
    "reference_dos",
    "partial_dos",
    "origin",
    "error",
)
# How a row's dopants were computed, as `origin.method` has it, and the class of responses of the same source.
_LABELS = {"interpolated": "endmember", "embedded": "potential", "direct": "potential", "pristine": "pristine"}
# Bins with fewer modes than this tell nothing of the ratio of the two weightings.
_LEAST_DENSITY = 1e-4


@dataclass(frozen=True, eq=False)
class RowHost:
    """A host of the rows.

    Attributes:
        vibrational, neutron: the host on its axis; None where a cross-section is unknown.
        ratio: shape (N_BINS,), neutron-weighted over vibrational density of the pristine host.
        split: of its formula.
        rows: places of its rows.
    """

    vibrational: HostOnAxis
    neutron: HostOnAxis | None
    ratio: Floats | None
    split: str
    rows: list[int] = field(default_factory=list)

    def of(self, neutron: bool) -> HostOnAxis:
        """The host as this kind of spectrum sees it."""
        if neutron and self.neutron is not None:
            return self.neutron
        return self.vibrational


@dataclass(frozen=True, eq=False)
class ComparisonRows:
    """Rows whose host is in a response library.

    Attributes:
        sample, reference: shape (n, N_BINS), densities of 3 modes an atom for each unit of the axis.
        as_neutrons: shape (n, N_BINS), the samples weighted as neutrons weigh them; NaN where that is not known.
        truth: each row's dopants.
        sample_id, host: each row's own name, and its host's.
        label: "endmember", "potential" or "pristine": how each row was computed.
        heterovalent: shape (n,), bool.
        hosts: by id.
    """

    sample: Floats
    reference: Floats
    as_neutrons: Floats
    truth: list[Substitutions]
    sample_id: list[str]
    host: list[str]
    label: list[str]
    heterovalent: NDArray[np.bool_]
    hosts: Mapping[str, RowHost]

    def __len__(self) -> int:
        return len(self.host)

    def of_split(self, *splits: str) -> list[int]:
        """Places of the rows of these splits."""
        return [row for row, name in enumerate(self.host) if self.hosts[name].split in splits]

    def spectra(self, row: int, neutron: bool) -> tuple[Floats, Floats, bool]:
        """Sample and reference of a row, each (N_BINS,), neutron-weighted if wanted and known; and whether they are."""
        host = self.hosts[self.host[row]]
        if neutron and host.ratio is not None and np.isfinite(self.as_neutrons[row, 0]):
            weighted = self.reference[row] * host.ratio
            weighted *= MODES_PER_ATOM / float(weighted @ WIDTHS)
            return self.as_neutrons[row], weighted.astype(np.float32), True
        return self.sample[row], self.reference[row], False

    @classmethod
    def from_table(cls, table: pa.Table, library: ResponseLibrary) -> "ComparisonRows":
        """Rows of `SPECTRA_SCHEMA` whose parent is a host of `library`; rows by masses alone and with errors stay out.

        Raises:
            TableError: no row is left.
        """
        hosts: dict[str, RowHost] = {}
        gathered: dict[str, list[object]] = defaultdict(list)
        for row in iterate_rows(table, _COLUMNS):
            name, label = row["parent_id"], _LABELS.get(str((row["origin"] or {}).get("method")))
            if row["error"] or name not in library or label is None or not _trusted(row["origin"]):
                continue
            if name not in hosts:
                hosts[name] = _host(library, name)
            step, top = row["frequency_step_thz"], hosts[name].vibrational.top_thz
            hosts[name].rows.append(len(gathered["host"]))
            gathered["sample"].append(on_axis(row["dos"], step, top))
            gathered["reference"].append(on_axis(row["reference_dos"], step, top))
            gathered["as_neutrons"].append(_as_neutrons(row["partial_dos"], step, top))
            truth: Substitutions = defaultdict(float)
            for one in row["defects"]:
                truth[one["element"], one["replaces"]] += one["concentration"]
            gathered["truth"].append(dict(truth))
            gathered["sample_id"].append(row["sample_id"])
            gathered["host"].append(name)
            gathered["label"].append(label)
            gathered["heterovalent"].append(bool(row["origin"]["heterovalent"]))
        if not gathered:
            raise TableError("no row's parent is in the response library", fix="prepare its hosts", field="responses")
        logger.info("%d rows of %d hosts have responses", len(gathered["host"]), len(hosts))
        arrays = {name: np.array(gathered[name], dtype=np.float32) for name in ("sample", "reference", "as_neutrons")}
        return cls(
            **arrays,
            truth=gathered["truth"],  # type: ignore[arg-type]
            sample_id=gathered["sample_id"],  # type: ignore[arg-type]
            host=gathered["host"],  # type: ignore[arg-type]
            label=gathered["label"],  # type: ignore[arg-type]
            heterovalent=np.array(gathered["heterovalent"]),
            hosts=hosts,
        )


def _trusted(origin: Mapping[str, object]) -> bool:
    """Whether a row's dopants are by DFT or by the potential that was made for phonons."""
    return origin["method"] in ("interpolated", "pristine") or "nequix" in str(origin["potential"])


def _host(library: ResponseLibrary, name: str) -> RowHost:
    responses = library.host(name)
    vibrational = HostOnAxis(responses)
    neutron = None if responses.dos_neutron is None else HostOnAxis(responses, "neutron")
    ratio = None
    if neutron is not None:
        seen = vibrational.density > _LEAST_DENSITY
        ratio = np.where(seen, neutron.density / np.maximum(vibrational.density, _LEAST_DENSITY), 1.0)
        ratio = np.clip(ratio, 0.0, 10.0).astype(np.float32)
    return RowHost(vibrational, neutron, ratio, split_of(Host(responses.formula)))


def _as_neutrons(parts: list[dict[str, object]] | None, step: float, top: float) -> NDArray[np.float64]:
    try:
        weighted = [
            neutron_weight(str(part["element"])) * on_axis(np.asarray(part["dos"], dtype=float), step, top)
            for part in parts or ()
        ]
    except CompositionError:
        weighted = []
    if not weighted:
        return np.full(N_BINS, np.nan)
    total = np.sum(weighted, axis=0)
    return np.asarray(total * MODES_PER_ATOM / float(total @ WIDTHS))
