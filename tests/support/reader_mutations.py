"""Files of one known spectrum, odd or damaged in a way that has one right meaning, or none.

`mutants` makes them from a seed. A damage that only changes digits has no right answer and is not made.
"""

import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterator

import h5py
import numpy as np

from defectnet.units import thz_per
from support.reader_mutant import Base, Mutant, Rng, base_of, rows_of, table_of
from support.reader_text_mutations import (
    angular,
    blanks_and_comments,
    contradiction,
    cut,
    decimal_commas,
    decimal_commas_and_commas,
    doubled_lines,
    edges_of_bins,
    encodings,
    falling,
    fortran,
    gain_side,
    lost_lines,
    nan_ends,
    nan_inside,
    no_unit,
    other_order,
    other_units,
    quotes,
    remarks_with_units,
    row_numbers,
    separators,
    shuffled_lines,
    trailing,
    two_spectra,
    unknown_column,
)

__all__ = ["KINDS", "mutants"]


def optical(rng: Rng) -> Mutant:
    base = base_of(rng)
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
    return Mutant("optical", "x.csv", "\n".join([head, *rows_of(base, ","), ""]).encode(), None)


def compressed(rng: Rng) -> Mutant:
    base = base_of(rng)
    content = ("\n".join(table_of(rng, base)) + "\n").encode()
    if rng.random() < 0.5:
        return Mutant("compressed", "x.csv.gz", gzip.compress(content), base.thz, base.y, may_refuse=False)
    return Mutant("compressed", "x.csv.xz", lzma.compress(content), base.thz, base.y, may_refuse=False)


def damaged_bytes(rng: Rng) -> Mutant:
    """Bytes of an archive or HDF5 file lost: whatever is read must have been there."""
    base = base_of(rng)
    content = gzip.compress(("\n".join(table_of(rng, base)) + "\n").encode()) if rng.random() < 0.4 else _nexus(base)
    return Mutant(
        "damaged bytes", "x.bin", content[: int(rng.integers(1, len(content)))], base.thz, base.y, more={"part": "yes"}
    )


def _nexus(base: Base, **change: str) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        data = file.create_group("entry").create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "dos", "axes": "energy"})
        data["energy"], data["dos"] = base.x, base.y
        data["energy"].attrs["units"] = change.get("units", base.unit)
    return stream.getvalue()


def nexus_units(rng: Rng) -> Mutant:
    base = base_of(rng)
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
    base = base_of(rng)
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
    base = base_of(rng)
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
