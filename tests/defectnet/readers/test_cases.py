"""The failing inputs that real users had, each with its right answer; the files lie beside the checkout."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parents[4] / "shared" / "cases"

pytestmark = pytest.mark.skipif(
    not (CASES / "truth_meV.csv").is_file(), reason="the case files (../shared/cases) are not beside this checkout"
)

Run = Callable[..., tuple[int, str, str]]

SI = ("--host", "Si", "--candidates", "Ge,Sn,C")
REFERENCE = ("--reference", "ref_meV.csv")
MGO = ("--host", "MgO", "--candidates", "Ca,Ni,Zn,S")
GAAS = ("--unit", "THz", "--host", "GaAs", "--candidates", "Al,In,Ge,P")


@dataclass(frozen=True)
class Case:
    """One line of the index.

    Attributes:
        number: of the line.
        arguments: of `defectnet predict`.
        refused: words of the refusal; empty where there is an answer.
        ge: at.% of germanium and how near the answer must come; None where nothing is to be found.
        warned: words of a warning that goes with the answer.
        folder: where one stands.
    """

    number: str
    arguments: tuple[str, ...]
    refused: str = ""
    ge: tuple[float, float] | None = None
    warned: str = ""
    folder: str = "."


def like_truth(number: str, file: str, *more: str, near: float = 0.15, warned: str = "") -> Case:
    """A file that holds the same sample as `truth_meV.csv`, in another format.

    `near`: points on another axis, or left out where a measurement has none, move the network's answer by so much.
    """
    return Case(number, (file, *SI, *(more or REFERENCE)), ge=(2.92, near), warned=warned)


def refused(number: str, words: str, *arguments: str, folder: str = ".") -> Case:
    """A file that cannot be answered, and says so."""
    return Case(number, arguments, refused=words, folder=folder)


ALL = (
    like_truth("truth", "truth_meV.csv"),
    refused(
        "26",
        "is weighted by neutron cross-sections .*does not say that it is; give --kind neutron",
        "26_MgO_pristine_vibrational.csv",
        *MGO,
        "--reference",
        "26_MgO_neutron_top.json",
    ),
    Case(
        "26 the other way",
        ("26_MgO_neutron_top.json", *MGO, "--reference", "26_MgO_pristine_vibrational.csv"),
        ge=(0.0, 100.0),
        warned="does not say how it is weighted",
    ),
    Case("26 neutron", ("26_MgO_neutron_top.json", *MGO, "--reference", "26_MgO_neutron_top.json")),
    Case(
        "34",
        (
            "sample_is_the_same_pristine_crystal.csv",
            "--host",
            "SiC",
            "--candidates",
            "Ge,N,Al,B",
            "--reference",
            "pristine/phonopy.yaml",
        ),
        folder="34_files_in_cwd",
    ),
    Case(
        "34 beside",
        (
            "../sample_is_the_same_pristine_crystal.csv",
            "--host",
            "SiC",
            "--candidates",
            "Ge,N,Al,B",
            "--reference",
            "phonopy.yaml",
        ),
        folder="34_files_in_cwd/pristine",
    ),
    Case(
        "37",
        ("37_GaAs_pristine_sigma0.3.dat", *GAAS, "--reference", "37_GaAs_pristine_tetrahedron.dat"),
        warned="was broadened to its FWHM of 0.706 THz",
    ),
    Case(
        "37 turned",
        ("37_GaAs_pristine_tetrahedron.dat", *GAAS, "--reference", "37_GaAs_pristine_sigma0.3.dat"),
        warned="was broadened to its FWHM of 0.706 THz",
    ),
    Case(
        "37 resolution",
        (
            "37_GaAs_pristine_sigma0.3.dat",
            *GAAS,
            "--reference",
            "37_GaAs_pristine_tetrahedron.dat",
            "--resolution",
            "37_resolution.csv",
        ),
        warned="the resolution was applied to",
    ),
    refused(
        "04a",
        "the third column of 04a_names_with_blanks.csv, 'GDOS .1/meV.', is no error",
        "04a_names_with_blanks.csv",
        *SI,
        *REFERENCE,
    ),
    like_truth("04a by name", "04a_names_with_blanks.csv", "--reference", "04a_ref.csv", "--column", "GDOS (1/meV)"),
    like_truth("04c", "04c_matdyn_one_atom.dos"),
    like_truth("04d", "04d_matdyn_two_atoms.dos"),
    like_truth("01", "01_pandas_index.csv", "--reference", "01_ref.csv"),
    like_truth("02a", "02a_decimal_comma_semicolon.csv"),
    like_truth("02b", "02b_decimal_comma_integer_axis.csv", near=1.5),
    like_truth("02e", "02e_decimal_comma_silent.csv", "--reference", "02e_ref.csv", near=1.5),
    Case(
        "28 meV",
        ("truth_meV.csv", *SI, "--reference", "library", "--kind", "neutron", "--resolution", "28_resolution_meV.csv"),
        ge=(3.65, 0.3),
        warned="computed, not measured",
    ),
    refused(
        "28",
        "energies in meV and widths in µeV",
        "truth_meV.csv",
        *SI,
        "--reference",
        "library",
        "--kind",
        "neutron",
        "--resolution",
        "28_resolution_ueV.csv",
    ),
    Case("12b", ("12b_mantid_counts_unequal_bins.nxs", *SI, *REFERENCE), ge=(2.27, 0.1)),
    Case("12b as density", ("12b_same_as_density.nxs", *SI, *REFERENCE), ge=(2.27, 0.1)),
    like_truth("03a", "03a_unit_from_remark.dat", "--reference", "03a_ref.dat", near=0.35),
    refused("03b", "has an angular frequency on its axis", "03b_angular.dat", *SI, "--reference", "03b_ref.dat"),
    refused("03d", "is said to be in eV and in meV", "03d_header_eV_given_meV.dat", "--unit", "meV", *SI, *REFERENCE),
    refused(
        "08a",
        "of the density is at negative frequencies",
        "08a_energy_gain_side.dat",
        *SI,
        "--reference",
        "08a_ref.dat",
    ),
    refused(
        "23", "is no density of states: it speaks of 'INFRARED'", "23_infrared.jdx", "--unit", "cm-1", *SI, *REFERENCE
    ),
    refused("23b", "is no density of states: it speaks of 'Raman'", "23b_raman.csv", *SI, *REFERENCE),
    like_truth("16", "16_castep_real_layout.phonon_dos"),
    Case(
        "33",
        (
            "33_phonopy_old_units.yaml",
            "--host",
            "Si",
            "--candidates",
            "Ge,Sn,C",
            "--reference",
            "33_same_new_units.yaml",
        ),
    ),
    Case(
        "33 xz", ("33_same.yaml.xz", "--host", "Si", "--candidates", "Ge,Sn,C", "--reference", "33_same_new_units.yaml")
    ),
    like_truth("12a", "12a_mantid_energy_inwavenumber.nxs"),
    like_truth("12d", "12d_mantid_nan_ends.nxs", near=0.45, warned="without a value at the ends were left out"),
    Case(
        "32",
        (
            "32_mesh_reduced_6x6x6.yaml",
            "--unit",
            "THz",
            "--host",
            "SiC",
            "--candidates",
            "Ge,N,Al,B",
            "--reference",
            "32_mesh_full_6x6x6.yaml",
        ),
    ),
    like_truth("25j", "25j_empty_cells.csv"),
    like_truth("05a", "05a_mantid_saveascii.txt", "--unit", "meV", *REFERENCE),
    like_truth("06a", "06a_utf16.txt"),
    like_truth("07a", "07a_fortran_D.dat"),
    like_truth("09a", "09a_quoted.csv"),
    refused("14", r"does not say its unit \(phonopy's default is THz\)", "14_phonopy_mesh.hdf5", "--host", "Si"),
    like_truth("20", "20_ncrystal.ncmat"),
    like_truth("22", "22_dave.grp"),
    like_truth("18a", "18a_emmet_PhononDOS.json", near=0.25),
    like_truth("18e", "18e_matcalc_total_dos.json", near=0.25),
    like_truth("25a", "25a_units_line.dat"),
    like_truth("25c", "25c_origin_three_rows.txt"),
    like_truth("25e", "25e_dos_other_unit.dat"),
    like_truth("10", "10_axis_to_1000meV.csv", warned="the empty end beyond 135 THz was left out"),
    like_truth("36 one of two", "36_api_lines.jsonl", "--spectrum", "a", *REFERENCE),
)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.number)
def test_a_case_has_its_right_answer(case: Case, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / case.folder)
    code, output, errors = command("predict", *case.arguments, "--json")
    if case.refused:
        assert code == 2
        assert re.search(case.refused, errors), errors
        return
    assert code == 0, errors
    (answer,) = json.loads(output)
    present = {found["element"] for found in answer["elements"] if found["present"]}
    warnings = " ".join(answer["warnings"])
    if case.warned:
        assert case.warned in warnings
    if case.ge is None:  # nothing is there: nothing is found, or it is doubted for the reason that there is
        assert not present or case.warned, warnings
    elif case.ge[0]:
        (ge,) = [found for found in answer["elements"] if found["element"] == "Ge"]
        assert "Ge" in present
        assert 100 * ge["concentration"] == pytest.approx(case.ge[0], abs=case.ge[1])
        if not case.warned:
            assert not re.search("looks like", warnings), warnings
