"""Whether a sample's spectrum and its pristine reference can be compared: what both files say of themselves counts."""
from dataclasses import dataclass, replace
from defectnet.readers.reading import Reading
__all__ = ["Pair", "compatible"]

@dataclass(frozen=True, eq=False)
class Pair:
    sample: Reading
    reference: Reading
    kind: str
    notes: tuple[str, ...]


def compatible(sample: Reading, reference: Reading) -> Pair:
    return Pair(sample, reference, "vibrational", ())
