"""A question to the model from files: the sample's spectrum, and its pristine host's where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.neutron import Resolution
from defectnet.query import Query
from defectnet.readers import compatible, read_file, read_like
from defectnet.readers.reading import Reading
from defectnet.references import PristineHost, library_reference
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit

__all__ = ["QueryReading", "read_query"]


@dataclass(frozen=True, eq=False)
class QueryReading:
    """A query from files, and what they said beside it.

    Attributes:
        file: the sample's.
        query: what the model is asked.
        reading: the sample's file: the density's errors, the elements' parts, the format.
        notes: what the user should know of how the question was put; they belong to the answer's warnings.
    """

    file: Path
    query: Query
    reading: Reading
    notes: tuple[str, ...] = ()


def read_query(
    file: str | Path,
    host: Host | str | None = None,
    *,
    unit: FrequencyUnit | str | None = None,
    reference: str | Path | Spectrum | PristineHost | None = None,
    candidates: Sequence[str] | None = None,
    kind: str | None = None,
    resolution: Resolution | None = None,
    prior: bool = True,
    column: str | None = None,
    spectrum: str | None = None,
    reference_unit: FrequencyUnit | str | None = None,
    simulated: bool = False,
    override_unit: bool = False,
) -> QueryReading:
    """Read a sample's spectrum and put the question about it.

    Args:
        file: the sample, in any format that `read_file` knows.
        host: the pristine crystal; may be left out where `reference` is a `PristineHost`.
        unit: of the frequency axis, where the file does not say; a reference's file is taken to be like the sample's.
        reference: the pristine crystal's spectrum: a file; "library", or a name in the library such as "mp-149", for a
            computed one; or what was measured or computed elsewhere, such as by `datagen.reference`.
        candidates: the elements that may be present; None weighs every one.
        kind: "vibrational" or "neutron"; by default what the file says, else vibrational.
        resolution: the spectrometer's, applied to a reference that was computed.
        prior: whether the model may use what a chemist expects beside the spectrum.
        column: name or number (from 1 on) of the density, in a table of several columns.
        spectrum: name or number (from 1 on) of the spectrum, in a file of several.
        reference_unit: of the reference's axis, where its file does not say; by default `unit`.
        simulated: whether the resolution has a use beside the reference: a check by simulation.
        override_unit: whether `unit` holds even where the sample's file says another, and `reference_unit` where the
            reference's does; a note then names both.

    Raises:
        InputError: no host, a file that cannot be read, a host that the library lacks or that is not the reference's,
            a reference that is weighted otherwise than the sample, or a resolution that would do nothing.
    """
    file = Path(file)
    known = reference if isinstance(reference, PristineHost) else None
    crystal = _crystal(Host(host) if isinstance(host, str) else host, known)
    reading = read_file(file, unit, column=column, spectrum=spectrum, override_unit=override_unit)
    notes = [f"{file.name}: {note}" for note in reading.notes]
    if isinstance(reference, str) and _names_the_library(reference):
        known = library_reference(crystal, None if reference == "library" else reference)
    other, name = None, "the reference"
    if known is not None:
        asked_kind = kind or reading.kind or "vibrational"
        other = Reading(known.as_measured(asked_kind), kind=asked_kind, format="computed", origin="computed")
        notes.append(known.note)
    elif isinstance(reference, Spectrum):
        other = Reading(reference, format="given")
    elif isinstance(reference, str | Path):
        name = Path(reference).name
        if override_unit and reference_unit is not None:
            other = read_file(reference, reference_unit, override_unit=True)
        else:
            other = read_like(reference, reference_unit or unit, column=column, spectrum=spectrum)
        notes += [f"{name}: {note}" for note in other.notes]
    pair = compatible(
        reading,
        other,
        kind=kind,
        n_elements=len(crystal.elements),
        resolution=resolution,
        resolution_used=simulated,
        names=(file.name, name),
    )
    query = Query(
        sample_id=file.stem,
        host=crystal,
        spectrum=pair.sample.spectrum,
        reference=None if pair.reference is None else pair.reference.spectrum,
        candidates=None if candidates is None else tuple(candidates),
        kind=pair.kind,
        prior=prior,
        uncertainty=pair.sample.error,
        reference_kind="computed" if _is_computed(reading, other) else "measured",
    )
    return QueryReading(file, query, pair.sample, tuple(note for note in (*notes, *pair.notes) if note))


def _is_computed(sample: Reading, reference: Reading | None) -> bool:
    """Whether a reference was computed and the sample, as far as is known, was not."""
    return reference is not None and reference.origin == "computed" and sample.origin != "computed"


def _crystal(named: Host | None, known: PristineHost | None) -> Host:
    """The host that was named or that the reference is of; they must agree."""
    if known is None:
        if named is None:
            raise InputError("is missing", fix="give the pristine crystal's formula, such as Si", field="host")
        return named
    if named is not None and known.host != named:
        raise InputError(
            f"{known.description} is {known.host.formula}, not {named.formula}", fix="make them agree", field="host"
        )
    return known.host


def _names_the_library(reference: str) -> bool:
    return (reference == "library" or reference.startswith("mp-")) and not Path(reference).exists()
