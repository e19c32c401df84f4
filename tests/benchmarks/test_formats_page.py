"""The page about formats is what the readers say, and each format has an example that is read rightly."""

from pathlib import Path

import formats
import numpy as np
import pytest
from support.format_examples import ERROR, EXAMPLES, FOLDER, THZ, VALUES

from defectnet.readers import FORMATS, Format, format_of
from defectnet.readers.content import load

# Made of an invented crystal's modes, not of the invented curve.
MODES = ("phonopy.yaml.xz", "mesh.yaml.xz", "mesh.hdf5", "castep.phonon.xz")
WITH_ERRORS = ("columns.csv", "columns.xlsx", "nexus.nxs", "mantid.nxs", "dave.grp", "grace.agr", "columns.npz")


def test_the_page_is_up_to_date(repository: Path) -> None:
    written = (repository / "docs" / "formats.md").read_text(encoding="utf-8")
    assert written == formats.page(), "run `make formats`"


def test_every_format_has_its_example() -> None:
    assert sorted(form.example for form in FORMATS) == sorted(EXAMPLES)
    assert {path.name for path in FOLDER.iterdir()} == set(EXAMPLES)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.example)
def test_an_example_is_known_and_read(form: Format) -> None:
    assert format_of(load(FOLDER / form.example)) is form
    reading = formats.read_example(form)
    assert reading.modes == pytest.approx(3.0, rel=1e-3)
    f, dos = reading.spectrum.frequency_thz, reading.spectrum.dos
    if form.example in MODES:
        assert f[np.argmax(dos)] == pytest.approx(16.0, abs=1.5)
    else:
        f, dos = f[f > 1e-9], dos[f > 1e-9]
        np.testing.assert_allclose(f, THZ, rtol=1e-4)
        np.testing.assert_allclose(dos, VALUES, atol=1e-4)
    assert (reading.error is not None) == (form.example in WITH_ERRORS)
    if reading.error is not None:
        np.testing.assert_allclose(reading.error, ERROR, atol=1e-4)


def test_the_same_modes_in_four_files() -> None:
    forms = {form.example: form for form in FORMATS}
    curves = {name: formats.read_example(forms[name]).spectrum for name in MODES}
    edges = np.linspace(0.0, 18.0, 37)
    shares = {name: np.diff(curve.normalised().cumulative(edges)) for name, curve in curves.items()}
    for name in ("mesh.hdf5", "castep.phonon.xz"):
        np.testing.assert_allclose(shares[name], shares["mesh.yaml.xz"], atol=2e-3)
    # On a mesh of its own, 25 times as fine: the same modes in windows that are wide beside the coarse mesh's gaps.
    wide = {name: share.reshape(6, 6).sum(axis=1) for name, share in shares.items()}
    assert 0.5 * np.abs(wide["phonopy.yaml.xz"] - wide["mesh.yaml.xz"]).sum() / 3.0 < 0.05
