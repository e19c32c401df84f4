"""What a format is: how it is known, how it is read, and what the documentation says of it."""

from collections.abc import Callable
from dataclasses import dataclass

from defectnet.readers.content import Source
from defectnet.readers.reading import Reading

__all__ = ["Format", "NotRead"]


@dataclass(frozen=True)
class Format:
    """A format that is read.

    Attributes:
        name: for people.
        read_as: what is taken from it, for the documentation.
        unit: who says its unit, for the documentation.
        example: name of a small file of it under `tests/data/formats`.
        recognises: whether a file is of it, by its content first and its name second; cheap, and never raises.
        read: reads it; raises `InputError`.
        chooses: which of "column" and "spectrum" the caller may choose in it.
    """

    name: str
    read_as: str
    unit: str
    example: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Reading]
    chooses: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotRead:
    """A format that is known and not read: what it is, and what to export in its place."""

    name: str
    instead: str
    recognises: Callable[[Source], bool]
