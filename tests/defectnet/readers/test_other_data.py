"""Files that are nearly a density of states and are none, or say in their own way what they are."""

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from defectnet.errors import InputError
from defectnet.readers import Reading, compatible, parse_text, read_file
from defectnet.readers.not_read import HDF5_NOT_READ
from defectnet.spectrum import Spectrum
from defectnet.units import thz_per

MEV = np.round(np.arange(1, 121) * 0.5, 4)
DOS = np.round(np.exp(-0.5 * ((MEV - 20) / 3) ** 2) + 0.8 * np.exp(-0.5 * ((MEV - 50) / 2) ** 2) + 0.002, 6)
ERROR = np.round(0.05 * DOS + 0.002, 6)


def table(header: str, *columns: Sequence[float], separator: str = ",", end: str = "") -> str:
    rows = (separator.join(f"{value:.6g}" for value in row) + end for row in zip(*columns, strict=True))
    return "\n".join([header, *rows, ""])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (table("raman_shift_cm-1,intensity", 8 * MEV, DOS), "it speaks of 'raman'"),
        (table("wavenumber_cm-1,ir_absorbance", 8 * MEV, DOS), "it speaks of 'ir absor"),
        (table("T (K),Cv (J/mol/K)", MEV, np.cumsum(DOS)), "no density of vibrational states: it has 'Cv"),
        (table("T (K),entropy", MEV, np.cumsum(DOS)), "no column .* is named as the axis"),
        (table("# omega (meV)  a2F(omega)  lambda", MEV, DOS, DOS, separator=" "), "it has 'a2F"),
        (table("Energy (meV),alpha2F", MEV, DOS), "it has 'alpha2F'"),
        (table("Energy (meV),epsilon2", MEV, DOS), "it has 'epsilon2'"),
        (table("Energy (meV),sigma1 (S/cm)", MEV, DOS), "it has 'sigma1"),
        (table("E-E_F (meV),DOS", MEV, DOS), "it has 'E-E_F"),
        (table("# time (ps) VACF", MEV, DOS, separator=" "), "is not over a frequency"),
        (table("Energy (10 meV),DOS", MEV / 10, DOS), "names a multiple of meV"),
        (table("Frequency (10^12 Hz),DOS", MEV / 4, DOS), "names a multiple of Hz"),
        (table("Energy (meV),GDOS,variance", MEV, DOS, ERROR), "'variance', is no error"),
        (table("Energy (meV),GDOS,weight", MEV, DOS, ERROR), "'weight', is no error"),
        (table("Frequency (THz),IDOS", MEV / 4, np.cumsum(DOS)), "no column of x is a density"),
        (table("Energy (eV),DOS (states/eV)", MEV / 10 - 3, DOS), "the axis ends at 725"),
        (table("E (meV),doped,pristine", MEV, DOS, DOS), "'pristine', is no error"),
    ],
)
@pytest.mark.parametrize("unit", [None, "meV"])
def test_what_is_no_density_is_refused(text: str, words: str, unit: str | None) -> None:
    with pytest.raises(InputError) as caught:
        parse_text(text, unit, where="x")
    if unit is None or "said to be in" not in str(caught.value):
        assert re.search(words, str(caught.value)), str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (table("E/meV;g(E);σ", MEV, DOS, ERROR, separator=";"), ERROR),
        (table("Energy (meV),GDOS,error (%)", MEV, DOS, np.full(MEV.size, 5.0)), 0.05 * DOS),
        (table("Energy (meV),DOS,err_low,err_high", MEV, DOS, ERROR, 3 * ERROR), 2 * ERROR),
        (table("Energy (meV),dE,DOS,dDOS", MEV, np.full(MEV.size, 0.3), DOS, ERROR), ERROR),
        (table("E (meV),DOS,err", MEV, DOS, end=","), None),
        (table("DOS (1/meV),Energy (meV)", DOS, MEV), None),
    ],
)
def test_columns_are_read_as_their_names_say(text: str, error: np.ndarray | None) -> None:
    reading = parse_text(text, where="x")
    factor = thz_per("meV")
    np.testing.assert_allclose(reading.spectrum.frequency_thz, MEV * factor)
    np.testing.assert_allclose(reading.spectrum.dos, DOS / factor)
    if error is None:
        assert reading.error is None
    else:
        assert reading.error is not None
        np.testing.assert_allclose(reading.error, error / factor, rtol=1e-4)


@pytest.mark.parametrize("more", [{"@class": "Dos"}, {"@class": "PhononDos", "efermi": 1.0}, {"efermi": 0.0}])
def test_electrons_are_no_phonons(tmp_path: Path, more: dict[str, object]) -> None:
    path = tmp_path / "dos.json"
    path.write_text(json.dumps({"energies": MEV.tolist(), "densities": DOS.tolist(), "unit": "meV", **more}))
    with pytest.raises(InputError, match="is an electronic density of states"):
        read_file(path)


@pytest.mark.parametrize("known", HDF5_NOT_READ, ids=lambda known: known.name)
def test_hdf5_of_other_kinds_is_named(tmp_path: Path, known: object) -> None:
    names = {
        "phonopy's band.hdf5": ("path", "distance", "frequency"),
        "phonopy's force_constants.hdf5": ("force_constants",),
        "phonopy's qpoints.hdf5": ("frequency", "masses", "qpoint"),
        "VASP's vaspout.h5": ("results", "version"),
        "a histogram of multiphonon (HDF5)": ("I", "grid"),
    }[known.name]  # type: ignore[attr-defined]
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name in names:
            file[name] = np.zeros(3)
    path = tmp_path / "x.h5"
    path.write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="which is not read") as caught:
        read_file(path)
    assert known.name in str(caught.value)  # type: ignore[attr-defined]


def test_a_reference_far_from_the_sample_is_doubted() -> None:
    sample = Reading(Spectrum(MEV * thz_per("meV"), DOS))
    wrong = Reading(Spectrum(MEV, DOS))  # meV taken for THz
    (note,) = compatible(sample, wrong).notes
    assert "check that both are of this host, and their units" in note
    assert compatible(sample, sample).notes == ()
