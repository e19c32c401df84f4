"""A question to the model from files: the sample's spectrum, and its pristine host's where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from defectnet.errors import InputError, UnitError
from defectnet.host import Host
from defectnet.neutron import Resolution
from defectnet.query import Query
from defectnet.readers import read_file
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

    Raises:
        InputError: no host, a file that cannot be read, a host that the library lacks, or one that is not the
            reference's.
    """
    file = Path(file)
    known = reference if isinstance(reference, PristineHost) else None
    crystal = _crystal(Host(host) if isinstance(host, str) else host, known)
    reading = read_file(file, unit)
    notes = []
    if kind == "vibrational" and reading.kind == "neutron":
        notes.append(f"{file.name} says that it is weighted by neutron cross-sections, but was read as vibrational")
    kind = kind or reading.kind or "vibrational"
    if isinstance(reference, str) and _names_the_library(reference):
        known = library_reference(crystal, None if reference == "library" else reference)
    pristine: Spectrum | None = None
    if known is not None:
        pristine = known.as_measured(kind, resolution)
        notes.append(known.note)
    elif isinstance(reference, str | Path):
        pristine = _read_like(reference, unit)
    elif isinstance(reference, Spectrum):
        pristine = reference
    query = Query(
        sample_id=file.stem,
        host=crystal,
        spectrum=reading.spectrum,
        reference=pristine,
        candidates=None if candidates is None else tuple(candidates),
        kind=kind,
        prior=prior,
    )
    return QueryReading(file, query, reading, tuple(note for note in notes if note))


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


def _read_like(path: str | Path, unit: FrequencyUnit | str | None) -> Spectrum:
    """The reference's spectrum; where its file does not say its unit, it is taken to be the sample's."""
    try:
        return read_file(path).spectrum
    except UnitError:
        return read_file(path, unit).spectrum
