from pathlib import Path

import pytest
from pydantic import PositiveInt, ValidationError

from defectnet.errors import SettingsError
from defectnet.settings import Settings


class Inner(Settings):
    width: PositiveInt = 8


class Outer(Settings):
    name: str = "x"
    epochs: PositiveInt = 3
    inner: Inner = Inner()


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    assert Outer.from_yaml() == Outer()


def test_overrides_win_over_the_file_unless_none(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 5\ninner: {width: 4}\n")
    assert Outer.from_yaml(path, epochs=None) == Outer(epochs=5, inner=Inner(width=4))
    assert Outer.from_yaml(path, epochs=7).epochs == 7


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    assert Outer.from_yaml(written(tmp_path, "# nothing\n")) == Outer()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epoch: 5\n", "epoch in .*settings.yaml"),
        ("epochs: -5\n", "epochs in .*settings.yaml: .*greater than 0"),
        ("inner: {width: many}\n", r"inner\.width in"),
        ("- 5\n", "holds no settings"),
        ("epochs: [\n", "is not YAML"),
        ("epochs: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        Outer.from_yaml(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="check the path"):
        Outer.from_yaml(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is not YAML"):
        Outer.from_yaml(tmp_path / "binary.yaml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Outer().epochs = 4  # type: ignore[misc]


@pytest.mark.parametrize("config", sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_configs_of_the_project_are_valid(config: Path) -> None:
    from datagen.settings import PrepareSettings, SimulateSettings
    from serving.settings import ScoreSettings, load_service_settings
    from training.comparison.fit import CompareSettings
    from training.settings import TrainSettings

    if config.stem == "docs":
        pytest.skip("read by mkdocs, which `make docs` runs strictly")
    if config.stem == "serve":
        load_service_settings(config)
        return
    readers = {
        "train": TrainSettings,
        "model": TrainSettings,
        "score": ScoreSettings,
        "simulate": SimulateSettings,
        "dataset": SimulateSettings,
        "dataset-nequix": SimulateSettings,
        "responses": PrepareSettings,
        "compare": CompareSettings,
    }
    readers[config.stem].from_yaml(config)
