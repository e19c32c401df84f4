"""Texts as other programs write them: what is named is read by its name, and what a name denies is not read."""

from pathlib import Path

import numpy as np
import pytest

from defectnet.errors import InputError
from defectnet.readers import Reading, parse_text, read_file

MEV = np.round(np.arange(1, 121) * 0.5, 4)
DOS = np.round(np.exp(-0.5 * ((MEV - 30) / 8) ** 2) + 0.002, 6)
ERROR = 0.02
ROWS = [(float(x), float(y), ERROR) for x, y in zip(MEV, DOS, strict=True)]


def lines(separator: str = " ", start: str = "", n: int = 3) -> str:
    return "".join(start + separator.join(map(str, row[:n])) + "\n" for row in ROWS)


def same(found: Reading, errors: bool) -> None:
    np.testing.assert_allclose(found.spectrum.frequency_thz * 4.135667696923859, MEV, rtol=1e-9)
    np.testing.assert_allclose(found.spectrum.dos / 4.135667696923859, DOS, rtol=1e-9)
    assert (found.error is not None) == errors
    if found.error is not None:
        np.testing.assert_allclose(found.error / 4.135667696923859, ERROR, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        # LAMP and others: a line for each column, all of them or some
        ("LAMP  IN5 run 123456\n X: Energy transfer (meV)\n Y: P(omega)\n" + lines(), True),
        ("x: hw (meV)\ny: g(w)\n" + lines(n=2), False),
        ("# column 1: energy (meV)\n# column 2: dos\n# column 3: error\n" + lines(), True),
        ("# 1: energy (meV)\n# 2: dos\n# 3: error\n" + lines(), True),
        ("# 1st column: energy (meV)\n# 2nd column: dos\n" + lines(n=2), False),
        # R's write.table, whose header lacks the row numbers' name
        (
            '"energy_mev" "dos" "error"\n'
            + "".join(f'"{i}" {x} {y} {e}\n' for i, (x, y, e) in enumerate(ROWS, start=1)),
            True,
        ),
        # Origin, with the names of the header's lines where the numbers have an empty cell
        (
            "Long Name\tEnergy transfer\tGDOS\tError\nUnits\tmeV\t1/meV\t1/meV\nComments\t\t300 K\t\n"
            + lines("\t", start="\t"),
            True,
        ),
        # Astropy's ECSV
        (
            "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: energy, unit: meV, datatype: float64}\n"
            "# - {name: dos, datatype: float64}\nenergy dos\n" + lines(n=2),
            False,
        ),
        ("Énergie (meV);Densité d'états;Erreur\n" + lines(";"), True),
        ("Energia (meV);Densità;Incertezza\n" + lines(";").replace("Densità", "densità"), True),
        # psql
        (
            " energy_mev |  gdos  | error\n------------+--------+-------\n"
            + lines(" | ", start=" ")
            + "(120 rows)\n\n",
            True,
        ),
    ],
)
def test_dialects_are_read(text: str, errors: bool) -> None:
    same(parse_text(text), errors)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# frequency (THz, angular: 2*pi included)  dos\n" + lines(n=2), "has an angular frequency on its axis"),
        ("Frequency (THz, rad), dos\n" + lines(",", n=2), "has an angular frequency on its axis"),
        (
            "# vdos; units=au;\n# omega; units=rad/ps\nomega,vdos\n" + lines(",", n=2),
            "has an angular frequency on its axis",
        ),
        (
            "# mode frequency(cm-1) degeneracy\n" + "".join(f"{i} {i}.5 1\n" for i in range(1, 60)),
            "it has 'degeneracy'",
        ),
        ("Energy (meV),GDOS,sigma^2\n" + lines(","), r"'sigma\^2', is no error"),
        ("Energy (meV),GDOS,error²\n" + lines(","), "'error²', is no error"),
        ("Energy (meV),GDOS,err squared\n" + lines(","), "'err squared', is no error"),
        ("# Energy(meV), S(Q,w)_total, S(Q,w)_inc\n" + lines(", "), "such as --column 2"),
        ("IGOR\nWAVES/D energy_meV, gdos\nBEGIN\n" + lines("\t", n=2) + "END\n", "is text of Igor .* not read"),
        ("<table><tr><td>1</td></tr></table>\n" + lines(n=2), "is a web page or other markup"),
        ("\\begin{tabular}{cc}\n" + lines(" & ", n=2), "is LaTeX"),
    ],
)
def test_what_a_name_denies_is_not_read(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(InputError, match=words):
        read_file(tmp_path / "x.txt")


@pytest.mark.parametrize(
    ("line", "sigma_thz"),
    [
        ("sigma = 0.3", 0.3),
        ("# smearing: Gaussian, FWHM 2.35482 THz", 1.0),
        ("broadening (sigma): 0.3 THz", 0.3),
        ("smearing: Lorentzian, 0.3 THz", None),
        ("broadening, HWHM: 0.3", None),
        ("GDOS, sigma^2", None),
        ("sigma at T = 5 K", None),
        ("error sigma, temperature 10", None),
    ],
)
def test_a_width_is_said_by_what_means_one(line: str, sigma_thz: float | None) -> None:
    found = parse_text(f"# {line}\nfrequency_thz,dos\n" + lines(",", n=2)).broadening
    if sigma_thz is None:
        assert found is None
    else:
        assert found is not None
        assert found.sigma_thz == pytest.approx(sigma_thz, rel=1e-4)


def test_a_unit_that_nobody_knows_is_said() -> None:
    (note,) = parse_text("Energy (zJ),DOS\n" + lines(",", n=2), "meV").notes
    assert note == "its axis 'Energy (zJ)' names 'zJ', which is no unit that is known; it was read in meV"
    assert not parse_text("Energy (meV),DOS\n" + lines(",", n=2), "meV").notes
    assert not parse_text("Energy,DOS\n" + lines(",", n=2), "meV").notes
