"""A file that says a wrong unit: refused beside another, read in the caller's where he overrides it, with a note."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.format_examples import FOLDER

from defectnet.errors import InputError, UnitError
from defectnet.readers import FORMATS, Format, read_file
from defectnet.readers.query import read_query
from defectnet.units import thz_per

MEV = np.arange(1, 121) * 0.5
DOS = np.exp(-0.5 * ((MEV - 30) / 8) ** 2) + 0.002
TOP_THZ = 60.0 / 4.135667696923859
ROWS = "".join(f"{x},{y:.6f}\n" for x, y in zip(MEV, DOS, strict=True))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("Frequency (THz),DOS", "THz (the column's name 'Frequency (THz)')"),
        ("Energy (eV),DOS", "eV (the column's name 'Energy (eV)')"),
        ("# unit: cm-1\nfrequency,dos", "cm-1 (its line 'unit: cm-1')"),
        ("frequency,dos\ncm-1,a.u.", "cm-1 (the line of units)"),
        ("omega (rad/ps),dos", "an angular frequency"),
        ("# unit: furlong\nfrequency,dos", "what is no unit of a frequency"),
    ],
)
def test_a_wrong_unit_is_overridden_and_both_are_named(tmp_path: Path, header: str, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{ROWS}")
    with pytest.raises(UnitError):
        read_file(path, "meV")
    found = read_file(path, "meV", override_unit=True)
    assert found.spectrum.frequency_thz[-1] == pytest.approx(TOP_THZ)
    (note,) = (note for note in found.notes if "caller" in note)
    assert said in note
    assert "was read in meV" in note
    assert (found.unit.name, found.unit.said_by) == ("meV", "the caller")


def test_a_contradiction_says_how_it_is_overridden(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"Frequency (THz),DOS\n{ROWS}")
    with pytest.raises(UnitError, match=r"is said to be in THz and in meV; .* --override-unit if the file is wrong"):
        read_file(path, "meV")


@pytest.mark.parametrize("header", ["Energy (meV),DOS", "frequency,dos"])
def test_nothing_is_said_where_nothing_is_overridden(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{ROWS}")
    found = read_file(path, "meV", override_unit=True)
    assert not [note for note in found.notes if "caller" in note]
    assert not found.unit.overruled


def test_the_override_needs_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"Frequency (THz),DOS\n{ROWS}")
    with pytest.raises(UnitError, match="--override-unit: says no unit to take instead; give --unit too"):
        read_file(path, override_unit=True)


def test_an_implausible_axis_stays_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Energy (eV),DOS\n" + "".join(f"{x / 1000},{y}\n" for x, y in zip(MEV, DOS, strict=True)))
    assert read_file(path).spectrum.frequency_thz[-1] == pytest.approx(TOP_THZ)
    with pytest.raises(InputError, match=r"lies below 0\.014 THz"):
        read_file(path, "meV", override_unit=True)


def test_attributes_and_keys_are_overridden(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"unit": "THz", "frequency": MEV.tolist(), "dos": DOS.tolist()}))
    assert read_file(path, "meV", override_unit=True).spectrum.frequency_thz[-1] == pytest.approx(TOP_THZ)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frequencies"], file["dos"] = MEV, DOS
        file["frequencies"].attrs["units"] = "parsec"
    with pytest.raises(UnitError, match="is in parsec"):
        read_file(path, "meV")
    found = read_file(path, "meV", override_unit=True)
    assert found.spectrum.frequency_thz[-1] == pytest.approx(TOP_THZ)
    assert "it says parsec" in found.notes[0]


# Their axes are computed from force constants, or always in one unit; GPUMD's are angular, ABINIT's in eV, whose
# figures are no phonon's in another unit.
FIXED = {"phonopy.yaml.xz", "ncrystal.ncmat", "dos.out", "abinit_PHDOS.nc"}
SILENT = {"mesh.yaml.xz", "mesh.hdf5", "total_dos.dat", "tdep.hdf5"}


@pytest.mark.parametrize(
    "form", [form for form in FORMATS if form.example not in SILENT], ids=lambda form: form.example
)
def test_no_format_takes_the_override_silently(form: Format) -> None:
    """A note names both units, or the override is refused."""
    plain = read_file(FOLDER / form.example)
    other = "THz" if plain.unit.name in ("meV", "eV") else "meV"
    if form.example in FIXED:
        with pytest.raises(InputError):
            read_file(FOLDER / form.example, other, override_unit=True)
        return
    found = read_file(FOLDER / form.example, other, override_unit=True)
    assert f"it says {plain.unit.name} (" in " ".join(found.notes)
    assert f"was read in {other} because the caller said so" in " ".join(found.notes)
    ratio = found.spectrum.frequency_thz[-1] / plain.spectrum.frequency_thz[-1]
    assert ratio == pytest.approx(thz_per(other) / plain.unit.thz, rel=1e-6)


def test_a_query_overrides_the_sample_and_where_it_is_asked_the_reference(tmp_path: Path) -> None:
    sample, reference = tmp_path / "a.csv", tmp_path / "ref.csv"
    sample.write_text(f"Frequency (THz),DOS\n{ROWS}")
    reference.write_text(f"Frequency (THz),DOS\n{ROWS}")
    asked = read_query(sample, "Si", unit="meV", reference=reference, override_unit=True)
    assert asked.query.reference is not None
    assert asked.query.reference.frequency_thz[-1] == pytest.approx(60.0)  # as its file says, and a warning
    assert "check that both are of this host, and their units" in " ".join(asked.notes)
    asked = read_query(sample, "Si", unit="meV", reference=reference, reference_unit="meV", override_unit=True)
    assert asked.query.reference is not None
    assert asked.query.reference.frequency_thz[-1] == pytest.approx(TOP_THZ)
    assert sum("because the caller said so" in note for note in asked.notes) == 2
