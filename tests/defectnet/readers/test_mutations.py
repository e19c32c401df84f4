"""Odd and damaged files are read as what they hold, or refused with what to do: never wrong, never a traceback."""

from pathlib import Path

import pytest
from support.reader_mutant import judge
from support.reader_mutations import KINDS, mutants

# As many again of each kind are tried by `make bench-readers`.
_EACH = 4
_SECONDS = 2.0


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[kind.__name__ for kind in KINDS])
def test_a_damaged_file(kind: int, tmp_path: Path) -> None:
    for number, mutant in enumerate(mutants(_EACH * len(KINDS), seed=1)):
        if number % len(KINDS) != kind:
            continue
        verdict, said, seconds = judge(mutant, tmp_path)
        assert verdict in ("right", "refused"), f"{number}: {said}"
        assert seconds < _SECONDS
