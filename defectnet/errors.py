"""The exception tree of DefectNet.

DefectNetError                    anything this project raises on purpose
├── InputError                    what the caller gave is wrong; names the field and the fix
│   ├── UnitError                 an unknown or missing unit
│   ├── SpectrumError             a spectrum that is empty, not finite, negative or not increasing
│   ├── CompositionError          a host, element or concentration that makes no sense
│   └── TableError                a Parquet or Arrow table that breaks its contract
├── SettingsError                 a configuration file with an unknown or impossible value
├── ArtifactError                 a model folder that is incomplete, altered or of another version
├── SimulationError               one sample cannot be simulated; the row keeps this message
│   ├── PotentialError            a potential cannot be loaded or lacks an element
│   └── UnstableError             a crystal is not dynamically stable
├── RegistryError                 the model registry refused or cannot be reached
├── StorageError                  a disk or object store is full, refuses or cannot be reached
├── MissingExtraError             part of the installation is missing; an ImportError too, and names the extra
└── ServiceError                  the HTTP service refused, failed or cannot be reached
    └── BusyError                 too much waits; says when to come back

The command line turns an `InputError` or `SettingsError` into exit code 2 and any other into exit code 1, one sentence
each and never a traceback; the HTTP service turns an `InputError` into a 4xx answer.
"""

from typing import Self

__all__ = [
    "ArtifactError",
    "BusyError",
    "CompositionError",
    "DefectNetError",
    "InputError",
    "MissingExtraError",
    "PotentialError",
    "RegistryError",
    "ServiceError",
    "SettingsError",
    "SimulationError",
    "SpectrumError",
    "StorageError",
    "TableError",
    "UnitError",
    "UnstableError",
]


class DefectNetError(Exception):
    """Base of every error raised on purpose."""


class InputError(DefectNetError):
    """What the caller gave is wrong.

    Attributes:
        message: what was wrong and where, with no final stop.
        fix: what the caller can do about it, an imperative clause.
        field: the name of the offending field or option, where there is one.
    """

    def __init__(self, message: str, *, fix: str = "", field: str = "") -> None:
        self.message, self.fix, self.field = message, fix, field
        text = f"{field}: {message}" if field else message
        super().__init__(f"{text}; {fix}" if fix else text)

    def at(self, field: str) -> Self:
        """The same error about another field: `error.at(f"reference.{error.field}")`."""
        return type(self)(self.message, fix=self.fix, field=field)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders in Ray; the default would call __init__ with the joined text alone.
        return (_rebuild, (type(self), self.message, self.fix, self.field))


def _rebuild(cls: type[InputError], message: str, fix: str, field: str) -> InputError:
    return cls(message, fix=fix, field=field)


class UnitError(InputError):
    """An unknown or missing unit."""


class SpectrumError(InputError):
    """A spectrum that is empty, not finite, negative or not increasing in frequency."""


class CompositionError(InputError):
    """A host, element or concentration that makes no sense."""


class TableError(InputError):
    """A Parquet or Arrow table that breaks its contract."""


class SettingsError(DefectNetError):
    """A configuration file with an unknown or impossible value."""


class ArtifactError(DefectNetError):
    """A model folder that is incomplete, altered or of another version."""


class SimulationError(DefectNetError):
    """One sample cannot be simulated."""


class PotentialError(SimulationError):
    """A potential cannot be loaded, or does not know an element."""


class UnstableError(SimulationError):
    """A crystal is not dynamically stable."""


class RegistryError(DefectNetError):
    """The model registry refused, or cannot be reached."""


class StorageError(DefectNetError):
    """A disk or an object store is full, refuses, or cannot be reached."""


class MissingExtraError(DefectNetError, ImportError):
    """Part of the installation is missing (`defectnet.extras`)."""


class ServiceError(DefectNetError):
    """The HTTP service refused, failed, or cannot be reached."""


class BusyError(ServiceError):
    """The service has more to do than it wants to queue.

    Attributes:
        retry_after_s: when to come back.
        status: the HTTP status that says so.
    """

    def __init__(self, retry_after_s: float = 1.0, *, status: int = 503) -> None:
        self.retry_after_s, self.status = retry_after_s, status
        super().__init__(f"busy; try again in {max(1, round(retry_after_s))} s")

    def __reduce__(self) -> tuple[object, ...]:
        return (_busy, (self.retry_after_s, self.status))


def _busy(retry_after_s: float, status: int) -> BusyError:
    return BusyError(retry_after_s, status=status)
