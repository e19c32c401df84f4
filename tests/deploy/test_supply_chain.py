"""What is installed: locked by sums, licensed, and an image that is nobody's root."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def chain(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply_chain", repository / "deploy" / "supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_locks_hold_what_the_constraints_say_with_a_sum_each(chain: ModuleType):
    assert chain.lock_problems() == []
    assert len(chain.pins(chain.ALL_LOCK)) == len(chain.pins(chain.CONSTRAINTS)) > 200
    assert chain.pins(chain.RUNTIME_LOCK).keys() < chain.pins(chain.ALL_LOCK).keys()


def test_the_image_gets_all_that_the_stages_need_and_none_of_the_tools(chain: ModuleType):
    locked = chain.pins(chain.RUNTIME_LOCK).keys()
    assert chain.runtime() <= locked
    assert {"ray", "torch", "mlflow", "orjson", "phonopy"} <= locked
    assert not {"pytest", "mypy", "euphonic", "hypothesis", "pip-audit"} & locked


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("rich==15.0.0", "rich==14.0.0", "rich not as in constraints.txt"),
        ("numpy==", "# numpy==", "numpy missing"),
        (" --hash=sha256:", " # ", "is no pin"),
    ],
)
def test_a_lock_that_is_wrong_is_found(
    chain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: str
):
    wrong = tmp_path / "requirements.lock"
    text = chain.ALL_LOCK.read_text()
    assert before in text
    wrong.write_text(text.replace(before, after))
    monkeypatch.setattr(chain, "ALL_LOCK", wrong)
    try:
        found = " ".join(chain.lock_problems())
    except SystemExit as error:
        found = str(error)
    assert said in found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [("USER 1000", "USER root", "ends as root"), (" --require-hashes", "", "installs without sums")],
)
def test_an_image_that_is_wrong_is_found(
    chain: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, said: str
):
    monkeypatch.setattr(chain, "_tool", lambda name: None)
    assert chain.image_problems() == []
    text = (chain.HERE / "Dockerfile").read_text()
    (tmp_path / "Dockerfile").write_text(text.replace(before, after))
    monkeypatch.setattr(chain, "HERE", tmp_path)
    assert said in " ".join(chain.image_problems())


def test_the_parts_under_the_gpl_are_named(chain: ModuleType):
    table = chain.licence_table()
    strong = {line.split("**")[1] for line in table.splitlines() if line.startswith("| **")}
    assert {"nep-adapters", "euphonic"} <= strong
    assert not {"numpy", "ray", "psycopg2-binary"} & strong, "the LGPL asks less"
    # What is not installed here (`make audit` brings its own tools) cannot be asked for its licence.
    written = {line for line in chain.LICENCES.read_text().splitlines() if line.startswith("| **")}
    absent = {line for line in written if chain.licence_of(line.split("**")[1]) == "not installed here"}
    assert written - absent == {line for line in table.splitlines() if line.startswith("| **")}
