"""Whatever is wrong with the input: exit code 2, one sentence with field and fix, never a traceback."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from defectnet.io.tables import PREDICTIONS_SCHEMA, write_table

Run = Callable[..., tuple[int, str, str]]

GOOD = "frequency_thz,dos\n" + "".join(f"{0.1 * i:.1f},{1 + i % 5}\n" for i in range(1, 60))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run, spectra: pa.Table) -> Run:
    """Runs `defectnet` in a folder with good and bad files; returns exit code, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name, text in {
        "good.csv": GOOD,
        "nan.csv": GOOD.replace("2.0,1", "2.0,nan"),
        "negative.csv": GOOD.replace("2.0,1", "2.0,-4"),
        "unitless.csv": GOOD.removeprefix("frequency_thz,dos\n"),
        "four.csv": GOOD.replace("\n", ",0.1,0.2\n").replace("dos,0.1,0.2", "dos,error,temperature"),
        "empty.csv": "",
        "empty.parquet": "",
        "unknown.yaml": "colour: blue\n",
        "list.yaml": "- 1\n",
    }.items():
        Path(name).write_text(text, encoding="utf-8")
    Path("binary.csv").write_bytes(b"\x00\xff\xfe")
    write_table(spectra, "spectra.parquet")
    write_table(spectra.slice(4), "broken.parquet")
    write_table(spectra.drop_columns(["host"]), "hostless.parquet")
    Path("cut.parquet").write_bytes(Path("spectra.parquet").read_bytes()[:-50])
    write_table(PREDICTIONS_SCHEMA.empty_table(), "predictions.parquet")

    return command


def one_sentence(errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert "Traceback" not in errors
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # predict: the file
        ("predict missing.csv --host Si", "file: cannot read missing.csv (No such file or directory); check the path"),
        ("predict empty.csv --host Si", "file: empty.csv is empty; give two columns"),
        ("predict binary.csv --host Si", "file: binary.csv is not text; give"),
        ("predict four.csv --host Si", "file: which column of four.csv is the density is not clear"),
        ("predict nan.csv --host Si", "dos: value nan at point 19 in nan.csv; remove or repair it"),
        ("predict negative.csv --host Si", "dos: negative density -4 at point 19"),
        ("predict empty.parquet", "input: empty.parquet is not a readable Parquet file"),
        ("predict cut.parquet", "input: cut.parquet is not a readable Parquet file"),
        ("predict hostless.parquet", "host: hostless.parquet has no column 'host'; add it"),
        # predict: the options
        ("predict unitless.csv --host Si", "unit: unitless.csv does not say its unit; say THz, meV or cm-1"),
        ("predict good.csv --host Si --unit furlong", "unit: unknown unit 'furlong'; use THz, meV or cm-1"),
        ("predict good.csv --host Si --unit meV", "unit: good.csv is said to be in THz and in meV; make them agree"),
        ("predict good.csv", "--host: is missing; give"),
        ("predict good.csv --host Sillycon", "host: 'Sillycon' is not a chemical formula; write it like"),
        ("predict good.csv --host [/Si]", "host: '[/Si]' is not a chemical formula; write it like"),
        ("predict good.csv --host Si --candidates Ge,Xx", "candidates: 'Xx' is not an element"),
        ("predict good.csv --host Si --candidates ,", "candidates: the list is empty; name at least one"),
        ("predict good.csv --host Si --kind raman", "kind: a Raman spectrum is not a density of states; give"),
        ("predict good.csv --host Si --kind loud", "kind: unknown kind of spectrum 'loud'; use"),
        (
            "predict good.csv --host Si --reference nan.csv",
            "dos: value nan at point 19 in nan.csv; remove or repair it",
        ),
        ("predict good.csv --host Si --reference missing.csv", "cannot read missing.csv"),
        ("predict spectra.parquet --host Si", "--host: each row of a Parquet file brings its own; leave it out"),
        ("predict spectra.parquet --plot x.png", "--plot: draws one spectrum, not a table; use `defectnet plot`"),
        # plot
        ("plot missing.parquet", "input: no Parquet file at missing.parquet; check the path"),
        ("plot cut.parquet", "input: cut.parquet is not a readable Parquet file"),
        ("plot good.csv", "input: good.csv is not a readable Parquet file"),
        ("plot broken.parquet", "input: no row has a spectrum to draw; see"),
        ("plot spectra.parquet --predictions missing", "--predictions: missing holds no readable Parquet"),
        ("plot spectra.parquet --predictions predictions.parquet", "--predictions: are not those of INPUT; score"),
        # score
        ("score missing.parquet out", "check the path"),
        ("score cut.parquet out", "not a readable Parquet file"),
        ("score empty.parquet out", "not a readable Parquet file"),
        ("score hostless.parquet out", "host: hostless.parquet has no column 'host'; add it"),
        ("score spectra.parquet out --workers 0", "workers in the settings"),
        ("score spectra.parquet out --config unknown.yaml", "colour in unknown.yaml"),
        # train, evaluate, promote
        ("train missing.parquet", "check the path"),
        ("train cut.parquet", "not a readable Parquet file"),
        ("train spectra.parquet --config unknown.yaml", "colour in unknown.yaml"),
        ("train spectra.parquet --config list.yaml", "list.yaml holds no settings"),
        ("evaluate model cut.parquet", "not a readable Parquet file"),
        ("evaluate model spectra.parquet --split mine", "--split: 'mine' is no split; use"),
        ("promote", "promote: give exactly one of"),
        ("promote 3 --rollback", "promote: give exactly one of"),
        # serve
        ("serve --config missing.yaml", "cannot read missing.yaml"),
        ("serve --config unknown.yaml", "unknown.yaml must describe one application"),
        ("serve --host 0.0.0.0", "refusing to listen on 0.0.0.0 without a token; add one"),
        ("serve --model nowhere", "nowhere"),
        ("serve --port 70000", "port in the settings"),
        # simulate
        ("simulate --config unknown.yaml", "colour in unknown.yaml"),
        ("simulate --samples 0", "samples_per_parent in the settings"),
        ("simulate --parents missing.parquet", "missing.parquet"),
        ("simulate --parents cut.parquet", "cut.parquet"),
        ("simulate --dopant Xx", "'Xx' is not an element"),
    ],
)
def test_bad_input(run: Run, arguments: str, words: str) -> None:
    code, output, errors = run(*arguments.split())
    assert words in one_sentence(errors)
    assert code == 2
    assert output == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("predict good.csv --host Si --model nowhere", "nowhere"),
        ("promote 3", "the registry has no version 3"),
        ("promote --artifact nowhere", "nowhere"),
        ("score spectra.parquet out", "there is no model registry"),
        ("simulate --potential nep:nowhere.txt", "nowhere.txt"),
    ],
)
def test_what_is_not_there(run: Run, arguments: str, words: str) -> None:
    code, _, errors = run(*arguments.split())
    assert words in one_sentence(errors)
    assert code == 1


def test_a_bad_row_costs_only_itself(run: Run, untrained_model: Path) -> None:
    code, output, errors = run("predict", "spectra.parquet", "--model", untrained_model, "--json")
    predictions = json.loads(output)
    assert [prediction["error"] is None for prediction in predictions] == [True, True, True, True, False]
    assert "1 of 5 rows have no answer, first 'broken'" in one_sentence(errors)
    assert code == 2


def test_good_input_for_comparison(run: Run, untrained_model: Path, tmp_path: Path) -> None:
    more = ("--reference", "unitless.csv", "--unit", "THz", "--candidates", "Ge,Sn", "--plot", "x.png")
    code, output, errors = run("predict", "good.csv", "--host", "Si", "--model", untrained_model, *more)
    assert (code, errors) == (0, "")
    assert "Ge" in output
    assert (tmp_path / "x.png").is_file()


def test_the_installed_command_says_it_in_one_sentence(repository: Path) -> None:
    command = [Path(sys.executable).with_name("defectnet"), "predict", "nothing.csv", "--host", "Si"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=repository)
    assert result.returncode == 2
    assert "check the path" in one_sentence(result.stderr)
