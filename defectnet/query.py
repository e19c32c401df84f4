"""One question to the model: a host, its spectrum, and what the user may already know.

A query is made from a row of the spectra table or from a JSON object; both readers name the field that is wrong.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY, check_element
from defectnet.errors import CompositionError, InputError, SpectrumError
from defectnet.host import Host
from defectnet.io.tables import DENSITY_COLUMNS
from defectnet.spectrum import LOWEST_TOP_THZ, Spectrum
from defectnet.units import thz_per

__all__ = ["KINDS", "REFERENCE_KINDS", "QUERY_COLUMNS", "Query", "iterate_rows"]

# "vibrational": a density of states, each mode counted once. "neutron": the generalised density that neutrons measure,
# each element's partial density weighted by its scattering cross-section over its mass.
KINDS = ("vibrational", "neutron")

# A reference that was measured as the sample was, or one that was computed or taken from elsewhere.
REFERENCE_KINDS = ("measured", "computed")

# What a query needs of the spectra table; the labels stay unread.
_SPECTRUM_COLUMNS = ("sample_id", "host", "frequency_step_thz", "dos", "uncertainty", "reference_dos")
_ASKED_COLUMNS = ("kind", "candidates", "host_id", "reference_kind", "prior")
QUERY_COLUMNS = (*_SPECTRUM_COLUMNS, *_ASKED_COLUMNS, "error")

_JSON_KEYS = frozenset(
    {"id", "host", "unit", "frequency", "dos", "reference", "candidates", "kind", "prior", "uncertainty"}
    | {"host_id", "reference_kind"}
)
_REFERENCE_KEYS = frozenset({"unit", "frequency", "dos"})
# The same question as a row of the spectra table, which a JSON object may be too.
_ROW_KEYS = frozenset({*_SPECTRUM_COLUMNS, *_ASKED_COLUMNS})
# Bins for each step of the axis that a row is made from, and the most of them.
_BINS_PER_STEP, _MOST_BINS = 4, 1 << 14


@dataclass(frozen=True)
class Query:
    """A spectrum to be read, checked when it is made.

    Attributes:
        sample_id: the caller's name for the sample; may be empty.
        host: the pristine crystal's composition.
        spectrum: the sample's density of states, on any axis in THz and any scale.
        reference: the pristine host's density of states, where it is known.
        candidates: the elements that may be present, in the order of the vocabulary; None means every element.
        kind: one of `KINDS`.
        prior: whether the model may use, beside the spectrum, what a chemist expects (`defectnet.model.prior`).
        uncertainty: shape (n,), standard error of each of the sample's densities, per THz; NaN where there is none.
            The answer's intervals become wider by it.
        host_id: the crystal of the response library that is meant, such as "mp-149"; None takes the one of this
            formula that fits the reference best.
        reference_kind: one of `REFERENCE_KINDS`.

    Raises:
        CompositionError: an empty candidate list, or a candidate that is no element.
        InputError: an unknown kind of spectrum.
        SpectrumError: an axis that ends too low, or errors that are negative or not one for each point.
    """

    sample_id: str
    host: Host
    spectrum: Spectrum
    reference: Spectrum | None = None
    candidates: tuple[str, ...] | None = None
    kind: str = "vibrational"
    prior: bool = True
    uncertainty: NDArray[np.float64] | None = field(default=None, compare=False)
    host_id: str | None = None
    reference_kind: str = "measured"

    def __post_init__(self) -> None:
        if self.reference_kind not in REFERENCE_KINDS:
            raise InputError(
                f"unknown kind of reference {self.reference_kind!r}",
                fix=f"use {' or '.join(REFERENCE_KINDS)}",
                field="reference_kind",
            )
        if self.kind not in KINDS:
            if isinstance(self.kind, str) and self.kind.lower() == "raman":
                # Selection rules hide and reveal modes: such a spectrum looks doped to a model of densities.
                raise InputError(
                    "a Raman spectrum is not a density of states",
                    fix="give a neutron or computed density of states",
                    field="kind",
                )
            raise InputError(f"unknown kind of spectrum {self.kind!r}", fix=f"use {' or '.join(KINDS)}", field="kind")
        for place, spectrum in (("frequency", self.spectrum), ("reference.frequency", self.reference)):
            if spectrum is not None and spectrum.frequency_thz[-1] < LOWEST_TOP_THZ:
                raise SpectrumError(
                    f"the axis ends at {spectrum.frequency_thz[-1]:.2g} THz", fix="check the unit", field=place
                )
        if self.uncertainty is not None:
            object.__setattr__(self, "uncertainty", _errors(self.uncertainty, self.spectrum))
        if self.candidates is not None:
            if not self.candidates:
                raise CompositionError(
                    "the list is empty",
                    fix="name at least one element, or leave it out to weigh all",
                    field="candidates",
                )
            named = {check_element(symbol, field="candidates") for symbol in self.candidates}
            # One order for one set: the answer cannot depend on how the user sorted the guess.
            object.__setattr__(self, "candidates", tuple(symbol for symbol in VOCABULARY if symbol in named))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Query":
        """Read a row of the spectra table (`SPECTRA_SCHEMA`) given as Python or numpy values.

        Raises:
            InputError: a value is missing or impossible, or the row carries the `error` of an earlier stage.
        """
        if row.get("error"):
            raise InputError(f"the row has no spectrum ({row['error']})", fix="make it again", field="error")
        for name in ("host", "dos", "frequency_step_thz"):
            if row.get(name) is None:
                raise InputError("is missing", fix="fill it in", field=name)
        step_thz = row["frequency_step_thz"]
        reference = row.get("reference_dos")
        return cls(
            sample_id=_text(row.get("sample_id") or "", "sample_id"),
            host=Host(row["host"]),
            spectrum=Spectrum.from_bins(row["dos"], step_thz),
            reference=None if reference is None else _of_reference(Spectrum.from_bins, reference, step_thz),
            candidates=_candidates(row.get("candidates")),
            kind=row.get("kind") or "vibrational",
            prior=_prior(row),
            uncertainty=row.get("uncertainty"),
            **_host_and_reference(row),
        )

    @classmethod
    def from_json(cls, obj: Any) -> "Query":
        """Read the JSON object of the HTTP interface.

        Args:
            obj: {"id": text, "host": formula, "unit": "THz", "frequency": [...], "dos": [...],
                "reference": {"unit", "frequency", "dos"} or null, "candidates": [...] or null, "kind": text,
                "prior": true or false, "uncertainty": [standard error or null, …] of `dos`};
                `host`, `frequency` and `dos` are required, `unit` too: a guessed unit would be a silent error.
                A row of the spectra table, {"sample_id", "host", "frequency_step_thz", "dos", …}, is read as well.

        Raises:
            InputError: not an object, an unknown or missing key, or an impossible value.
        """
        if isinstance(obj, Mapping) and "frequency_step_thz" in obj:
            required = ("host", "frequency_step_thz", "dos")
            return cls.from_row(_object(obj, _ROW_KEYS, required=required, where="spectrum"))
        fields = _object(obj, _JSON_KEYS, required=("host", "unit", "frequency", "dos"), where="spectrum")
        spectrum = Spectrum.from_unit(fields["frequency"], fields["dos"], fields["unit"])
        reference = None
        if fields.get("reference") is not None:
            parts = _object(fields["reference"], _REFERENCE_KEYS, required=("frequency", "dos"), where="reference")
            unit = parts.get("unit", fields["unit"])
            reference = _of_reference(Spectrum.from_unit, parts["frequency"], parts["dos"], unit)
        return cls(
            sample_id=_text("" if fields.get("id") is None else fields["id"], "id"),
            host=Host(fields["host"]),
            spectrum=spectrum,
            reference=reference,
            candidates=_candidates(fields.get("candidates")),
            kind="vibrational" if fields.get("kind") is None else fields["kind"],
            prior=_prior(fields),
            uncertainty=_uncertainty(fields),
            **_host_and_reference(fields),
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON object of the HTTP interface that asks the same: the inverse of `from_json`."""
        item: dict[str, Any] = {"id": self.sample_id, "host": self.host.formula, "unit": "THz", "kind": self.kind}
        item |= _axis(self.spectrum)
        if self.reference is not None:
            item["reference"] = _axis(self.reference)
        if self.candidates is not None:
            item["candidates"] = list(self.candidates)
        if not self.prior:  # left out where it is the default: a service of before knows no such key
            item["prior"] = False
        if self.uncertainty is not None:
            item["uncertainty"] = [None if np.isnan(value) else float(value) for value in self.uncertainty]
        if self.host_id is not None:
            item["host_id"] = self.host_id
        if self.reference_kind != "measured":
            item["reference_kind"] = self.reference_kind
        return item

    def to_row(self) -> dict[str, Any]:
        """The query as a row of the spectra table, on bins fine enough to keep the spectra as they are."""
        spectra = [spectrum for spectrum in (self.spectrum, self.reference) if spectrum is not None]
        end_thz = max(float(1.5 * s.frequency_thz[-1] - 0.5 * s.frequency_thz[-2]) for s in spectra)
        step_thz = min(float(np.diff(s.frequency_thz).min()) for s in spectra) / _BINS_PER_STEP
        step_thz = max(step_thz, end_thz / _MOST_BINS)
        n_bins = int(np.ceil(end_thz / step_thz - 1e-9))
        densities = [np.maximum(s.resampled(step_thz, n_bins).dos, 0.0) for s in spectra]
        return {
            "sample_id": self.sample_id,
            "host": self.host.formula,
            "frequency_step_thz": step_thz,
            "dos": densities[0],
            "uncertainty": None
            if self.uncertainty is None
            else self.spectrum.resampled_error(self.uncertainty, step_thz, n_bins),
            "reference_dos": densities[1] if self.reference is not None else None,
            "kind": self.kind,
            "candidates": None if self.candidates is None else list(self.candidates),
            "host_id": self.host_id,
            # Null where it is the default, so that a table of plain questions is as it always was.
            "reference_kind": None if self.reference_kind == "measured" else self.reference_kind,
            "prior": None if self.prior else False,
        }


def iterate_rows(table: pa.Table, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a spectra table as dictionaries, densities as float64 arrays (a null inside one becomes NaN).

    `pa.Table.to_pylist` would make a Python float of every bin, some hundred times slower.
    """
    names = [name for name in (columns or table.column_names) if name in table.column_names]
    readers = []
    for name in names:
        column = table[name].combine_chunks()
        readers.append(_density_reader(column) if name in DENSITY_COLUMNS else _plain_reader(column))
    for index in range(table.num_rows):
        yield {name: read(index) for name, read in zip(names, readers, strict=True)}


def _axis(spectrum: Spectrum) -> dict[str, list[float]]:
    return {"frequency": spectrum.frequency_thz.tolist(), "dos": spectrum.dos.tolist()}


def _plain_reader(column: pa.Array) -> Any:
    return column.to_pylist().__getitem__


def _density_reader(column: pa.Array) -> Any:
    if pa.types.is_null(column.type):
        return lambda index: None
    offsets = column.offsets.to_numpy()
    values = column.values.to_numpy(zero_copy_only=False)
    present = column.is_valid().to_numpy(zero_copy_only=False)

    def read(index: int) -> NDArray[np.float64] | None:
        if not present[index]:
            return None
        return np.asarray(values[offsets[index] : offsets[index + 1]], dtype=np.float64)

    return read


def _object(value: Any, known: frozenset[str], *, required: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError("is not an object", fix=f"give keys such as {', '.join(required)}", field=where)
    for key in value:
        if key not in known:
            raise InputError(f"unknown key {key!r}", fix=f"use {', '.join(sorted(known))}", field=where)
    for key in required:
        if value.get(key) is None:
            raise InputError("is missing", fix="fill it in", field=key if where == "spectrum" else f"{where}.{key}")
    return value


def _of_reference(make: Any, *arguments: Any) -> Spectrum:
    """Make a spectrum, telling the reference's mistakes from the sample's."""
    try:
        spectrum: Spectrum = make(*arguments)
    except InputError as error:
        raise error.at(f"reference.{error.field}") from None
    return spectrum


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{value!r} is not text", fix="give a string", field=field)
    return value


def _prior(fields: Mapping[str, Any]) -> bool:
    """Whether the prior may be used: unless it is said that it may not."""
    prior = True if fields.get("prior") is None else fields["prior"]
    if not isinstance(prior, bool | np.bool_):
        raise InputError(f"{prior!r} is neither true nor false", fix="give true or false", field="prior")
    return bool(prior)


def _host_and_reference(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Which crystal is meant, and where its reference is from."""
    return {
        "host_id": None if fields.get("host_id") is None else _text(fields["host_id"], "host_id"),
        "reference_kind": _text(fields.get("reference_kind") or "measured", "reference_kind"),
    }


def _uncertainty(fields: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """The errors of the JSON object, per THz."""
    given = fields.get("uncertainty")
    if given is None:
        return None
    return _numbers_or_null(given) / thz_per(fields["unit"])


def _numbers_or_null(given: Any) -> NDArray[np.float64]:
    try:
        return np.array(given, dtype=np.float64)  # a null becomes NaN
    except (TypeError, ValueError):
        raise SpectrumError("not a list of numbers", fix="give numbers or null", field="uncertainty") from None


def _errors(given: Any, spectrum: Spectrum) -> NDArray[np.float64] | None:
    """Standard errors, one for each density; a zero is none, and nothing but none is None."""
    errors = _numbers_or_null(given)
    if errors.shape != spectrum.dos.shape:
        raise SpectrumError(
            f"{errors.size} errors for {spectrum.dos.size} densities", fix="give one a point", field="uncertainty"
        )
    if (errors < 0).any():
        raise SpectrumError("negative", fix="give standard errors", field="uncertainty")
    errors[~np.isfinite(errors) | (errors == 0)] = np.nan
    if np.isnan(errors).all():
        return None
    errors.setflags(write=False)
    return errors


def _candidates(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise CompositionError(f"{value!r} is not a list", fix='give symbols such as ["Ge", "Sn"]', field="candidates")
    return tuple(value)
