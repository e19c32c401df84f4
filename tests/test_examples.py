"""The programs in examples/ and what lies beside them."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defectnet.errors import InputError
from defectnet.io.tables import PREDICTIONS_SCHEMA, read_spectra, write_table
from defectnet.query import Query
from defectnet.readers import read_spectrum

HERE = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def made(tmp_path: Path, spectra: pa.Table) -> Path:
    """Examples made from one sample, and a batch of the others."""
    from make_examples import make_examples

    folder = tmp_path / "examples"
    (example,) = make_examples(spectra, ["Si:Ge 5 %"], 10, folder)
    assert (example.sample_id, example.truth) == ("Si-Ge5.0", "5.00 at.% Ge")
    return folder


def test_make_examples(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "Si-pristine.csv",
        "Si.csv",
        "batch.parquet",
        "request.json",
    ]
    sample, pristine = read_spectrum(made / "Si.csv"), read_spectrum(made / "Si-pristine.csv")
    assert sample.modes == pytest.approx(3.0, rel=1e-3)
    assert pristine.modes == pytest.approx(3.0, rel=1e-3)
    (item,) = json.loads((made / "request.json").read_text())["spectra"]
    query = Query.from_json(item)
    assert query.spectrum.dos.tolist() == sample.dos.tolist()
    assert query.reference is not None
    batch = read_spectra(made / "batch.parquet")
    assert batch["sample_id"].to_pylist() == ["Si:Ge 10 %", "Si", "no reference"]


@pytest.mark.parametrize("sample_id", ["nobody", "broken"])
def test_samples_without_a_spectrum(tmp_path: Path, spectra: pa.Table, sample_id: str) -> None:
    from make_examples import make_examples

    with pytest.raises(InputError, match="has no spectrum in the table"):
        make_examples(spectra, [sample_id], 10, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on an idle machine with two cores, several on a busy one
def test_the_demonstration(made: Path, untrained_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = ["--output", output, "--model", untrained_model, "--examples", made]
    command = [sys.executable, HERE / "demo.py", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=840, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    assert "nothing is left running" in result.stdout
    assert (output / "Si-Ge5.0.png").stat().st_size > 10_000
    answered = pq.read_table(output / "predictions.parquet")
    assert answered.schema.equals(PREDICTIONS_SCHEMA)
    assert answered["sample_id"].to_pylist() == ["Si-Ge5.0"]
    assert pq.read_table(output / "batch")["sample_id"].to_pylist() == ["Si:Ge 10 %", "Si", "no reference"]


def test_a_foreseen_error_is_one_sentence(made: Path, tmp_path: Path) -> None:
    options = ["--output", tmp_path / "out", "--model", tmp_path / "nowhere", "--examples", made]
    result = subprocess.run([sys.executable, HERE / "demo.py", *options], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_the_request_of_the_pipeline_asks_what_the_table_holds(spectra: pa.Table, tmp_path: Path) -> None:
    from pipeline import request_body

    write_table(spectra, tmp_path / "s.parquet")
    table = read_spectra(tmp_path / "s.parquet").slice(0, 4)
    queries = [Query.from_json(item) for item in request_body(table)["spectra"]]
    assert [query.sample_id for query in queries] == table["sample_id"].to_pylist()
    assert [query.reference is None for query in queries] == [False, False, False, True]
    assert queries[0].spectrum.modes == pytest.approx(3.0, rel=1e-4)


def test_the_examples_of_the_repository() -> None:
    """The committed spectra are what the README says they are."""
    spectra = json.loads((HERE / "request.json").read_text())["spectra"]
    queries = [Query.from_json(item) for item in spectra]
    assert {item["unit"] for item in spectra} == {"THz", "meV", "cm-1"}
    for query in queries:
        name = query.host.formula
        for path, spectrum in (
            (HERE / f"{name}.csv", query.spectrum),
            (HERE / f"{name}-pristine.csv", query.reference),
        ):
            assert spectrum is not None
            assert read_spectrum(path).dos.tolist() == spectrum.dos.tolist()
    batch = read_spectra(HERE / "batch.parquet")
    assert batch.num_rows >= 32
    assert batch["error"].null_count == batch.num_rows
