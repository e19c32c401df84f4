"""Hosts (the pristine crystal's composition) and defects (a foreign element on one of its sites)."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from pymatgen.core import Composition

from defectnet.elements import check_element
from defectnet.errors import CompositionError

__all__ = ["MAX_CONCENTRATION", "MAX_DEFECTS", "MIN_CONCENTRATION", "Defect", "Host"]

# The range that DefectNet is made for: fractions of all atoms (arXiv:2506.00725 uses the same).
MIN_CONCENTRATION = 0.002
MAX_CONCENTRATION = 0.25
MAX_DEFECTS = 6

# Letters, digits, dots and brackets; anything else never is a formula and is refused before it reaches a parser.
_FORMULA = re.compile(r"[A-Za-z0-9.()\[\]]{1,120}")


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
        text = self.formula.strip() if isinstance(self.formula, str) else ""
        if not _FORMULA.fullmatch(text):
            raise _not_a_formula(self.formula)
        try:
            composition = Composition(text, strict=True)
        except Exception:  # pymatgen raises several unrelated types for text it cannot read
            raise _not_a_formula(self.formula) from None
        if composition.num_atoms <= 0 or not isfinite(composition.num_atoms):
            raise _not_a_formula(self.formula)
        for element in composition.elements:
            check_element(element.symbol, field="host")
        with warnings.catch_warnings():
            # pymatgen orders a formula by electronegativity and warns that noble gases have none.
            warnings.simplefilter("ignore")
            # Fractions are rounded to 1/10,000, so that Si0.9Ge0.1 and Si9Ge1 are one host.
            integral = composition.get_integer_formula_and_factor(max_denominator=10_000)[0]
            object.__setattr__(self, "formula", Composition(integral).reduced_formula)

    @cached_property
    def fractions(self) -> Mapping[str, float]:
        """Element → fraction of all atoms; sums to 1."""
        composition = Composition(self.formula).fractional_composition
        return {element.symbol: float(amount) for element, amount in composition.items()}

    @property
    def elements(self) -> tuple[str, ...]:
        """The elements of the host, in the order of the formula."""
        return tuple(self.fractions)


def _not_a_formula(text: object) -> CompositionError:
    return CompositionError(
        f"{text!r} is not a chemical formula", fix='write it like "GaAs" or "Si0.9Ge0.1"', field="host"
    )


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
