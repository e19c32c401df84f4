"""Hosts (the pristine crystal's composition) and defects (a foreign element on one of its sites)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite

from defectnet.chemistry.formula import parse_formula, reduced_formula
from defectnet.elements import VOCABULARY, check_element, descriptors
from defectnet.errors import CompositionError

__all__ = ["MAX_CONCENTRATION", "MAX_DEFECTS", "MIN_CONCENTRATION", "Defect", "Host", "nearest_host_element"]

# The range that DefectNet is made for: fractions of all atoms (arXiv:2506.00725 uses the same).
MIN_CONCENTRATION = 0.002
MAX_CONCENTRATION = 0.25
MAX_DEFECTS = 6
# The spectra of a table are of few hosts.
_FORMULAS_KEPT = 4096


@dataclass(frozen=True)
class Host:
    """The pristine crystal as its composition.

    Attributes:
        formula: a formula such as "GaAs" or "Si0.9Ge0.1"; two formulas of one composition make equal hosts.

    Raises:
        CompositionError: the formula cannot be read or names something that is no element.
    """

    formula: str

    def __post_init__(self) -> None:
        # What comes from JSON may be no text; what is kept has no more letters than a formula has.
        text = self.formula
        reduced = _reduced(text.strip()) if isinstance(text, str) else reduced_formula(parse_formula(text))
        object.__setattr__(self, "formula", reduced)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Element → atoms in the formula."""
        return dict(_counted(self.formula))

    @cached_property
    def fractions(self) -> Mapping[str, float]:
        """Element → fraction of all atoms; sums to 1."""
        total = sum(self.counts.values())
        return {symbol: count / total for symbol, count in self.counts.items()}

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements of the host, in the order of the formula."""
        return tuple(self.fractions)


@lru_cache(maxsize=_FORMULAS_KEPT)
def _reduced(formula: str) -> str:
    return reduced_formula(parse_formula(formula))


@lru_cache(maxsize=_FORMULAS_KEPT)
def _counted(formula: str) -> Mapping[str, int]:
    return {symbol: round(amount) for symbol, amount in parse_formula(formula).items()}


def nearest_host_element(element: str, host: Host) -> str:
    """The host element most like another by the model's descriptors of elements."""
    table = descriptors()
    own = table[VOCABULARY.index(element)]
    return min(host.elements, key=lambda symbol: float(((table[VOCABULARY.index(symbol)] - own) ** 2).sum()))


@dataclass(frozen=True, order=True)
class Defect:
    """A substitutional point defect.

    Attributes:
        element: the foreign element.
        replaces: the host element whose site it takes.
        concentration: fraction of *all* atoms of the crystal, between 0 and 1.
    """

    element: str
    replaces: str
    concentration: float

    def __post_init__(self) -> None:
        check_element(self.element, field="defects.element")
        check_element(self.replaces, field="defects.replaces")
        if not (isfinite(self.concentration) and 0.0 < self.concentration <= 1.0):
            raise CompositionError(
                f"{self.concentration!r} is no concentration",
                fix="give a fraction of all atoms between 0 and 1",
                field="defects.concentration",
            )
