"""Model references and the registry's address, read alike by every verb."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from defectnet.errors import InputError, RegistryError
from defectnet.models import (
    DEFAULT_MODEL,
    ModelReference,
    ModelVersion,
    find_version,
    first_line,
    registry_errors,
    sqlite_file,
    tracking_uri,
)
from defectnet.released import released_model


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("models:/defectnet@champion", ModelReference(alias="champion")),
        ("defectnet@champion", ModelReference(alias="champion")),
        ("models:/other/3", ModelReference("other", version="3")),
        ("defectnet/3", ModelReference(version="3")),
        ("3", ModelReference(version="3")),
        ("released", ModelReference(folder=released_model())),
        ("runs/mine/model", ModelReference(folder=Path("runs/mine/model"))),
        ("runs/model", ModelReference(folder=Path("runs/model"))),
        ("/srv/models/4", ModelReference(folder=Path("/srv/models/4"))),
        ("nowhere", ModelReference(folder=Path("nowhere"))),
    ],
)
def test_every_form(text: str, reference: ModelReference) -> None:
    assert ModelReference.parse(text) == reference
    assert ModelReference.parse(str(reference)) == reference


@pytest.mark.parametrize("text", ["", " ", "models:/", "models:/a", "models:/a@", "models:/a/b", "models:/a/b/c"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InputError, match="models:/NAME@ALIAS") as caught:
        ModelReference.parse(text, field="base")
    assert caught.value.field == "base"


def test_a_folder_that_exists_is_meant_before_a_short_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "defectnet" / "3").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert ModelReference.parse("defectnet/3").existing_folder() == Path("defectnet/3")
    assert ModelReference.parse("models:/defectnet/3").registered
    assert ModelReference.parse("defectnet/3").absolute().folder == tmp_path / "defectnet" / "3"


def test_a_mistyped_folder_is_a_folder_and_not_there() -> None:
    with pytest.raises(InputError, match="runs/mine/modle is no folder"):
        ModelReference.parse("runs/mine/modle").existing_folder()


def test_one_version_of_it() -> None:
    assert str(ModelReference.parse("other@champion").at("7")) == "models:/other/7"
    folder = ModelReference(folder=Path("model"))
    assert folder.at("7") == folder
    assert str(ModelReference.parse(DEFAULT_MODEL)) == DEFAULT_MODEL


class Registry:
    """Knows one version and one alias."""

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        return SimpleNamespace(version=int(version), run_id="")

    def get_model_version_by_alias(self, name: str, alias: str) -> SimpleNamespace:
        return SimpleNamespace(version=5, run_id="run")

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return f"store/{name}/{version}"


def test_a_version_is_found_by_number_and_by_alias() -> None:
    found = find_version(Registry(), ModelReference(alias="champion"))
    assert found == ModelVersion("defectnet", "5", "store/defectnet/5", "run")
    found = find_version(Registry(), ModelReference("other", version="3"))
    assert found == ModelVersion("other", "3", "store/other/3", None)


class Refusal(Exception):
    """As MLflow's: it has a code."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("error", "wanted", "said"),
    [
        (Refusal("no such alias\nat line 5"), "alias champion of defectnet", "the registry has no alias champion of"),
        (Refusal("no such alias\nat line 5"), "", r"cannot look \(no such alias\); check the registry"),
        (ConnectionError(), "alias champion of defectnet", r"cannot look \(ConnectionError\)"),
    ],
)
def test_a_registry_that_refuses_is_one_sentence(error: Exception, wanted: str, said: str) -> None:
    with (
        pytest.raises(RegistryError, match=said) as caught,
        registry_errors("cannot look", (Refusal,), wanted=wanted),
    ):
        raise error
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), registry_errors("cannot look", (Refusal,)):
        raise KeyError


def test_what_an_exception_says_first() -> None:
    assert first_line(ValueError("\n\nwhy\nwhere")) == "why"
    assert first_line(ValueError()) == "ValueError"


def test_the_registrys_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert tracking_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " ")
    assert tracking_uri() == f"sqlite:///{tmp_path}/runs/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example ")
    assert tracking_uri() == "http://mlflow.example"
    assert tracking_uri("sqlite:////data/a.db") == "sqlite:////data/a.db"
    assert tracking_uri("sqlite:///runs/x.db") == f"sqlite:///{tmp_path}/runs/x.db"
    # Of these two, promotion and serving once made different files of one address.
    assert tracking_uri("sqlite:///~/x.db") == "sqlite:////home/someone/x.db"
    assert tracking_uri("sqlite:///x.db?timeout=30") == f"sqlite:///{tmp_path}/x.db?timeout=30"


def test_the_file_of_a_sqlite_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_file("sqlite:///x.db?timeout=30") == tmp_path / "x.db"
    assert sqlite_file("sqlite:///:memory:") is None
    assert sqlite_file("sqlite://") is None
    assert sqlite_file("http://mlflow.example") is None
