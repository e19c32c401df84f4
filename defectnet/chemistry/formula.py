"""Chemical formulas: read, reduced to whole numbers, and written in one way whoever wrote them.

Elements are ordered by electronegativity, and two last elements that form an anion are bracketed: "Ca(HO)2". These are
pymatgen's conventions, for tables that carry its formulas are joined by them.
"""

import math
import re
from collections.abc import Mapping

from defectnet.elements import check_element, element
from defectnet.errors import CompositionError

__all__ = ["parse_formula", "reduced_formula"]

# Letters, digits, dots and brackets; anything else never is a formula and is refused before it is parsed.
_FORMULA = re.compile(r"[A-Za-z0-9.()\[\]]{1,120}")
_GROUP = re.compile(r"([A-Z][a-z]*)([-.e\d]*)")
_GROUPS = re.compile(rf"(?:{_GROUP.pattern})*")
_BRACKETS = re.compile(r"\(([^()]+)\)([.e\d]*)")
_ISOTOPES = {"D": "H", "T": "H"}
# Amounts below this are rounding.
_LEAST_AMOUNT = 1e-8
# Fractions are rounded to 1/10,000, so that Si0.9Ge0.1 and Si9Ge1 are one host.
_MOST_DENOMINATOR = 10_000
# Molecules and peroxides keep their two atoms.
_PAIRS = {"LiO", "NaO", "KO", "HO", "CsO", "RbO", "O", "N", "F", "Cl", "H"}
# Beyond this difference of electronegativity two elements are no polyanion.
_POLYANION_DIFFERENCE = 1.65


def parse_formula(text: str, *, field: str = "host") -> dict[str, float]:
    """Read a formula such as "GaAs", "Si0.9Ge0.1" or "Ca(OH)2".

    Returns:
        element → atoms in the formula, in the order of first mention.

    Raises:
        CompositionError: it cannot be read, names something that is no element, or holds no atom.
    """
    try:
        # What comes from a table or from JSON may be no text at all.
        if not (isinstance(text, str) and _FORMULA.fullmatch(text.strip())):
            raise ValueError(text)
        flat = text.strip().translate(str.maketrans("[]", "()"))
        while match := _BRACKETS.search(flat):
            inner = _count(match[1], float(match[2] or 1.0))
            flat = flat.replace(match.group(), "".join(f"{symbol}{amount}" for symbol, amount in inner.items()), 1)
        amounts = {symbol: amount for symbol, amount in _count(flat, 1.0).items() if amount >= _LEAST_AMOUNT}
        total = sum(amounts.values())
        # No element's symbol has three letters: "Silicon" is a word.
        if not (total > 0 and math.isfinite(total)) or max(map(len, amounts)) > 2:
            raise ValueError(text)
    except ValueError:
        raise CompositionError(
            f"{text!r} is not a chemical formula", fix='write it like "GaAs" or "Si0.9Ge0.1"', field=field
        ) from None
    for symbol in amounts:
        check_element(symbol, field=field)
    return amounts


def _count(form: str, factor: float) -> dict[str, float]:
    if not _GROUPS.fullmatch(form):
        raise ValueError(form)
    counted: dict[str, float] = {}
    for match in _GROUP.finditer(form):
        symbol = _ISOTOPES.get(match[1], match[1])
        counted[symbol] = counted.get(symbol, 0.0) + float(match[2] or 1.0) * factor
    return counted


def reduced_formula(amounts: Mapping[str, float]) -> str:
    """The formula of the smallest whole numbers, such as "Si9Ge" for 0.9 Si and 0.1 Ge."""
    unit = 0.0
    for amount in amounts.values():
        unit = _common_divisor(unit, amount)
    return _written({symbol: round(amount / unit) for symbol, amount in amounts.items()})


def _common_divisor(one: float, other: float) -> float:
    if one == 0.0:
        return other
    while other > 1.0 / _MOST_DENOMINATOR:
        one, other = other, one % other
    return one


def _written(counts: Mapping[str, int]) -> str:
    formula, _ = _factored(counts)
    return "".join(f"{symbol}2" for symbol in re.findall("[A-Z][a-z]*", formula)) if formula in _PAIRS else formula


def _factored(counts: Mapping[str, int]) -> tuple[str, int]:
    """The formula of counts divided by their greatest common divisor, and the divisor."""

    def place(symbol: str) -> tuple[float, str]:
        pull = element(symbol).electronegativity
        return (math.inf if math.isnan(pull) else pull), symbol

    factor = math.gcd(*counts.values())
    symbols = sorted((symbol for symbol, count in counts.items() if count), key=place)
    anion = ""
    if len(symbols) >= 3:
        first, last = symbols[-2:]
        if element(last).electronegativity - element(first).electronegativity < _POLYANION_DIFFERENCE:
            inner, times = _factored({symbol: counts[symbol] // factor for symbol in (first, last)})
            if times != 1:
                anion = f"({inner}){times}"
                symbols = symbols[:-2]
    numbers = {symbol: counts[symbol] // factor for symbol in symbols}
    return "".join(f"{symbol}{count if count != 1 else ''}" for symbol, count in numbers.items()) + anion, factor
