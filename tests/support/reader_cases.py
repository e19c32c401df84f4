"""The failing inputs that users had, each with its right answer; the files lie in `tests/data/cases`.

They were written by hand with the numbers of `examples/Si*.csv` (silicon with 4.84 at.% germanium, and pristine), or
made of the packaged parents. A file that holds the same sample as `truth_meV.csv` must hold the same numbers, whatever
the model makes of them; the answer to it must be the answer to the truth.
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from defectnet.cli.main import main
from defectnet.model.predictor import Predictor
from defectnet.readers import read_file
from defectnet.readers.query import read_query
from defectnet.released import released_model
from defectnet.spectrum import Spectrum

__all__ = ["ALL", "CASES", "Case", "judge", "judge_all", "truth_answer"]

# Arguments of the command line → exit code, output, errors.
Run = Callable[..., tuple[int, str, str]]

CASES = Path(__file__).resolve().parents[1] / "data" / "cases"
SI = ("--host", "Si", "--candidates", "Ge,Sn,C")
REFERENCE = ("--reference", "ref_meV.csv")
LIBRARY = ("--reference", "library", "--kind", "neutron", "--resolution")
MGO = ("--host", "MgO", "--candidates", "Ca,Ni,Zn,S")
GAAS = ("--unit", "THz", "--host", "GaAs", "--candidates", "Al,In,Ge,P")
SIC = ("--host", "SiC", "--candidates", "Ge,N,Al,B")


@dataclass(frozen=True)
class Case:
    """One line of the list.

    Attributes:
        number: of the line, with what tells it from others of the same number.
        arguments: of `defectnet predict`.
        refused: words of the refusal; empty where there is an answer.
        like: the file whose numbers it holds; empty where nothing is to be found in it.
        near: how near its densities must come to those, in shares of the largest.
        warned: words of a warning that goes with the answer.
        folder: where one stands.
    """

    number: str
    arguments: tuple[str, ...]
    refused: str = ""
    like: str = ""
    near: float = 1e-4
    warned: str = ""
    folder: str = "."


def same(number: str, file: str, *more: str, near: float = 1e-4, warned: str = "", like: str = "truth_meV.csv") -> Case:
    """A file that holds the same sample as another, in another format."""
    return Case(number, (file, *SI, *(more or REFERENCE)), like=like, near=near, warned=warned)


def refused(number: str, words: str, *arguments: str) -> Case:
    """A file that cannot be answered, and says so."""
    return Case(number, arguments, refused=words)


# Files that were resampled to another axis when they were made come near, not to the last digit.
_RESAMPLED = 0.025
_GAAS_TETRAHEDRON, _GAAS_SIGMA = "37_GaAs_pristine_tetrahedron.dat", "37_GaAs_pristine_sigma0.3.dat"
_MGO_PLAIN, _MGO_NEUTRON = "26_MgO_pristine_vibrational.csv", "26_MgO_neutron_top.json"
_SILENT = "is weighted by neutron cross-sections .*does not say that it is; give --kind neutron"

ALL = (
    same("truth", "truth_meV.csv"),
    refused("26", _SILENT, _MGO_PLAIN, *MGO, "--reference", _MGO_NEUTRON),
    Case("26 silent", (_MGO_NEUTRON, *MGO, "--reference", _MGO_PLAIN), warned="does not say how it is weighted"),
    *(
        Case(f"26 {where}", (f"26_MgO_neutron_{where}.json", *MGO, "--reference", _MGO_NEUTRON))
        for where in ("per_line", "unit_only")
    ),
    Case("26 neutron", (_MGO_NEUTRON, *MGO, "--reference", _MGO_NEUTRON)),
    Case(
        "34",
        ("sample_is_the_same_pristine_crystal.csv", *SIC, "--reference", "pristine/phonopy.yaml"),
        folder="34_files_in_cwd",
    ),
    Case(
        "34 beside",
        ("../sample_is_the_same_pristine_crystal.csv", *SIC, "--reference", "phonopy.yaml"),
        folder="34_files_in_cwd/pristine",
    ),
    Case("37", (_GAAS_SIGMA, *GAAS, "--reference", _GAAS_TETRAHEDRON), warned="was broadened to its FWHM of 0.706 THz"),
    Case(
        "37 turned",
        (_GAAS_TETRAHEDRON, *GAAS, "--reference", _GAAS_SIGMA),
        warned="was broadened to its FWHM of 0.706 THz",
    ),
    Case(
        "37 resolution",
        (_GAAS_SIGMA, *GAAS, "--reference", _GAAS_TETRAHEDRON, "--resolution", "37_resolution.csv"),
        warned="the resolution was applied to",
    ),
    refused(
        "04a",
        "the third column of 04a_names_with_blanks.csv, 'GDOS .1/meV.', is no error",
        *("04a_names_with_blanks.csv", *SI, *REFERENCE),
    ),
    same("04a by name", "04a_names_with_blanks.csv", "--reference", "04a_ref.csv", "--column", "GDOS (1/meV)"),
    same("04c", "04c_matdyn_one_atom.dos", near=_RESAMPLED),
    same("04d", "04d_matdyn_two_atoms.dos", near=_RESAMPLED),
    same("01", "01_pandas_index.csv", "--reference", "01_ref.csv"),
    same("02a", "02a_decimal_comma_semicolon.csv"),
    same("02b", "02b_decimal_comma_integer_axis.csv"),
    same("02e", "02e_decimal_comma_silent.csv", "--reference", "02e_ref.csv"),
    Case(
        "28 meV",
        ("truth_meV.csv", *SI, *LIBRARY, "28_resolution_meV.csv"),
        like="truth_meV.csv",
        warned="computed, not measured",
    ),
    refused("28", "energies in meV and widths in µeV", "truth_meV.csv", *SI, *LIBRARY, "28_resolution_ueV.csv"),
    same("12b", "12b_mantid_counts_unequal_bins.nxs", like="12b_same_as_density.nxs"),
    same("03a", "03a_unit_from_remark.dat", "--reference", "03a_ref.dat", near=_RESAMPLED),
    refused("03b", "has an angular frequency on its axis", "03b_angular.dat", *SI, "--reference", "03b_ref.dat"),
    refused("03d", "is said to be in eV and in meV", "03d_header_eV_given_meV.dat", "--unit", "meV", *SI, *REFERENCE),
    refused("08a", "is at negative frequencies", "08a_energy_gain_side.dat", *SI, "--reference", "08a_ref.dat"),
    refused("23", "it speaks of 'INFRARED'", "23_infrared.jdx", "--unit", "cm-1", *SI, *REFERENCE),
    refused("23b", "it speaks of 'Raman'", "23b_raman.csv", *SI, *REFERENCE),
    same("16", "16_castep_real_layout.phonon_dos", near=_RESAMPLED),
    Case("33", ("33_phonopy_old_units.yaml", *SI, "--reference", "33_same_new_units.yaml")),
    Case("33 xz", ("33_same.yaml.xz", *SI, "--reference", "33_same_new_units.yaml")),
    same("12a", "12a_mantid_energy_inwavenumber.nxs", near=_RESAMPLED),
    same("12d", "12d_mantid_nan_ends.nxs", warned="without a value at the ends were left out"),
    Case("32", ("32_mesh_reduced_6x6x6.yaml", "--unit", "THz", *SIC, "--reference", "32_mesh_full_6x6x6.yaml")),
    same("25j", "25j_empty_cells.csv"),
    same("05a", "05a_mantid_saveascii.txt", "--unit", "meV", *REFERENCE),
    same("06a", "06a_utf16.txt"),
    same("07a", "07a_fortran_D.dat"),
    same("09a", "09a_quoted.csv"),
    refused("14", r"does not say its unit \(phonopy's default is THz\)", "14_phonopy_mesh.hdf5", "--host", "Si"),
    Case("14 unit", ("14_phonopy_mesh.hdf5", "--unit", "THz", "--host", "SiC", "--reference", "14_phonopy_mesh.hdf5")),
    same("20", "20_ncrystal.ncmat"),
    same("22", "22_dave.grp"),
    same("18a", "18a_emmet_PhononDOS.json", near=_RESAMPLED),
    same("18e", "18e_matcalc_total_dos.json", near=_RESAMPLED),
    same("25a", "25a_units_line.dat"),
    same("25c", "25c_origin_three_rows.txt"),
    same("25e", "25e_dos_other_unit.dat"),
    same("10", "10_axis_to_1000meV.csv", warned="the empty end beyond 135 THz was left out"),
    same("36", "36_api_lines.jsonl", "--spectrum", "a", *REFERENCE),
)


def truth_answer() -> dict[str, Any]:
    """What the released model answers to the sample that most of the files hold."""
    asked = read_query(CASES / "truth_meV.csv", SI[1], reference=CASES / REFERENCE[1], candidates=SI[3].split(","))
    (answer,) = Predictor.load(released_model()).predict([asked.query])
    return answer.to_dict()


def judge_all() -> dict[str, str]:
    """Number → what is wrong, of the cases whose answer is not right."""
    truth, wrong = truth_answer(), {}
    here = Path.cwd()
    for case in ALL:
        os.chdir(CASES / case.folder)
        try:
            if found := judge(case, _run, truth):
                wrong[case.number] = found
        finally:
            os.chdir(here)
    return wrong


def _run(*arguments: str) -> tuple[int, str, str]:
    """`defectnet` in this process."""
    output, errors = io.StringIO(), io.StringIO()
    given, code = sys.argv, 0
    sys.argv = ["defectnet", *arguments]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = given
    return code, output.getvalue(), errors.getvalue()


def judge(case: Case, run: Run, truth: Mapping[str, Any]) -> str:
    """What is wrong with the answer to a case; empty where it is right. One stands in the case's folder.

    Args:
        run: runs `defectnet`.
        truth: the answer to `truth_meV.csv` beside `ref_meV.csv`.
    """
    code, output, errors = run("predict", *case.arguments, "--json")
    if case.refused:
        return "" if code == 2 and re.search(case.refused, errors) else f"not refused: {errors or output[:300]}"
    if code != 0:
        return errors
    (answer,) = json.loads(output)
    present = {found["element"] for found in answer["elements"] if found["present"]}
    warnings = " ".join(answer["warnings"])
    if case.warned and case.warned not in warnings:
        return f"no warning {case.warned!r}: {warnings}"
    if not case.like:  # nothing is there: nothing is found, or it is doubted for the reason that there is
        return "" if not present or case.warned else f"{present} found; {warnings}"
    if (away := _away(case)) > case.near:
        return f"its densities are {away:.2g} from those of {case.like}"
    # The same numbers lead to the same elements, with the reference that belongs to them.
    expected = {found["element"] for found in truth["elements"] if found["present"]}
    if REFERENCE[1] in case.arguments and case.near < _RESAMPLED and case.like == "truth_meV.csv":
        return "" if "Ge" in present & expected else f"{present} found, not {expected}"
    return ""


def _away(case: Case) -> float:
    """The largest difference of a file's densities from those of the file that it is like, in shares of the largest."""
    option = dict(zip(case.arguments[1::2], case.arguments[2::2], strict=True))
    read = read_file(
        case.arguments[0], option.get("--unit"), column=option.get("--column"), spectrum=option.get("--spectrum")
    ).spectrum
    truth: Spectrum = read_file(case.like).spectrum
    expected = np.interp(read.frequency_thz, truth.frequency_thz, truth.dos, left=0.0, right=0.0)
    scale = float(read.dos @ expected / (expected @ expected))
    return float(np.abs(read.dos / scale - expected).max() / expected.max())
