"""What the columns of a table mean: by their names where they have any, else by their place and their numbers.

A column is never taken for something that its name denies, and where two could be the density the caller is asked.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import InputError, SpectrumError
from defectnet.readers.table_text import Table, split_cells
from defectnet.units import find_unit

__all__ = ["Role", "Roles", "choose_roles", "find_names", "role_of"]

Array = NDArray[np.float64]
GIVE = "give two columns, frequency and density, or a third with the density's error"


class Role(StrEnum):
    """The part of a column."""

    AXIS = "axis"
    LOW = "lower edge"
    HIGH = "upper edge"
    DENSITY = "density"
    TOTAL = "total"
    PARTIAL = "part"
    ERROR = "error"
    INDEX = "row number"
    INTEGRAL = "integral"
    WIDTH = "width on the axis"
    UNKNOWN = "unknown"


_AXIS = (
    r"(?:(?:neutron|phonon|vibrational|mode|final|spectrum) )?(?:energy|energies|energie|frequency|frequencies|freqs?|freq ?points?"
    r"|frequenz|wave ?numbers?|wellenzahl|omega|ω|w|nu|ν|e|en|f|x|q?hw|ħω|ℏω|hbar ?(?:omega|w)|δ ?e|delta ?e|et|e ?t"
    r"|energie(?:über|ue?ber)trag|energia|energía|fréquence|frequence|énergie|frequenza|bin ?cent(?:re|er)s?|cent(?:re|er)s?|x ?values?|eloss"
    r"|cm\^?[-−]1|1/cm|thz|mev)"
    r"(?: ?(?:transfer|loss|axis|points?|change|grid|bin|bins|cent(?:re|er)s?))*(?: in)?"
)
_EDGE = r"(?:(?:e|energy|x|bin|freq|frequency|f|edge|omega|w)[ _.-]*)?"
_LOW = rf"{_EDGE}(?:lo|low|lower|left|min|minimum|start|from|begin)(?:[ _.-]*(?:e|energy|edge|bound|limit|bin))?"
_HIGH = rf"{_EDGE}(?:hi|high|upper|up|right|max|maximum|end|stop|to)(?:[ _.-]*(?:e|energy|edge|bound|limit|bin))?"
_ERROR = r"(?:.*\b)?(?:err|error|errors|stderr|sigma|std|stdev|uncert.*|fehler|unsicherheit)(?:\b.*)?|.*err(?:or)?s?|.*uncertain.*|e|dy|de|ddos|dg|dgdos|di|δ.*|[±].*|[+]/-.*|y ?err.*"
_DENSITY = (
    r"(?:.*\b)?(?:g|v|t|f|ph|p|ph ?v|phonon|neutron|total|tot|raw|partial|generali[sz]ed|vibrational)?[ -]?dos(?:\b.*)?|.*densit(?:y|ies).*|.*dichte.*|.*état.*"
    r"|g|rho|ρ|y|z|d|f|g ?exp|intensit(?:y|ies|ät|aet)|signal|values?|.*\bcounts?\b.*|states.*|.*\bstates\b.*|i|s|y ?values?|f2|alpha2f"
)
_TOTAL = r"(?:.*\b)?(?:total|tot|sum|summe|gesamt)(?:\b.*)?|.*total.*|tdos"
_PARTIAL = r"(?:.*\b)?(?:p[ -]?dos|pj ?dos|l[ -]?dos|pj[ -]?dos|partial|projected|atom.*|site.*)(?:\b.*)?|.*pj?dos.*|.*projected.*"
_INTEGRAL = (
    r"(?:int|integral|integrated|cumulative|cum|idos|i dos|n|int .*|int.?(?:ph|pj)?dos.*|integrated.*|cumulative.*)"
)
_WIDTH = r"d ?x|x ?err(?:or)?s?|fwhm|resolution|bin ?widths?|widths?"
_INDEX = r"|index|idx|unnamed: ?\d+|#|no|nr|row|point|points?|id|i|n|bin|bin ?(?:no|number|index)|zeile"
_RULES = tuple(
    (role, re.compile(pattern, re.IGNORECASE))
    for role, pattern in (
        (Role.WIDTH, _WIDTH),
        (Role.LOW, _LOW),
        (Role.HIGH, _HIGH),
        (Role.AXIS, _AXIS),
        (Role.INTEGRAL, _INTEGRAL),
        (Role.ERROR, _ERROR),
        (Role.TOTAL, _TOTAL),
        (Role.PARTIAL, _PARTIAL),
        (Role.DENSITY, _DENSITY),
    )
)
_BRACKETS = re.compile(r"[\[({][^\])}]*[\])}]|[\[({].*$")
_UNIT_END = re.compile(
    r"(?:[/_ ]|\bin )\s*(?:thz|terahertz|mev|ev|cm\^?\{?-?1\}?|cm⁻¹|1/cm|a\.?u\.?|arb\.?(?:itrary)? ?u(?:nits?)?\.?|1/mev|1/thz|hz|ghz|ha|ry)\s*$",
    re.IGNORECASE,
)
# What spectra and other curves are plotted over that is neither a frequency nor an energy.
_NO_FREQUENCY = re.compile(
    r"\b(?:time|temp(?:erature)?|2? ?theta|angle|distance|radius|position|wave ?vector|momentum|q|wave ?length|channel|pressure|volume|mass"
    r"|d[- ]?spacing|delay|lag|zeit|temperatur|wellenlänge|tof|magnetic field|kelvin)\b|θ|λ",
    re.IGNORECASE,
)
_BARE_UNIT = re.compile(
    r"[(\[]?\s*(?:thz|tera ?h(?:ert)?z|terahertz|[mµμu]?ev|(?:1 ?/ ?)?cm(?:\^?[{(]?[-−]1[)}]?|\*\*-1|⁻¹)?|ghz|hz|ha|hartree|ry|rad/ps|rad/s"
    r"|2 ?(?:pi|π) ?\*?[ /]?thz|2 ?\*? ?(?:pi|π) ?\*? ?thz|nm)\s*[)\]]?",
    re.IGNORECASE,
)
_ELEMENT = re.compile(r"([A-Z][a-z]?)[ _-]?\d*")
_SYMBOLS = frozenset(VOCABULARY)
_WIDE = re.compile(r"\s{2,}|\t")
_MOST_WORDS, _MOST_COLUMNS = 12, 6
# Parts that sum to a total do so but for the digits that were written.
_SUM = 0.02
# The median of a measured density's standard errors, in shares of it, beyond which nobody would publish it.
_LARGEST_ERROR = 0.4
# Edges that two neighbouring bins share agree but for the digits that were written: in shares of a bin's width.
_SAME_EDGE = 0.05


@dataclass(frozen=True)
class Roles:
    """Which column is what, by their places from 0 on."""

    axis: int
    density: tuple[int, ...]  # summed
    high: int | None = None  # upper edges; `axis` are then the lower ones
    error: int | None = None
    partial: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    counts: bool | None = None


def role_of(name: str) -> Role:
    """What a column's name says of it."""
    bare = name.strip().strip("\"'#%").strip().rstrip(":").strip()
    match = _ELEMENT.fullmatch(_BRACKETS.sub("", bare).strip())
    # "F", "I", "Y" and "N" are elements and usual names of axes and densities: they need a number, or company.
    if match and match[1] in _SYMBOLS and (len(match[1]) == 2 or match[0] != match[1]):
        return Role.PARTIAL
    short = _UNIT_END.sub("", _BRACKETS.sub(" ", bare)).replace("_", " ").strip(" ,;:.=").strip()
    short = re.sub(r"\s+", " ", short)
    if not short:
        # "(meV)" alone is an axis; nothing at all is a table's own column of row numbers.
        return Role.AXIS if bare and find_unit(bare) else Role.INDEX
    for role, pattern in _RULES:
        if pattern.fullmatch(short):
            return role
    return Role.INDEX if re.fullmatch(_INDEX, short, re.IGNORECASE) else Role.UNKNOWN


def find_names(table: Table, n_columns: int) -> tuple[list[str] | None, list[str]]:
    """The names of the columns, and a line of units below them, from a table's header.

    Returns:
        `n_columns` names, or None where no line of the header is one of names; and the units' cells, or [].
    """
    units: list[str] = []
    fallback: list[str] | None = None
    for position in range(len(table.header) - 1, -1, -1):
        line, bare = table.header[position], table.bare[position]
        for names, sure in _splits(line, n_columns, table.separator):
            if _are_units(names):
                units = units or names
                break
            if _are_names(names, anywhere=sure):
                return names, units
        if bare and fallback is None and not units:
            cells = split_cells(line, table.separator)
            if len(cells) == n_columns and not any(_is_number(cell) for cell in cells):
                fallback = cells
    return fallback, units


def _splits(line: str, n: int, separator: str) -> list[tuple[list[str], bool]]:
    """The ways to cut a line into `n` names, the surest first, and whether it is sure: by more than single blanks."""
    found: list[tuple[list[str], bool]] = []
    for sign in dict.fromkeys((separator, ",", ";", "\t", "|")):
        if sign != " " and sign in line:
            cells = split_cells(line, sign)
            if len(cells) > n and re.search(r"[(\[]", line):  # "S(Q,E)" is one name
                cells = [cell.strip() for cell in re.split(rf"{re.escape(sign)}(?![^(\[]*[)\]])", line)]
            cells = cells[1:] if len(cells) == n + 1 and not cells[0] else cells
            cells = cells[:-1] if len(cells) == n + 1 and not cells[-1] else cells
            found.append((_spread(cells, n), True))
    found.append((_spread([cell for cell in _WIDE.split(line.strip()) if cell], n), True))
    words = split_cells(_glue(line), " ")
    words = [word.replace("\x00", " ") for word in words]
    found.append((_spread(words, n), False))
    found += [(cells, False) for cells in _merged(words, n)]
    return [(cells, sure) for cells, sure in found if len(cells) == n]


def _glue(line: str) -> str:
    """Blanks inside brackets, and before a bracket, hold together: "energy (1 / cm)" is one name."""
    line = re.sub(r"[\[({][^\])}]*[\])}]", lambda match: match[0].replace(" ", "\x00"), line)
    line = re.sub(r"(?<=\S) +(?=[\[(])", "\x00", line)
    return re.sub(r" +/ +", "\x00/\x00", line)


def _spread(cells: list[str], n: int) -> list[str]:
    """A last name that stands for all the columns that follow: "DOS PDOS", "PJDOS[atom=1] ..."."""
    cells = [cell.strip() for cell in cells]
    if cells and cells[-1] in ("...", "…"):
        cells = cells[:-1]
        period = 2 if len(cells) > 3 and role_of(cells[-1]) == Role.INTEGRAL else 1
        while cells and len(cells) < n:
            cells = cells + cells[-period:]
        return cells[:n]
    if 2 < len(cells) < n and role_of(cells[-1]) == Role.PARTIAL:
        return cells + [cells[-1]] * (n - len(cells))
    if len(cells) > n > 3 and role_of(cells[-1]) in (Role.PARTIAL, Role.INTEGRAL):
        return cells[:n]
    return cells


def _merged(words: list[str], n: int) -> list[list[str]]:
    """Names of several words apart by single blanks: every cut whose parts all mean something."""
    if not n < len(words) <= _MOST_WORDS or n > _MOST_COLUMNS:
        return []
    found = []
    # The longest names first: "energy transfer (meV)" and "GDOS", not "energy" and "transfer (meV) GDOS".
    for cuts in reversed(list(combinations(range(1, len(words)), n - 1))):
        borders = (0, *cuts, len(words))
        cells = [" ".join(words[a:b]) for a, b in zip(borders, borders[1:], strict=False)]
        if all(role_of(cell) not in (Role.UNKNOWN, Role.INDEX) for cell in cells):
            found.append(cells)
    return found


def _are_names(cells: Sequence[str], anywhere: bool) -> bool:
    """Whether cells name columns: one is an axis, the first where blanks alone part them ("density in 1/THz")."""
    roles = [role_of(cell) for cell in cells]
    # "unit: meV" names no column: a unit alone can only be the first.
    roles = [
        Role.UNKNOWN if place and _is_unit(cell) else role
        for place, (role, cell) in enumerate(zip(roles, cells, strict=True))
    ]
    if not anywhere:
        roles = roles[:2] if roles[0] == Role.INDEX else roles[:1]
    return (Role.AXIS in roles or Role.LOW in roles) and not any(re.match(r"[+-]?\d(?!/)", cell) for cell in cells)


def _are_units(cells: Sequence[str]) -> bool:
    """Whether each cell is a unit (or nothing) and no more: "meV", "a.u."; "thz dos" is not."""
    words = [cell.strip(" ()[]").lower() for cell in cells]
    arbitrary = r"|1|-|a\.? ?u\.?|arb\.?( ?units?| ?u\.?)?|(1/|states?/).*|barn.*|counts?|none|norm.*|sr.*|[^a-z]*"
    if not any(words):
        return False
    return all(re.fullmatch(arbitrary, word) or _is_unit(word) for word in words) and any(map(_is_unit, words))


def _is_unit(word: str) -> bool:
    bare = word.strip()
    if not bare or len(bare) > 24:
        return False
    return _BARE_UNIT.fullmatch(bare) is not None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def choose_roles(
    names: list[str] | None, values: Array, table: Table, given: str | None, column: str | None, where: str
) -> Roles:
    """Decide which column is what.

    Args:
        names: of the columns, or None.
        values: shape (n_rows, n_columns).
        table: where they come from.
        given: the caller's unit: it chooses among axes in several.
        column: the caller's choice of the density, a name or a number from 1 on.
        where: the file's name.

    Raises:
        SpectrumError: a column whose part is not clear, or no density.
        InputError: there is no column of the caller's name.
    """
    if names is None:
        return _by_place(values, table, column, where)
    roles = _refined(names, values)
    axis, high, notes = _axis(names, roles, given, where)
    if column is not None:
        density: tuple[int, ...] = (_named_column(column, names, values.shape[1], where),)
    else:
        density = _density(names, roles, axis, high, where)
    first = density[0]
    error = next((i for i in range(first + 1, len(roles)) if roles[i] == Role.ERROR), None)
    if error is None and len(density) == 1:
        error = next((i for i in range(first) if roles[i] == Role.ERROR), None)
    partial = tuple((names[i], i) for i, role in enumerate(roles) if role == Role.PARTIAL and i != axis)
    counts = bool(re.search(r"\bcounts?\b", names[first], re.IGNORECASE)) or None
    return Roles(
        axis,
        density,
        high,
        error,
        partial if len(density) > 1 or first not in dict(partial).values() else (),
        notes,
        counts,
    )


def _refined(names: list[str], values: Array) -> list[Role]:
    """Roles that the numbers and the other names bear out."""
    roles = [role_of(name) for name in names]
    refined = list(roles)
    for place, role in enumerate(roles):
        column = values[:, place]
        if Role.PARTIAL in roles and names[place].strip() in _SYMBOLS and Role.AXIS in roles[:place]:
            refined[place] = Role.PARTIAL
            continue
        if role == Role.INDEX and not (len(column) > 1 and np.all(np.diff(column) == 1)):
            refined[place] = Role.UNKNOWN
        # "e", "f" and "w" after an axis are no second one.
        if role == Role.AXIS and Role.AXIS in roles[:place]:
            rising = np.all(np.diff(column) > 0) and not (place > 1 and names[place].strip().lower() == "e")
            refined[place] = Role.AXIS if rising else (Role.ERROR if place > 1 else Role.DENSITY)
    if refined.count(Role.DENSITY) == 0 and refined.count(Role.PARTIAL) == 1 and Role.TOTAL not in refined:
        refined[refined.index(Role.PARTIAL)] = Role.DENSITY
    return refined


def _axis(
    names: list[str], roles: list[Role], given: str | None, where: str
) -> tuple[int, int | None, tuple[str, ...]]:
    if Role.LOW in roles and Role.HIGH in roles and Role.AXIS not in roles:
        return roles.index(Role.LOW), roles.index(Role.HIGH), ()
    axes = [place for place, role in enumerate(roles) if role == Role.AXIS]
    if not axes and len(names) == 2 and not _NO_FREQUENCY.search(names[0]):
        return 0, None, ()
    if not axes:
        raise SpectrumError(f"no column of {where} is named as the axis ({_list(names)})", fix=GIVE, field="file")
    if len(axes) > 1:
        units = {place: found.name for place in axes if (found := find_unit(names[place]))}
        wanted = find_unit(given) if given else None
        chosen = [p for p, unit in units.items() if wanted is None or unit == wanted.name]
        if len(units) < len(axes) or not chosen:
            raise SpectrumError(f"{where} has several axes ({_list(names)})", fix=GIVE, field="file")
        return chosen[0], None, (f"of its axes, {names[chosen[0]]!r} was read",)
    return axes[0], None, ()


def _density(names: list[str], roles: list[Role], axis: int, high: int | None, where: str) -> tuple[int, ...]:
    taken = {axis, high}
    rest = [i for i in range(len(names)) if i not in taken and roles[i] not in (Role.INDEX, Role.INTEGRAL, Role.WIDTH)]
    totals = [i for i in rest if roles[i] == Role.TOTAL]
    dense = [i for i in rest if roles[i] == Role.DENSITY]
    unknown = [i for i in rest if roles[i] in (Role.UNKNOWN, Role.LOW, Role.HIGH)]
    parts = [i for i in rest if roles[i] == Role.PARTIAL]
    if len(totals) == 1 and not unknown:
        return (totals[0],)
    if not totals and len(dense) == 1 and not unknown:
        return (dense[0],)
    if not totals and not dense and len(unknown) == 1 and not parts:
        return (unknown[0],)
    if not totals and not dense and parts and not unknown:
        return tuple(parts)
    if not (totals or dense or unknown or parts):
        raise SpectrumError(f"no column of {where} is a density ({_list(names)})", fix=GIVE, field="file")
    choose = (
        f"name the density with --column, such as --column {(dense or unknown)[0] + 1 if (dense or unknown) else 2}"
    )
    if len(names) == 3 and axis == 0 and roles[2] != Role.ERROR:
        raise SpectrumError(f"the third column of {where}, {names[2]!r}, is no error", fix=choose, field="file")
    raise SpectrumError(
        f"which column of {where} is the density is not clear ({_list(names)})", fix=choose, field="file"
    )


def _named_column(column: str, names: list[str] | None, n: int, where: str) -> int:
    if column.isdigit() and 1 <= int(column) <= n:
        return int(column) - 1
    wanted = column.strip().lower()
    found = [i for i, name in enumerate(names or []) if wanted == name.strip().lower()]
    found = found or [i for i, name in enumerate(names or []) if wanted in name.lower()]
    if len(found) != 1:
        have = _list(names) if names else f"{n} columns without names"
        raise InputError(
            f"{where} has no single column {column!r}", fix=f"give a number or a name: {have}", field="--column"
        )
    return found[0]


def _by_place(values: Array, table: Table, column: str | None, where: str) -> Roles:
    """Columns without names: by place, unless the numbers say otherwise."""
    n = values.shape[1]
    notes: list[str] = []
    first = 0
    if n > 2 and np.all(np.diff(values[:, 0]) == 1) and np.all(np.diff(values[:, 1]) > 0):
        first, n = 1, n - 1
        notes.append("its first column numbers the rows and was left out")
    high = None
    if n > 2 and values.shape[0] > 2 and np.all(np.diff(values[:, first + 1]) > 0):
        steps = np.diff(values[:, first])
        if np.abs(values[1:, first] - values[:-1, first + 1]).max() > _SAME_EDGE * np.abs(steps).min():
            raise SpectrumError(
                f"columns {first + 1} and {first + 2} of {where} both rise like an axis",
                fix="name the columns in a first line",
                field="file",
            )
        high = first + 1
        notes.append("its first two columns are the edges of bins")
    density = (high if high is not None else first) + 1
    rest = list(range(density + 1, values.shape[1]))
    if column is not None:
        density, rest = _named_column(column, None, values.shape[1], where), []
    if not rest:
        return Roles(first, (density,), high, notes=tuple(notes))
    summed, total = np.nansum(values[:, rest], axis=1), values[:, density]
    if np.abs(summed - total).max() <= _SUM * np.abs(total).max():
        notes.append(f"column {density + 1} is the sum of those that follow: they were taken for its parts")
        return Roles(first, (density,), high, notes=tuple(notes))
    if len(rest) > 1:
        raise SpectrumError(
            f"{where} has {values.shape[1]} columns", fix=f"{GIVE}, or name the density with --column", field="file"
        )
    if table.separator == "," and table.all_whole:
        raise SpectrumError(
            f"{where} has whole numbers alone: its commas may be decimal ones",
            fix="name the columns in a first line, or write decimal points",
            field="file",
        )
    _check_error(values[:, density], values[:, rest[0]], rest[0] + 1, where)
    return Roles(first, (density,), high, error=rest[0], notes=tuple(notes))


def _check_error(density: Array, error: Array, number: int, where: str) -> None:
    """A column without a name is no error where it is as large as the density: then it is a part, or another curve."""
    large = density > 0.1 * np.nanmax(density)
    if np.nanmedian(error[large] / density[large]) > _LARGEST_ERROR:
        raise SpectrumError(
            f"column {number} of {where} has no name and is too large for the density's error",
            fix="name the columns in a first line, or leave it out",
            field="file",
        )


def _list(names: list[str]) -> str:
    return ", ".join(f"{number} {name!r}" for number, name in enumerate(names, start=1))
