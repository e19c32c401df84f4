"""A damaged or odd file with its one right meaning, how such files are put together, and what a reader made of one."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from defectnet.errors import InputError
from defectnet.readers import read_file
from defectnet.units import thz_per

__all__ = ["NAMES", "Base", "Mutant", "Rng", "base_of", "judge", "rows_of", "table_of", "text_of"]

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
class Base:
    unit: str
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray

    @property
    def thz(self) -> np.ndarray:
        return self.x * thz_per(self.unit)


def base_of(rng: Rng) -> Base:
    unit = str(rng.choice(["THz", "meV", "cm-1"]))
    n = int(rng.integers(40, 160))
    step = float(rng.choice([0.1, 0.125, 0.2])) / thz_per(unit)
    x = np.round(np.arange(1, n + 1) * step, 5)
    centre = rng.uniform(0.3, 0.7, 2) * x[-1]
    y = sum(np.exp(-0.5 * ((x - c) / (0.06 * x[-1])) ** 2) for c in centre) + 0.01 * (x / x[-1]) ** 2 * (
        x < 0.9 * x[-1]
    )
    y = np.round(np.where(x < 0.95 * x[-1], y, 0.0), 6)
    return Base(unit, x, y, np.round(0.05 * y + 0.001, 6))


NAMES = {
    "THz": ("Frequency (THz)", "frequency_thz", "Frequency / THz", "ν [THz]"),
    "meV": ("Energy (meV)", "energy_mev", "E [meV]", "Energy transfer (meV)"),
    "cm-1": ("Wavenumber (cm-1)", "Frequency[cm^-1]", "wavenumber (cm⁻¹)", "E (1/cm)"),
}
DENSITIES = ("DOS", "dos", "g(E)", "GDOS (a.u.)", "density of states", "Zustandsdichte", "DOS (1/THz)", "VDOS")


def rows_of(base: Base, separator: str, columns: int = 2, fmt: str = "%.6f") -> list[str]:
    parts = [base.x, base.y, base.error][:columns]
    return [separator.join(fmt % value for value in row) for row in np.transpose(parts)]


def table_of(rng: Rng, base: Base, separator: str = ",", columns: int = 2) -> list[str]:
    names = [str(rng.choice(NAMES[base.unit])), str(rng.choice(DENSITIES)), "error"][:columns]
    return [separator.join(names), *rows_of(base, separator, columns)]


def text_of(
    kind: str, base: Base, lines: list[str], end: str = "\n", encoding: str = "utf-8", **more: object
) -> Mutant:
    content = (end.join(lines) + end).encode(encoding)
    return Mutant(kind, "x.csv", content, base.thz, base.y, **more)  # type: ignore[arg-type]


def judge(mutant: Mutant, folder: Path) -> tuple[str, str, float]:
    """Read a mutant.

    Returns:
        "right", "refused", "wrong" or "traceback"; what was read or said; and seconds of the processor (others that are
        busy do not stretch them).
    """
    path = folder / mutant.name
    path.write_bytes(mutant.content)
    begun = time.process_time()
    try:
        reading = read_file(path, mutant.unit)
    except InputError as error:
        seconds = time.process_time() - begun
        verdict = "refused" if error.fix and (mutant.frequency_thz is None or mutant.may_refuse) else "wrong"
        return verdict, str(error), seconds
    except Exception as error:  # that is what is counted
        return "traceback", repr(error), time.process_time() - begun
    seconds = time.process_time() - begun
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
