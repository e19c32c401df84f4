"""Files of one known spectrum, odd or damaged in a way that has one right meaning, or none.

`mutants` makes them from a seed; `judge` reads one and says "right", "refused", "wrong" (a number that the file does
not hold) or "traceback". A damage that only changes digits has no right answer and is not made.
"""

import gzip
import io
import json
import lzma
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from defectnet.errors import InputError
from defectnet.readers import read_file
from defectnet.units import thz_per

__all__ = ["KINDS", "Mutant", "judge", "mutants"]

Rng = np.random.Generator


@dataclass(frozen=True)
class Mutant:
    """A file, and what it says.

    Attributes:
        kind: how it was made.
        name: of the file.
        content: its bytes.
        frequency_thz, dos: shape (n,), what it holds; None where any refusal (and no answer) is right.
        unit: what the caller says, where the file does not.
        may_refuse: whether a refusal is right too.
    """

    kind: str
    name: str
    content: bytes
    frequency_thz: np.ndarray | None
    dos: np.ndarray | None = None
    unit: str | None = None
    may_refuse: bool = True
    more: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Base:
    unit: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray

    @property
    def thz(self) -> np.ndarray:
        return self.x * thz_per(self.unit)


def _base(rng: Rng) -> _Base:
    unit = str(rng.choice(["THz", "meV", "cm-1"]))
    n = int(rng.integers(40, 160))
    step = float(rng.choice([0.1, 0.125, 0.2])) / thz_per(unit)
    x = np.round(np.arange(1, n + 1) * step, 5)
    centre = rng.uniform(0.3, 0.7, 2) * x[-1]
    y = sum(np.exp(-0.5 * ((x - c) / (0.06 * x[-1])) ** 2) for c in centre) + 0.01 * (x / x[-1]) ** 2 * (
        x < 0.9 * x[-1]
    )
    y = np.round(np.where(x < 0.95 * x[-1], y, 0.0), 6)
    return _Base(unit, x, y, np.round(0.05 * y + 0.001, 6))


_NAMES = {
    "THz": ("Frequency (THz)", "frequency_thz", "Frequency / THz", "ν [THz]"),
    "meV": ("Energy (meV)", "energy_mev", "E [meV]", "Energy transfer (meV)"),
    "cm-1": ("Wavenumber (cm-1)", "Frequency[cm^-1]", "wavenumber (cm⁻¹)", "E (1/cm)"),
}
_DENSITY = ("DOS", "dos", "g(E)", "GDOS (a.u.)", "density of states", "Zustandsdichte", "DOS (1/THz)", "VDOS")


def _rows(base: _Base, separator: str, columns: int = 2, fmt: str = "%.6f") -> list[str]:
    parts = [base.x, base.y, base.error][:columns]
    return [separator.join(fmt % value for value in row) for row in np.transpose(parts)]


def _table(rng: Rng, base: _Base, separator: str = ",", columns: int = 2) -> list[str]:
    names = [str(rng.choice(_NAMES[base.unit])), str(rng.choice(_DENSITY)), "error"][:columns]
    return [separator.join(names), *_rows(base, separator, columns)]


def _text(kind: str, base: _Base, lines: list[str], end: str = "\n", encoding: str = "utf-8", **more: object) -> Mutant:
    content = (end.join(lines) + end).encode(encoding)
    return Mutant(kind, "x.csv", content, base.thz, base.y, **more)  # type: ignore[arg-type]


def separators(rng: Rng) -> Mutant:
    base = _base(rng)
    separator = str(rng.choice([",", ";", "\t", ", ", " ; ", "\t\t" if False else " , "]))
    return _text(
        "separators", base, _table(rng, base, separator, int(rng.integers(2, 4))), str(rng.choice(["\n", "\r\n", "\r"]))
    )


def encodings(rng: Rng) -> Mutant:
    base = _base(rng)
    encoding = str(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "latin-1", "cp1252", "utf-32"]))
    lines = [line.replace("ν", "f").replace("⁻¹", "-1") for line in _table(rng, base)]
    return _text(
        "encodings", base, ["# cell 5.43 Å, 20 °C" if encoding != "utf-32" else "# cell", *lines], encoding=encoding
    )


def decimal_commas(rng: Rng) -> Mutant:
    base = _base(rng)
    separator = str(rng.choice([";", "\t", "; "]))
    head, *rows = _table(rng, base, separator, int(rng.integers(2, 4)))
    return _text("decimal commas", base, [head, *(row.replace(".", ",") for row in rows)])


def decimal_commas_and_commas(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    if rng.random() < 0.5:
        rows = [f"{i},{y}" for i, y in enumerate((f"{y:.4f}" for y in base.y), start=1)]
    lines = [row.replace(".", ",") for row in rows]
    lines = lines if rng.random() < 0.4 else [head, *lines]
    return Mutant(
        "decimal commas and commas",
        "x.csv",
        "\n".join(lines).encode(),
        None,
        unit=base.unit if rng.random() < 0.5 else None,
    )


def quotes(rng: Rng) -> Mutant:
    base = _base(rng)
    quote = str(rng.choice(['"', "'"]))
    separator = str(rng.choice([",", ";", "\t"]))
    lines = [
        separator.join(f"{quote}{cell}{quote}" for cell in line.split(separator))
        for line in _table(rng, base, separator)
    ]
    return _text("quotes", base, lines)


def row_numbers(rng: Rng) -> Mutant:
    base = _base(rng)
    separator = str(rng.choice([",", ";", "\t"]))
    head, *rows = _table(rng, base, separator, int(rng.integers(2, 4)))
    start = int(rng.integers(0, 2))
    name = str(rng.choice(["", "index", "Unnamed: 0"]))
    numbered = [f"{i}{separator}{row}" for i, row in enumerate(rows, start=start)]
    return _text("row numbers", base, [f"{name}{separator}{head}", *numbered])


def other_order(rng: Rng) -> Mutant:
    """Named columns in any order, among them some that are no density."""
    base = _base(rng)
    axis = str(rng.choice(_NAMES[base.unit]))
    columns = {axis: base.x, "dos": base.y}
    if rng.random() < 0.6:
        columns["error"] = base.error
    if rng.random() < 0.3:
        columns["int_dos"] = np.cumsum(base.y)
    names = list(columns)
    rng.shuffle(names)
    rows = [",".join(f"{columns[name][i]:.6f}" for name in names) for i in range(base.x.size)]
    return _text("other order", base, [",".join(names), *rows])


def unknown_column(rng: Rng) -> Mutant:
    """Two columns that could be the density: no answer but a question."""
    base = _base(rng)
    names = [str(rng.choice(_NAMES[base.unit])), "Raw counts", "dos"]
    rows = [f"{x:.6f},{100 * np.sin(x) ** 2 + 1:.6f},{y:.6f}" for x, y in zip(base.x, base.y, strict=True)]
    return Mutant("unknown column", "x.csv", "\n".join([",".join(names), *rows, ""]).encode(), None)


def edges_of_bins(rng: Rng) -> Mutant:
    base = _base(rng)
    half = 0.5 * (base.x[1] - base.x[0])
    rows = [f"{x - half:.6f} {x + half:.6f} {y:.6f}" for x, y in zip(base.x, base.y, strict=True)]
    head = f"# E_lo({base.unit}) E_hi({base.unit}) g(E)" if rng.random() < 0.5 else ""
    return _text("edges of bins", base, ([head] if head else []) + rows, unit=None if head else base.unit)


def no_unit(rng: Rng) -> Mutant:
    base = _base(rng)
    remark = str(
        rng.choice(
            ["# instrument: Ei = 60 meV", "# resolution FWHM 5 cm-1", "# 300 K, 2 THz step", "# sample 4 meV away"]
        )
    )
    lines = [*([remark] if rng.random() < 0.7 else []), "frequency,dos", *_rows(base, ",")]
    return Mutant("no unit", "x.csv", "\n".join([*lines, ""]).encode(), None)


def remarks_with_units(rng: Rng) -> Mutant:
    base = _base(rng)
    remarks = [
        "# instrument: Ei = 60 meV",
        "# FWHM 5 cm-1",
        "# step 0.1 THz",
        "# T = 300 K",
        "# cutoff (eV): 500",
        "# density in 1/THz",
    ]
    head, *rows = _table(rng, base)
    lines = [*rng.choice(remarks, 2), f"# {head}", *rng.choice(remarks, int(rng.integers(0, 3))), *rows]
    return _text("remarks with units", base, [str(line) for line in lines])


def contradiction(rng: Rng) -> Mutant:
    base = _base(rng)
    other = str(rng.choice([unit for unit in ("THz", "meV", "cm-1") if unit != base.unit]))
    lines = _table(rng, base)
    if rng.random() < 0.5:
        return Mutant("contradiction", "x.csv", "\n".join([*lines, ""]).encode(), None, unit=other)
    return Mutant("contradiction", "x.csv", "\n".join([f"# unit: {other}", *lines, ""]).encode(), None)


def angular(rng: Rng) -> Mutant:
    base = _base(rng)
    name = str(
        rng.choice(["omega (2pi THz)", "omega (rad/ps)", "angular frequency (THz)", "ω (2π THz)", "w (rad THz)"])
    )
    unit = "THz" if rng.random() < 0.3 else None
    return Mutant("angular", "x.dat", "\n".join([f"# {name}   DOS", *_rows(base, " "), ""]).encode(), None, unit=unit)


def other_units(rng: Rng) -> Mutant:
    base = _base(rng)
    name, thz = [("eV", 241.79892420849), ("GHz", 1e-3), ("µeV", 0.241798924e-3), ("Ha", 6579.683920502)][
        int(rng.integers(0, 4))
    ]
    rows = [f"{x / thz:.10g},{y:.6f}" for x, y in zip(base.thz, base.y, strict=True)]
    return _text("other units", base, [f"Energy ({name}),DOS", *rows])


def nan_ends(rng: Rng) -> Mutant:
    base = _base(rng)
    n, m = (int(k) for k in rng.integers(0, 6, 2))
    rows = _rows(base, ",")
    word = str(rng.choice(["nan", "NaN", ""]))
    rows = [f"{row.split(',')[0]},{word}" if i < n or i >= len(rows) - m else row for i, row in enumerate(rows)]
    kept = slice(n, base.x.size - m)
    head = _table(rng, base)[0]
    return Mutant("NaN at the ends", "x.csv", "\n".join([head, *rows, ""]).encode(), base.thz[kept], base.y[kept])


def nan_inside(rng: Rng) -> Mutant:
    base = _base(rng)
    lines = _table(rng, base)
    at = int(rng.integers(5, len(lines) - 5))
    word = str(rng.choice(["nan", "inf", "-", "****", "lots", "1e999", ""]))
    lines[at] = f"{lines[at].split(',')[0]},{word}"
    return Mutant("no number inside", "x.csv", "\n".join([*lines, ""]).encode(), None)


def cut(rng: Rng) -> Mutant:
    """Cut at any byte: what was read must be what stands there."""
    base = _base(rng)
    lines = _table(rng, base, str(rng.choice([",", " ", "\t"])).replace(" ", "  "))
    content = ("\n".join(lines) + "\n").encode()
    content = content[: int(rng.integers(0, len(content)))]
    return Mutant("cut", "x.csv", content, base.thz, base.y, more={"part": "yes"})


def lost_lines(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    keep = np.sort(rng.choice(base.x.size, base.x.size - int(rng.integers(1, 8)), replace=False))
    return Mutant(
        "lost lines", "x.csv", "\n".join([head, *(rows[i] for i in keep), ""]).encode(), base.thz[keep], base.y[keep]
    )


def doubled_lines(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    at = int(rng.integers(0, len(rows)))
    return Mutant("doubled lines", "x.csv", "\n".join([head, *rows[:at], rows[at], *rows[at:], ""]).encode(), None)


def shuffled_lines(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    rng.shuffle(rows)
    return Mutant("shuffled lines", "x.csv", "\n".join([head, *rows, ""]).encode(), None)


def falling(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    return _text("falling axis", base, [head, *reversed(rows)])


def gain_side(rng: Rng) -> Mutant:
    base = _base(rng)
    rows = [f"{-x:.6f},{y:.6f}" for x, y in zip(base.x[::-1], base.y[::-1], strict=True)]
    more = [f"{x:.6f},0.01" for x in base.x[:10]]
    return Mutant("energy gain", "x.csv", "\n".join([_table(rng, base)[0], *rows, *more, ""]).encode(), None)


def fortran(rng: Rng) -> Mutant:
    base = _base(rng)
    rows = [f"{x:.6E} {y:.6E}".replace("E", "D") for x, y in zip(base.x, base.y, strict=True)]
    if rng.random() < 0.5:
        rows[-1] = f"{base.x[-1]:.6E} 1.2345-104"
    return _text("Fortran", base, [f"# {_NAMES[base.unit][0]} DOS", *rows])


def blanks_and_comments(rng: Rng) -> Mutant:
    base = _base(rng)
    lines = [f"# {_table(rng, base, '   ')[0]}", *_rows(base, "   ")]
    for _ in range(int(rng.integers(1, 6))):
        lines.insert(
            int(rng.integers(1, len(lines))), str(rng.choice(["", "# a remark", "   ", "! another", "% 3 4 5"]))
        )
    return _text(
        "blanks and comments",
        base,
        [
            f"  {line}  # ok" if rng.random() < 0.05 and not line.startswith(("#", "!", "%")) and line.strip() else line
            for line in lines
        ],
    )


def trailing(rng: Rng) -> Mutant:
    base = _base(rng)
    separator = str(rng.choice([",", ";", "\t"]))
    return _text(
        "trailing separators",
        base,
        [line + separator * int(rng.integers(1, 3) if False else 1) for line in _table(rng, base, separator)],
    )


def two_spectra(rng: Rng) -> Mutant:
    base = _base(rng)
    head, *rows = _table(rng, base)
    between = str(rng.choice(["", "# second", "2"]))
    content = "\n".join([head, *rows, between, *rows, ""]).encode()
    return Mutant("two spectra", "x.csv", content, None)


def optical(rng: Rng) -> Mutant:
    base = _base(rng)
    head = str(
        rng.choice(
            [
                "Raman shift (cm-1),Intensity",
                "Wavenumber (cm-1),Absorbance",
                "# FTIR spectrum\nWavenumber (cm-1),a.u.",
                "# Raman, laser 532 nm\nWavenumber (cm-1),counts",
                "wavenumber cm-1,Transmittance (%)",
            ]
        )
    )
    return Mutant("optical", "x.csv", "\n".join([head, *_rows(base, ","), ""]).encode(), None)


def compressed(rng: Rng) -> Mutant:
    base = _base(rng)
    content = ("\n".join(_table(rng, base)) + "\n").encode()
    if rng.random() < 0.5:
        return Mutant("compressed", "x.csv.gz", gzip.compress(content), base.thz, base.y, may_refuse=False)
    return Mutant("compressed", "x.csv.xz", lzma.compress(content), base.thz, base.y, may_refuse=False)


def damaged_bytes(rng: Rng) -> Mutant:
    """Bytes of an archive or HDF5 file lost: whatever is read must have been there."""
    base = _base(rng)
    content = gzip.compress(("\n".join(_table(rng, base)) + "\n").encode()) if rng.random() < 0.4 else _nexus(base)
    return Mutant(
        "damaged bytes", "x.bin", content[: int(rng.integers(1, len(content)))], base.thz, base.y, more={"part": "yes"}
    )


def _nexus(base: _Base, **change: str) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        data = file.create_group("entry").create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "dos", "axes": "energy"})
        data["energy"], data["dos"] = base.x, base.y
        data["energy"].attrs["units"] = change.get("units", base.unit)
    return stream.getvalue()


def nexus_units(rng: Rng) -> Mutant:
    base = _base(rng)
    spellings = {
        "THz": ["THz", "terahertz", "TeraHz"],
        "meV": ["meV", "millielectron_volt", "MEV"],
        "cm-1": ["1/cm", "cm**-1", "1 / cm", "cm^-1", "cm⁻¹"],
    }
    return Mutant(
        "NeXus units",
        "x.nxs",
        _nexus(base, units=str(rng.choice(spellings[base.unit]))),
        base.thz,
        base.y,
        may_refuse=False,
    )


def mantid(rng: Rng) -> Mutant:
    base = _base(rng)
    uneven = np.concatenate([[0.0], np.cumsum(rng.uniform(0.5, 1.5, base.x.size))]) * base.x[0]
    counts = bool(rng.random() < 0.5)
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        group = file.create_group("mantid_workspace_1").create_group("workspace")
        group["values"] = (base.y * np.diff(uneven) if counts else base.y)[None, :]
        group["axis1"] = uneven
        units = {"THz": ("Label", "THz"), "meV": ("DeltaE", ""), "cm-1": ("DeltaE_inWavenumber", "")}[base.unit]
        group["axis1"].attrs.update({"units": units[0], "label": units[1], "distribution": "0" if counts else "1"})
    centres = 0.5 * (uneven[1:] + uneven[:-1]) * thz_per(base.unit)
    return Mutant("Mantid", "x.nxs", stream.getvalue(), centres, base.y)


def json_objects(rng: Rng) -> Mutant:
    base = _base(rng)
    made = {"unit": base.unit, "frequency": base.x.tolist(), "dos": base.y.tolist(), "id": "a", "host": "Si"}
    if rng.random() < 0.3:
        made = {"data": [{"phonon_dos": {"frequencies": base.thz.tolist(), "densities": base.y.tolist()}}]}
    elif rng.random() < 0.3:
        made.pop("unit")
        return Mutant("JSON", "x.json", json.dumps(made).encode(), None)
    text = json.dumps(made, indent=int(rng.integers(0, 3)) or None)
    if rng.random() < 0.3:
        return Mutant("JSON", "x.json", text[: int(rng.integers(1, len(text) - 1))].encode(), None)
    return Mutant("JSON", "x.json", text.encode(), base.thz, base.y, may_refuse=False)


def rubbish(rng: Rng) -> Mutant:
    made = [
        b"",
        b"\n\n",
        b"\x00" * 50,
        rng.bytes(2000),
        b"[" * 5000,
        b"1\n",
        b"# only\n",
        b"nan nan\n" * 20,
        b"1e400 1e400\n" * 20,
        b"1 2\n",
        b"a,b\n",
        b"\xff\xfe",
        b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n" + b"\x00" * 40,
        b"<html>",
        b"{}",
        b"[]",
        b"null",
        b"0 0\n" * 100,
    ]
    return Mutant("rubbish", "x.csv", made[int(rng.integers(0, len(made)))], None, unit="THz")


def large(rng: Rng) -> Mutant:
    """A hundred thousand points, or lines of a thousand columns."""
    if rng.random() < 0.5:
        x = np.arange(1, 100_001) * 2e-4
        y = np.round(np.exp(-0.5 * ((x - 10) / 1.5) ** 2), 6)
        rows = [f"{a:.6f},{b:.6f}" for a, b in zip(x, y, strict=True)]
        return Mutant("large", "x.csv", "\n".join(["frequency_thz,dos", *rows, ""]).encode(), x, y)
    content = "\n".join(" ".join(["1.5"] * 1000) for _ in range(300)).encode()
    return Mutant("large", "x.csv", content, None, unit="THz")


KINDS: tuple[Callable[[Rng], Mutant], ...] = (
    separators,
    encodings,
    decimal_commas,
    decimal_commas_and_commas,
    quotes,
    row_numbers,
    other_order,
    unknown_column,
    edges_of_bins,
    no_unit,
    remarks_with_units,
    contradiction,
    angular,
    other_units,
    nan_ends,
    nan_inside,
    cut,
    lost_lines,
    doubled_lines,
    shuffled_lines,
    falling,
    gain_side,
    fortran,
    blanks_and_comments,
    trailing,
    two_spectra,
    optical,
    compressed,
    damaged_bytes,
    nexus_units,
    mantid,
    json_objects,
    rubbish,
    large,
)


def mutants(n: int, seed: int = 0) -> Iterator[Mutant]:
    """`n` files, every kind in turn, the same ones for a seed."""
    for number in range(n):
        yield KINDS[number % len(KINDS)](np.random.default_rng([seed, number]))


def judge(mutant: Mutant, folder: Path) -> tuple[str, str, float]:
    """Read a mutant.

    Returns:
        "right", "refused", "wrong" or "traceback"; what was read or said; and seconds.
    """
    path = folder / mutant.name
    path.write_bytes(mutant.content)
    begun = time.perf_counter()
    try:
        reading = read_file(path, mutant.unit)
    except InputError as error:
        seconds = time.perf_counter() - begun
        verdict = "refused" if error.fix and (mutant.frequency_thz is None or mutant.may_refuse) else "wrong"
        return verdict, str(error), seconds
    except Exception as error:  # that is what is counted
        return "traceback", repr(error), time.perf_counter() - begun
    seconds = time.perf_counter() - begun
    said = f"{reading.summary} {reading.notes}"
    if mutant.frequency_thz is None or mutant.dos is None:
        return "wrong", said, seconds
    f, dos = reading.spectrum.frequency_thz, reading.spectrum.dos
    at = np.clip(np.searchsorted(mutant.frequency_thz, f - 1e-9), 0, mutant.frequency_thz.size - 1)
    at = np.where(
        (at > 0) & (np.abs(mutant.frequency_thz[at - 1] - f) < np.abs(mutant.frequency_thz[at] - f)), at - 1, at
    )
    step = np.diff(mutant.frequency_thz).min()
    same_axis = np.abs(mutant.frequency_thz[at] - f).max() < 0.01 * step
    truth = mutant.dos[at]
    scale = dos.max() / truth.max() if truth.max() > 0 else 1.0
    same_dos = np.abs(dos - scale * truth).max() < 2e-3 * dos.max()
    whole = "part" in mutant.more or f.size == mutant.frequency_thz.size
    warned = any("cut short" in note for note in reading.notes)
    right = same_axis and (same_dos or warned) and whole
    return ("right" if right else "wrong"), said, seconds
