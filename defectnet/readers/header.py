"""What the lines above the numbers say beside the columns' names: unit, weighting, smoothing, another kind of data."""

import re
from collections.abc import Sequence

from defectnet.errors import InputError, SpectrumError
from defectnet.readers.column_names import Role, role_of
from defectnet.readers.reading import Broadening
from defectnet.spectrum import FWHM_PER_SIGMA
from defectnet.units import SaidUnit, find_unit, parse_unit, unit_named

__all__ = ["broadening_said", "refuse_optical", "refuse_other", "unit_lines", "weighting_said"]

# "unit: meV", "# Energy units = cm-1", "x unit: THz"; not "density units: 1/THz", which are another column's.
_UNIT_LINE = re.compile(
    r"^\W*(?:the\s+)?(?:(?:axis|x|x[- _]axis|energy|energies|frequency|frequencies"
    r"|frequency[- _]axis|energy[- _]axis|energy transfer)[\s_]+)?"
    r"units?(?:\s+of\s+(?:the\s+)?(?:axis|x|energy|energies|frequency|frequencies))?\s*(?:[:=]|\bis\b)\s*(?P<unit>.+)$",
    re.IGNORECASE,
)
# "column 1: energy (meV)", "x: energy transfer (meV)", "1: Frequency / THz"
_AXIS_LINE = re.compile(
    r"^\W*(?:(?:column|col\.?|row)\s*1|1st column|first column|x|x[- ]axis)\s*[:=]\s*(?P<name>.+)$", re.IGNORECASE
)
# "omega; units=rad/ps", of MDANSE
_NAMED_UNIT = re.compile(r"^\W*(?P<name>\w[\w ]*?)\s*[;,]\s*units?\s*[:=]\s*(?P<unit>[^;,]+)", re.IGNORECASE)
# "- {name: energy, unit: meV, datatype: float64}", of Astropy's ECSV
_ECSV_LINE = re.compile(r"^\W*name:\s*(?P<name>[^,}]+),\s*unit:\s*(?P<unit>[^,}]+)")
_ARBITRARY = re.compile(r"a\.? ?u\.?|arb.*|counts?|none|-", re.IGNORECASE)
_ANGULAR = re.compile(r"\bangular\s+frequenc|\bkreisfrequenz", re.IGNORECASE)
_OPTICAL = re.compile(
    r"\braman\b(?!\s*(?:-?\s*inactive|activities))|\binfra-?red\b|\bft-?ir\b|\bir\s+(?:spectr|absor|intensit|data)"
    r"|\babsorbance\b|\babsorption\b"
    r"|\babsorptance\b|\btransmittance\b|\btransmission\b|\breflectance\b|\breflectivity\b|\bextinktion\b|\bextinction\b"
    r"|\bkubelka"
    r"|\b(?:laser|excitation)\b[^a-z]*\d+(?:\.\d+)?\s*nm|\b\d{3,4}(?:\.\d+)?\s*nm\s+(?:laser|excitation)"
    r"|#?laser\s*[=:(]|acq\.? time|\bstokes\b"
    r"|%\s*[TR]\b|\b[TR]\s*[(\[/]\s*%|\babs\b\.?|\A\W*wave\s+#?intensity\s*\Z",
    re.IGNORECASE,
)
# Other curves over an energy or a frequency, by their names; none counts the modes.
_OTHER = re.compile(
    r"\b(?:alpha|α|a)(?:\^?2|²) ?f\b|\beliashberg\b|\bepsilon|\bε|\bdielectric|\bpermittivity|\bconductivity\b"
    r"|\bsigma_?[12]\b|\brefractive|\bheat capacity\b|\bc_?v\b|\bfermi\b|\be[-−]?e_?f(?:ermi)?\b|\belectronic\b"
    r"|\bdegenerac(?:y|ies)\b|\bmultiplicit(?:y|ies)\b|\bself[- ]energy\b|\blinewidth"
    r"|\blife ?times?\b|\bgr(?:ü|ue|u)neisen",
    re.IGNORECASE,
)
_NEUTRON = re.compile(
    r"neutron[- ]weighted|neutron[- ]weighting|weight(?:ed|ing)\W+(?:by\s+)?(?:neutron|coherent|incoherent)"
    r"|(?:kind|weighting)\W+neutron"
    r"|weighted (?:by|with) (?:the )?(?:neutron|scattering)|\bcoherent(?:[- ]plus[- ]incoherent)? weight",
    re.IGNORECASE,
)
_NUMBER = r"(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?)"
_GAUSSIAN = re.compile(
    rf"(?P<what>fwhm|sigma|σ|smearing|broadening)\b(?:(?!\bT\b|temp|\^|²|fwhm|hwhm|sigma|σ|lorentz)[^0-9+\-.]){{0,40}}{_NUMBER}\s*(?P<unit>[A-Za-zµμ^/⁻¹-]*\d?)",
    re.IGNORECASE,
)
_TETRAHEDRON = re.compile(r"tetrahedr", re.IGNORECASE)


def unit_lines(header: Sequence[str]) -> list[tuple[SaidUnit, str]]:
    """The units that lines of the header say for the axis, each with the line.

    Raises:
        UnitError: such a line names no unit that is known.
    """
    found = []
    for line in header:
        match = _UNIT_LINE.match(line)
        if match:
            first = re.split(r"[,;|]|\s{2,}", match["unit"].strip(" :="))[0].strip()
            # Mantid's "X-axis unit is: Energy transfer" names the quantity; arbitrary units are the density's.
            if (role_of(first) == Role.AXIS and find_unit(first) is None) or _ARBITRARY.fullmatch(first):
                continue
            found.append((find_unit(first) or unit_named(parse_unit(first)), f"its line {line.strip()[:40]!r}"))
        elif (match := _ECSV_LINE.match(line) or _NAMED_UNIT.match(line)) and role_of(match["name"]) == Role.AXIS:
            found.append((find_unit(match["unit"]) or unit_named(parse_unit(match["unit"])), f"its line {line[:40]!r}"))
        elif match := _AXIS_LINE.match(line):
            named = find_unit(re.split(r"[,;|]", match["name"])[0])
            if named is not None:
                found.append((named, f"its line {line.strip()[:40]!r}"))
        elif _ANGULAR.search(line):
            found.append((find_unit("angular") or unit_named("THz"), f"its line {line.strip()[:40]!r}"))
    return found


def refuse_optical(lines: Sequence[str], where: str) -> None:
    """Raise `InputError` where a header or a column speaks of Raman, infrared or absorption data.

    Selection rules hide and reveal modes: such a spectrum looks doped to a model of densities.
    """
    for line in lines:
        match = _OPTICAL.search(line) or ("_" in line and _OPTICAL.search(line.replace("_", " ")))
        if match:
            raise InputError(
                f"{where} is no density of states: it speaks of {match[0].strip()!r} ({line.strip()[:50]!r})",
                fix="give a neutron or computed density of states",
                field="file",
            )


def refuse_other(names: Sequence[str], where: str) -> None:
    """Raise `SpectrumError` where a column is named as another curve than a density of vibrational states."""
    for name in names:
        match = _OTHER.search(name.replace("_", " ")) or _OTHER.search(name)
        if match:
            raise SpectrumError(
                f"{where} is no density of vibrational states: it has {name.strip()[:40]!r}",
                fix="give the density of states alone",
                field="file",
            )


def weighting_said(header: Sequence[str]) -> tuple[str | None, str]:
    """The kind that the header says, and its words."""
    for line in header:
        if match := _NEUTRON.search(line):
            return "neutron", match[0].strip()
    return None, ""


def broadening_said(header: Sequence[str], axis_thz: float) -> Broadening | None:
    """How the header says that the density was smoothed.

    Args:
        axis_thz: THz in one unit of the axis, for a width that names none.
    """
    for line in header:
        if _TETRAHEDRON.search(line):
            return Broadening("tetrahedron method", 0.0)
        match = _GAUSSIAN.search(line)
        if match is None:
            continue
        unit = find_unit(match["unit"]) if match["unit"] else None
        factor = axis_thz if unit is None or unit.thz is None else unit.thz
        width = abs(float(match["number"].lower().replace("d", "e"))) * factor
        sigma = width / FWHM_PER_SIGMA if match["what"].lower() == "fwhm" else width
        # A number beside the word that is no width of a phonon spectrum, such as a count, says nothing.
        if 0 < sigma < 20.0:
            return Broadening("Gaussian", sigma)
    return None
