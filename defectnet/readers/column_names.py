"""What the names of a table's columns say: which line of a header holds them, how it is cut, and each name's part."""

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations, pairwise

from defectnet.elements import VOCABULARY
from defectnet.readers.table_text import Table, split_cells
from defectnet.units import find_unit

__all__ = ["SYMBOLS", "Role", "find_names", "role_of"]

SYMBOLS = frozenset(VOCABULARY)


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
    r"(?:(?:neutron|phonon|vibrational|mode|final|spectrum) )?(?:energy|energies|energie|frequency|frequencies|freqs?"
    r"|freq ?points?|frequenz|wave ?numbers?|wellenzahl|omega|ω|w|nu|ν|e|en|f|x|q?hw|ħω|ℏω|hbar ?(?:omega|w)|δ ?e"
    r"|delta ?e|et|e ?t|energie(?:über|ue?ber)trag|energia|energía|fréquence|frequence|énergie|frequenza"
    r"|bin ?cent(?:re|er)s?|cent(?:re|er)s?|x ?values?|eloss|cm\^?[-−]1|1/cm|thz|mev)"
    r"(?: ?(?:transfer|loss|axis|points?|change|grid|bin|bins|cent(?:re|er)s?))*(?: in)?"
)
_EDGE = r"(?:(?:e|energy|x|bin|freq|frequency|f|edge|omega|w)[ _.-]*)?"
_EDGE_END = r"(?:[ _.-]*(?:e|energy|edge|bound|limit|bin))?"
_LOW = rf"{_EDGE}(?:lo|low|lower|left|min|minimum|start|from|begin){_EDGE_END}"
_HIGH = rf"{_EDGE}(?:hi|high|upper|up|right|max|maximum|end|stop|to){_EDGE_END}"
_ERROR = (
    r"(?:.*\b)?(?:err|error|errors|stderr|sigma|std|stdev|uncert.*|fehler|unsicherheit)(?:\b.*)?|.*err(?:or)?s?"
    r"|.*uncertain.*|e|dy|de|ddos|dg|dgdos|di|ds|σ|δ.*|[±].*|[+]/-.*|y ?err.*"
    r"|.*\b(?:erreurs?|incertitudes?|errore|incertezza|incertidumbre)"
)
_DENSITY = (
    r"(?:.*\b)?(?:g|v|t|f|ph|p|ph ?v|phonon|neutron|total|tot|raw|partial|generali[sz]ed|vibrational)?[ -]?dos(?:\b.*)?"
    r"|.*densit(?:y|ies).*|.*dichte.*|.*état.*|g|rho|ρ|y|z|d|f|g ?exp|intensit(?:y|ies|ät|aet)|signal|values?"
    r"|.*\bcounts?\b.*|states.*|.*\bstates\b.*|i|s|y ?values?"
)
_TOTAL = r"(?:.*\b)?(?:total|tot|sum|summe|gesamt)(?:\b.*)?|.*total.*|tdos"
_PARTIAL = (
    r"(?:.*\b)?(?:p[ -]?dos|pj ?dos|l[ -]?dos|pj[ -]?dos|partial|projected|atom.*|site.*)(?:\b.*)?"
    r"|.*pj?dos.*|.*projected.*"
)
_INTEGRAL = (
    r"(?:int|integral|integrated|cumulative|cum|idos|i dos|n|int .*|int.?(?:ph|pj)?dos.*|integrated.*|cumulative.*)"
)
_WIDTH = r"d ?x|x ?err(?:or)?s?|fwhm|resolution|bin ?widths?|widths?"
_INDEX = r"|index|idx|unnamed: ?\d+|#|no|nr|row|point|points?|id|i|n|zeile"
_INDEX += r"|mode|bin|(?:mode|bin) ?(?:no|number|index)"
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
    r"(?:[/_ ]|\bin )\s*(?:thz|terahertz|mev|ev|cm\^?\{?-?1\}?|cm⁻¹|1/cm|a\.?u\.?|arb\.?(?:itrary)? ?u(?:nits?)?\.?"
    r"|1/mev|1/thz|hz|ghz|ha|ry)\s*$",
    re.IGNORECASE,
)
_BARE_UNIT = re.compile(
    r"[(\[]?\s*(?:thz|tera ?h(?:ert)?z|terahertz|[mµμu]?ev|(?:1 ?/ ?)?cm(?:\^?[{(]?[-−]1[)}]?|\*\*-1|⁻¹)?|ghz|hz|ha"
    r"|hartree|ry|rad/ps|rad/s|2 ?(?:pi|π) ?\*?[ /]?thz|2 ?\*? ?(?:pi|π) ?\*? ?thz|nm)\s*[)\]]?",
    re.IGNORECASE,
)
_ELEMENT = re.compile(r"([A-Z][a-z]?)[ _-]?\d*")
# "sigma^2" and "variance" are no errors but their squares.
_SQUARE = re.compile(r"\^ ?\{?2|²|\*\* ?2|\bsquared?\b|\bvar", re.IGNORECASE)
# "column 2: GDOS", "y: GDOS", "3: error": a line for each column.
_LEGEND = re.compile(
    r"\W*(?:(?:column|col\.?|spalte)?\s*#?(?P<number>\d{1,2})|(?P<ordinal>\d)(?:st|nd|rd|th) column"
    r"|(?P<letter>x|y|e|dy))\s*[:=]\s*(?P<name>\S.*)",
    re.IGNORECASE,
)
_LETTERS = {"x": 1, "y": 2, "e": 3, "dy": 3}
_WIDE = re.compile(r"\s{2,}|\t")
_MOST_WORDS, _MOST_COLUMNS = 12, 6


def role_of(name: str) -> Role:
    """What a column's name says of it."""
    bare = name.strip().strip("\"'#%").strip().rstrip(":").strip()
    match = _ELEMENT.fullmatch(_BRACKETS.sub("", bare).strip())
    # "F", "I", "Y" and "N" are elements and usual names of axes and densities: they need a number, or company.
    if match and match[1] in SYMBOLS and (len(match[1]) == 2 or match[0] != match[1]):
        return Role.PARTIAL
    short = _UNIT_END.sub("", _BRACKETS.sub(" ", bare)).replace("_", " ").strip(" ,;:.=").strip()
    short = re.sub(r"\s+", " ", short)
    if not short:
        # "(meV)" alone is an axis; nothing at all is a table's own column of row numbers.
        return Role.AXIS if bare and find_unit(bare) else Role.INDEX
    for role, pattern in _RULES:
        if pattern.fullmatch(short):
            return Role.UNKNOWN if role == Role.ERROR and _SQUARE.search(short) else role
    return Role.INDEX if re.fullmatch(_INDEX, short, re.IGNORECASE) else Role.UNKNOWN


def find_names(table: Table, n_columns: int) -> tuple[list[str] | None, list[str]]:
    """The names of the columns, and a line of units below them, from a table's header.

    Returns:
        `n_columns` names, or None where no line of the header is one of names; and the units' cells, or [].
    """
    legend = _legend(table.header)
    if sorted(legend) == list(range(1, n_columns + 1)) and role_of(legend[1]) == Role.AXIS:
        return [legend[number] for number in sorted(legend)], []
    units: list[str] = []
    fallback: list[str] | None = None
    for position in range(len(table.header) - 1, -1, -1):
        line, bare = table.header[position], table.bare[position]
        if (match := _LEGEND.match(line)) and not match["number"]:
            continue
        for names, sure in _splits(line, n_columns, table):
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


def _legend(header: Sequence[str]) -> dict[int, str]:
    """Number of a column → its name, from the lines that name one each."""
    found: dict[int, str] = {}
    for line in header:
        if match := _LEGEND.match(line):
            number = _LETTERS.get((match["letter"] or "").lower()) or int(match["number"] or match["ordinal"])
            found.setdefault(number, match["name"].strip())
    return found


def _splits(line: str, n: int, table: Table) -> list[tuple[list[str], bool]]:
    """The ways to cut a line into `n` names, the surest first, and whether it is sure: by more than single blanks.

    Names of columns without a value, which the table has lost, may stand before and behind.
    """
    found: list[tuple[list[str], bool]] = []
    dropped = table.dropped
    for sign in dict.fromkeys((table.separator, ",", ";", "\t", "|")):
        if sign != " " and sign in line:
            cells = split_cells(line, sign)
            if re.search(r"\S\s*[(\[]", line):  # "S(Q,E)" and "(THz, angular)" belong to one name
                cells = [cell.strip().strip("\"'") for cell in re.split(rf"{re.escape(sign)}(?![^(\[]*[)\]])", line)]
            cells = cells[table.dropped_first :] if len(cells) == n + table.dropped_first else cells
            cells = cells[1:] if len(cells) == n + 1 and not cells[0] else cells
            cells = cells[:-1] if len(cells) == n + 1 and not cells[-1] else cells
            found.append((_spread(cells[:n] if 0 < len(cells) - n <= dropped else cells, n), True))
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
        cells = [" ".join(words[a:b]) for a, b in pairwise(borders)]
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
