"""The question that files put: what the command line asks, Python can ask too."""

from pathlib import Path

import numpy as np
import pytest

from defectnet.errors import InputError, UnitError
from defectnet.host import Host
from defectnet.readers import read_file
from defectnet.readers.query import read_query
from defectnet.references import library_reference

ROWS = "".join(f"{f:.2f},{np.exp(-((f - 8.0) ** 2)):.6f}\n" for f in np.arange(0.1, 16.0, 0.1))


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.csv"
    path.write_text("frequency_thz,dos\n" + ROWS)
    return path


def test_a_plain_question(sample: Path) -> None:
    question = read_query(sample, "Si", candidates=["Ge", "C"], prior=False)
    assert (question.query.sample_id, question.query.host, question.query.kind) == ("sample", Host("Si"), "vibrational")
    assert question.query.candidates == ("C", "Ge")
    assert question.query.prior is False
    assert question.query.reference is None
    assert question.notes == ()
    np.testing.assert_array_equal(question.query.spectrum.dos, question.reading.spectrum.dos)


def test_a_reference_may_be_a_file_a_name_or_a_spectrum(sample: Path, examples: Path) -> None:
    pristine = examples / "Si-pristine.csv"
    measured = read_file(pristine).spectrum
    for given in (pristine, str(pristine), measured):
        reference = read_query(sample, Host("Si"), reference=given).query.reference
        assert reference is not None
        np.testing.assert_array_equal(reference.dos, measured.dos)
    for given in ("library", "mp-149", library_reference(Host("Si"))):
        question = read_query(sample, "Si", reference=given)
        assert question.query.reference is not None
        assert any("computed, not measured: mp-149" in note for note in question.notes)


def test_a_host_that_was_computed_need_not_be_named(sample: Path) -> None:
    salt = library_reference(Host("NaCl"))
    assert read_query(sample, reference=salt).query.host == Host("NaCl")
    with pytest.raises(InputError, match="is NaCl, not Si"):
        read_query(sample, "Si", reference=salt)
    with pytest.raises(InputError, match="host: is missing"):
        read_query(sample)


def test_a_reference_without_a_unit_is_taken_to_be_like_the_sample(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(ROWS)
    question = read_query(tmp_path / "a.csv", "Si", unit="THz", reference=tmp_path / "b.csv")
    assert question.query.reference is not None
    assert question.query.reference.frequency_thz[-1] == question.query.spectrum.frequency_thz[-1]
    with pytest.raises(UnitError):
        read_query(tmp_path / "a.csv", "Si", reference=tmp_path / "b.csv")


def test_a_reference_that_was_computed_is_said_to_be(sample: Path, tmp_path: Path, examples: Path) -> None:
    rows = np.loadtxt(examples / "Si-pristine.csv", delimiter=",", skiprows=2)
    path = tmp_path / "total_dos.dat"
    np.savetxt(path, rows[:, :2], header="Tetrahedron method")
    assert read_query(sample, "Si", reference=path, reference_unit="THz").query.reference_kind == "computed"
    assert read_query(path, "Si", unit="THz", reference=path).query.reference_kind == "measured"  # both are
    assert read_query(sample, "Si", reference=examples / "Si-pristine.csv").query.reference_kind == "measured"
    assert read_query(sample, "Si", reference="library").query.reference_kind == "computed"


def test_errors_go_with_the_question(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    rows = [line.split(",") for line in ROWS.splitlines()]
    path.write_text("Energy (meV),DOS,error\n" + "".join(f"{4 * float(f)},{d},0.1\n" for f, d in rows))
    uncertainty = read_query(path, "Si").query.uncertainty
    assert uncertainty is not None
    np.testing.assert_allclose(uncertainty, 0.1 * 4.135667697, rtol=1e-6)
