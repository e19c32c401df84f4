"""The failing inputs that users had have their right answers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.reader_cases import ALL, CASES, Case, judge, truth_answer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    """The answer to the sample that most of the files hold."""
    return truth_answer()


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.number)
def test_a_case_has_its_right_answer(
    case: Case, command: Run, truth: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CASES / case.folder)
    assert judge(case, command, truth) == ""


def test_the_same_file_gives_the_same_answer_wherever_one_stands(command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """phonopy looks for BORN and force constants in the working directory."""
    folder = CASES / "34_files_in_cwd"
    answers = []
    for place in (folder, folder / "pristine"):
        monkeypatch.chdir(place)
        code, output, _ = command("inspect", str(folder / "pristine" / "phonopy.yaml"), "--json")
        assert code == 0
        answers.append(json.loads(output))
    assert answers[0] == answers[1]
    assert answers[0]["top_thz"] == pytest.approx(25.76, abs=0.1)
