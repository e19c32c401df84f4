from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defectnet.errors import InputError, SpectrumError, TableError, UnitError
from defectnet.io.tables import write_table
from defectnet.readers import is_parquet, parse_text, read_spectrum
from defectnet.units import thz_per

AXIS = np.arange(1, 41) * 0.5
DOS = 1.0 + np.sin(AXIS) ** 2


def body(separator: str = ",") -> str:
    return "".join(f"{f}{separator}{d}\n" for f, d in zip(AXIS, DOS, strict=True))


@pytest.mark.parametrize("separator", [",", ";", "\t", "  ", ", "])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_separators(separator: str, ending: str) -> None:
    spectrum = parse_text(body(separator).replace("\n", ending), "THz").spectrum
    np.testing.assert_allclose(spectrum.frequency_thz, AXIS)
    np.testing.assert_allclose(spectrum.dos, DOS)


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("# unit: meV\n", "meV"),
        ("% Unit = THz\n# measured by hand\n", "THz"),
        ("frequency_mev,dos\n", "meV"),
        ("# units: meV\nenergy dos\n", "meV"),
        ("# Frequency (THz)   DOS\n# instrument: Ei = 60 meV\n", "THz"),
        ("# resolution FWHM 5 cm-1\n# Energy (meV)  DOS (1/THz)\n", "meV"),
        ("Energy transfer\tGDOS\nmeV\ta.u.\n300 K\tsample A\n", "meV"),
        ("Energy (meV),GDOS 300 K\n", "meV"),
        ("Frequency / TeraHz,dos\n", "THz"),
        ("Wavenumber (1 / cm),dos\n", "cm-1"),
        ("# column 1: energy (meV)\n# column 2: density\n", "meV"),
        ("Frequency (cm-1)   DOS\n", "cm-1"),
        ("# Energy [meV] g(E) [1/meV]\n", "meV"),
        ("# taken at 300 K with a resolution of 2 meV\n# frequency/THz, dos\n", "THz"),
        ("# unit: THz\n# resolution 2 meV\nx,y\n", "THz"),
    ],
)
def test_the_file_says_its_unit(header: str, unit: str) -> None:
    for said in (None, unit):
        spectrum = parse_text(header + body(), said).spectrum
        assert spectrum.frequency_thz[0] == pytest.approx(AXIS[0] * thz_per(unit))


@pytest.mark.parametrize(
    ("text", "unit", "words"),
    [
        (body(), None, "x.csv does not say its unit; say THz, meV or cm-1"),
        ("frequency,dos\n" + body(), None, "does not say its unit"),
        ("# unit: furlong\n" + body(), None, "unknown unit 'furlong'"),
        ("# unit: meV\n" + body(), "THz", "is said to be in THz and in meV; make them agree"),
        (body(), "eV", "unknown unit 'eV'"),
    ],
)
def test_units_are_never_guessed(text: str, unit: str | None, words: str) -> None:
    with pytest.raises(UnitError, match=words) as caught:
        parse_text(text, unit, where="x.csv")
    assert caught.value.field == "unit"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "file: x.csv is empty"),
        (" \n\n", "file: x.csv is empty"),
        ("# unit: THz\nfrequency,dos\n", "file: x.csv holds no numbers"),
        ("1 2 3\n" + body(" "), "file: line 2 of x.csv has 2 columns, the first had 3; repair"),
        ("1\n", "file: line 1 of x.csv has 1 column; give two"),
        (body().replace("\n", ",1,2\n"), "file: x.csv has 4 columns; give two"),
        ("frequency,dos,temperature\n" + body().replace("\n", ",1\n"), "third column of x.csv, 'temperature', is no"),
        (body().replace("\n", ",-1\n"), "error: negative error -1 at point 0 in x.csv; give standard errors"),
        (body() + "20.5,lots\n", "file: line 41 of x.csv is not numbers"),
        (body() + "20.5,nan\n21,1\n", "dos: value nan at point 40 in x.csv; remove or repair it"),
        (body() + "20.5,-9\n", r"dos: negative density -9 at point 40 \(20.5 THz\) in x.csv"),
        (body() + body(), "frequency: not increasing at point 40 in x.csv"),
        ("1,2\n2,3\n", "dos: 2 points are too few for a spectrum in x.csv"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, words: str) -> None:
    with pytest.raises(SpectrumError, match=words) as caught:
        parse_text(text, "THz", where="x.csv")
    assert caught.value.fix


@pytest.mark.parametrize("header", ["", "# unit: meV\nenergy,dos,error\n", "E_mev  g(E)  dG_err\n", "x y e\n"])
def test_a_third_column_is_the_error_of_the_density(header: str) -> None:
    unit = None if "mev" in header.lower() else "meV"
    reading = parse_text(header + body().replace("\n", ",0.1\n"), unit)
    assert reading.error is not None
    # A density per meV, and its error, become a density per THz.
    np.testing.assert_allclose(reading.error / reading.spectrum.dos, 0.1 / DOS)
    assert parse_text(body(), "THz").error is None


def test_no_error_is_not_zero() -> None:
    lines = body().splitlines()
    mixed = "\n".join(f"{line},{('0', 'nan', '0.2')[i % 3]}" for i, line in enumerate(lines))
    error = parse_text(mixed, "THz").error
    assert error is not None
    np.testing.assert_array_equal(np.isnan(error), [i % 3 != 2 for i in range(len(lines))])
    assert parse_text("\n".join(line + ",0" for line in lines), "THz").error is None


@given(st.text(max_size=200))
def test_any_text_is_a_spectrum_or_an_input_error(text: str) -> None:
    with suppress(InputError):
        parse_text(text, "THz")


def test_files(tmp_path: Path, spectra: pa.Table) -> None:
    text, table, named = tmp_path / "a.csv", tmp_path / "b.bin", tmp_path / "c.parquet"
    text.write_text("\ufefffrequency_thz,dos\n" + body(), encoding="utf-8")  # with the mark that spreadsheets write
    write_table(spectra, table)
    named.write_bytes(b"")
    assert not is_parquet(text)
    assert is_parquet(table)  # by content
    assert is_parquet(named)  # by what it was meant to be, so that the message is about Parquet
    assert read_spectrum(text).frequency_thz.size == AXIS.size
    with pytest.raises(TableError, match="is a Parquet table"):
        read_spectrum(table)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    for content, words in (
        (b"\x89HDF\r\n\x1a\n\xff\xfe", "is not a readable HDF5 file"),
        (b"\x00\xff\xfe", "is not text"),
    ):
        (tmp_path / "x.csv").write_bytes(content)
        with pytest.raises(SpectrumError, match=words):
            read_spectrum(tmp_path / "x.csv", "THz")
    for path in (tmp_path / "missing.csv", tmp_path):
        with pytest.raises(InputError, match="check the path"):
            read_spectrum(path, "THz")
        with pytest.raises(InputError, match="check the path"):
            is_parquet(path)
