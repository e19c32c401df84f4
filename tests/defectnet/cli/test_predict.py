"""`defectnet predict` beyond the plain case: made references, neutrons, the check by simulation, the report."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.given_hosts import silicon_cif

from datagen.parents import load_parents

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run, repository: Path) -> Run:
    """Runs `defectnet predict` in an empty folder that sees the examples and has a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "examples").symlink_to(repository / "examples")

    return partial(command, "predict")


SAMPLE = ("examples/Si.csv", "--host", "Si")


def test_a_reference_from_the_library(run: Run) -> None:
    code, output, errors = run(*SAMPLE, "--reference", "library", "--json")
    assert (code, errors) == (0, "")
    (answer,) = json.loads(output)
    assert any("computed, not measured: mp-149 (space group 227), DFT (PBEsol)" in w for w in answer["warnings"])
    assert json.loads(run(*SAMPLE, "--reference", "mp-149", "--json")[1])[0]["elements"] == answer["elements"]
    for arguments, words in [
        (("examples/Si.csv", "--host", "Si0.9Ge0.1", "--reference", "library"), "Si9Ge is not in the library of hosts"),
        ((*SAMPLE, "--reference", "mp-0"), "mp-0 is not in the library of hosts; give a file"),
        ((*SAMPLE, "--reference", "mp-22862"), "mp-22862 is NaCl, not Si; name another"),
    ]:
        code, output, errors = run(*arguments)
        assert (code, output) == (2, "")
        assert words in errors


REFERENCE = ("--reference", "examples/Si-pristine.csv")


def test_a_wrong_unit_is_overridden_with_a_warning(run: Run, tmp_path: Path) -> None:
    rows = [line for line in Path("examples/Si.csv").read_text().splitlines() if line[:1].isdigit()]
    (tmp_path / "wrong.csv").write_text("\n".join(["Energy (meV),dos", *rows, ""]))
    asked = ("wrong.csv", "--host", "Si", "--candidates", "Ge", "--reference", "examples/Si-pristine.csv", "--json")
    code, _, errors = run(*asked, "--unit", "THz")
    assert code == 2
    assert "is said to be in THz and in meV" in errors
    code, output, _ = run(*asked, "--unit", "THz", "--override-unit")
    assert code == 0
    (answer,) = json.loads(output)
    assert any("it says meV " in warning and "was read in THz" in warning for warning in answer["warnings"])
    code, output, _ = run(*SAMPLE, *asked[3:])
    (right,) = json.loads(output)
    assert answer["elements"][0]["concentration"] == pytest.approx(right["elements"][0]["concentration"], rel=1e-3)
    code, _, errors = run(*asked, "--override-unit")
    assert code == 2
    assert "give --unit too" in errors


def test_recommendations_are_ranked_and_as_many_as_asked(run: Run) -> None:
    code, output, errors = run(*SAMPLE, *REFERENCE, "--recommend", "4")
    assert (code, errors) == (0, "")
    lines = [line.split() for line in output.splitlines() if line.strip()]
    ranks = [line for line in lines if line[0].rstrip(".") in {"1", "2", "3", "4", "5"}]
    assert len(ranks) == 4
    assert "Ge" in {word for line in ranks for word in line}  # what a chemist, the spectrum and the truth agree on


def test_without_the_prior_the_spectrum_speaks_alone(run: Run) -> None:
    arguments = (*SAMPLE, *REFERENCE, "--candidates", "Ge,C,P", "--json")
    with_prior, without = (json.loads(run(*arguments, *extra)[1])[0]["elements"] for extra in ((), ("--no-prior",)))
    assert {verdict["element"] for verdict in without} == {"Ge", "C", "P"}
    probabilities = [{v["element"]: v["probability"] for v in one} for one in (with_prior, without)]
    assert probabilities[0] != probabilities[1]


def test_a_mixed_crystal_as_host(run: Run) -> None:
    code, output, errors = run("examples/Si.csv", "--host", "Si0.9Ge0.1", "--json")
    assert (code, errors) == (0, "")
    (answer,) = json.loads(output)
    assert answer["host"] == "Si9Ge"
    assert "Ge" not in [verdict["element"] for verdict in answer["elements"]]  # it is no dopant of itself


def test_a_reference_from_a_structure_is_cached(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "host.cif").write_text(silicon_cif())
    arguments = ("examples/Si.csv", "--structure", "host.cif", "--json")
    code, output, errors = run(*arguments)
    assert (code, errors) == (0, "")
    (answer,) = json.loads(output)
    assert answer["host"] == "Si"  # from the structure
    assert any("host.cif with the potential nep89" in warning for warning in answer["warnings"])
    made = list((tmp_path / "cache" / "defectnet" / "parents").glob("*/phonopy_params.yaml"))
    assert len(made) == 1

    def fail(*_: object) -> None:
        raise AssertionError("the cached force constants were not used")

    monkeypatch.setattr("datagen.structures.from_structure", fail)
    assert json.loads(run(*arguments)[1])[0]["elements"] == answer["elements"]
    for extra, words in [
        (("--host", "Ge"), "host.cif is Si, not Ge; make them agree"),
        (("--reference", "examples/Si-pristine.csv"), "is one reference too many; give --reference or --structure"),
    ]:
        code, _, errors = run(*arguments, *extra)
        assert code == 2
        assert words in errors


def test_a_device_that_is_not_there(run: Run) -> None:
    code, _, errors = run(*SAMPLE, "--device", "cuda:77")
    assert code == 2
    assert "cannot compute on 'cuda:77'" in errors


def test_neutrons(run: Run, tmp_path: Path) -> None:
    (tmp_path / "resolution.csv").write_text("energy_mev,fwhm\n0,3\n60,1.5\n")
    code, output, _ = run(
        *SAMPLE, "--kind", "neutron", "--reference", "library", "--resolution", "resolution.csv", "--json"
    )
    assert code == 0
    assert json.loads(output)[0]["error"] is None


def test_the_check_and_the_report(run: Run, tmp_path: Path) -> None:
    """A sample that the same simulator made of the packaged silicon: the simulator must recognise it."""
    from datagen.answer_check import simulator_of
    from datagen.potentials import load_potential

    ((_, load),) = load_parents("packaged", ["Si"])
    (made,) = simulator_of(load(), load_potential("nep89"))({"Ge": 0.06}, 1)
    for name, spectrum in (("doped", made.doped), ("pristine", made.pristine)):
        rows = zip(spectrum.frequency_thz, spectrum.dos, strict=True)
        Path(f"{name}.csv").write_text("frequency_thz,dos\n" + "".join(f"{f:.5f},{d:.6g}\n" for f, d in rows))
    arguments = ("doped.csv", "--host", "Si", "--reference", "pristine.csv", "--candidates", "Ge", "--check")
    code, output, errors = run(*arguments, "--report", "out/report.html", "--json")
    assert (code, errors) == (0, "")
    (answer,) = json.loads(output)
    assert answer["elements"][0]["present"]
    check = answer["check"]
    assert check["agrees"]
    assert check["refined"][0]["element"] == "Ge"
    assert check["misfit"] < check["misfit_answered"] or check["misfit"] < 0.2
    assert "Check by simulation" in Path("out/report.html").read_text()
    code, output, _ = run(*arguments)
    assert "check: simulating the answer leaves" in " ".join(output.split())
    for given, words in [
        (("doped.csv", "--host", "Si", "--candidates", "Ge", "--check"), "--check: needs the pristine spectrum; give"),
        (("examples/batch.parquet", "--check"), "--check: is about one spectrum, not a table"),
        (("examples/batch.parquet", "--report", "x.html"), "--report: is about one spectrum, not a table"),
        (("examples/batch.parquet", "--no-prior"), "--no-prior: reads one spectrum, not a table"),
        (("examples/batch.parquet", "--host", "Si"), "--host: each row of a Parquet file brings its own"),
    ]:
        code, _, errors = run(*given)
        assert code == 2
        assert words in errors
