"""YAML that is refused before anything reads it."""

from pathlib import Path

import pytest

from datagen.parents import from_folder, packaged_folder
from defectnet.errors import InputError, SimulationError
from defectnet.io.safe_yaml import check_yaml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phonopy: !!python/object/apply:os.system ['true']", "tag"),
        ('{"a":!!python/name:os.system }', "tag"),
        ("a: &a [x]\nb: [*a, *a]", "anchors"),
        ("- &a x\n- *a", "anchors"),
        ("[" * 5_000_000, "nests"),
        ("{a: " * 40, "nests"),
        ("- " * 40 + "x", "nests"),
        ("\n".join("  " * level + "a:" for level in range(40)), "nests"),
    ],
)
def test_what_no_program_wrote(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_yaml(text, "it")


@pytest.mark.parametrize("path", sorted(packaged_folder().rglob("*.yaml")), ids=lambda path: path.parent.name)
def test_phonopys_own_files_pass(path: Path) -> None:
    check_yaml(path.read_text(encoding="utf-8"), path.name)


def test_a_calculation_of_a_stranger_is_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "owned"
    (tmp_path / "phonopy.yaml").write_text(f"phonopy: !!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(SimulationError, match="tag"):
        from_folder(tmp_path)
    assert not marker.exists()
