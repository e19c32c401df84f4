"""How well and how fast files are read: the cases that users had, damaged files, and small files a second.

make bench-readers
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from writing import write_result

from defectnet.readers import read_file

# The cases and the damaged files are the tests' own.
REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "tests"))

from support.reader_cases import ALL, judge_all  # noqa: E402
from support.reader_mutant import judge  # noqa: E402
from support.reader_mutations import KINDS, mutants  # noqa: E402

N_FILES = 500
N_POINTS = 300
# Of each kind of damage.
EACH = 15
SLOWEST_S = 2.0


def main() -> None:
    """Read everything, print and write `results/readers.json`."""
    result = {**_cases(), **_mutations(), **_speed()}
    write_result("readers", result)
    print(json.dumps(result))  # noqa: T201


def _cases() -> dict[str, object]:
    wrong = judge_all()
    return {"cases": len(ALL), "cases_right": len(ALL) - len(wrong), "cases_wrong": wrong}


def _mutations() -> dict[str, object]:
    verdicts: dict[str, int] = dict.fromkeys(("right", "refused", "wrong", "traceback"), 0)
    wrong, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for mutant in mutants(EACH * len(KINDS)):
            verdict, said, seconds = judge(mutant, Path(folder))
            verdicts[verdict] += 1
            slowest = max(slowest, seconds)
            if verdict in ("wrong", "traceback"):
                wrong.append(f"{mutant.kind}: {said[:200]}")
    return {
        "mutations": EACH * len(KINDS),
        "read_right": verdicts["right"],
        "refused": verdicts["refused"],
        "tracebacks": verdicts["traceback"],
        "silently_wrong": verdicts["wrong"],
        "wrong": wrong,
        "slowest_s": round(slowest, 2),
        "slower_than_2_s": slowest > SLOWEST_S,
    }


def _speed() -> dict[str, object]:
    axis = np.arange(1, N_POINTS + 1) * 0.05
    rng = np.random.default_rng(0)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for columns in (2, 3):
            paths = []
            for number in range(N_FILES):
                values = [axis, *0.01 + rng.random((columns - 1, N_POINTS)) * [[1.0], [0.1]][: columns - 1]]
                path = Path(folder) / f"{columns}-{number}.csv"
                header = "frequency_thz,dos" + ",error" * (columns - 2)
                np.savetxt(path, np.transpose(values), delimiter=",", fmt="%.6g", header=header, comments="")
                paths.append(path)
            read_file(paths[0])
            # The best of three passes, by the time of the processor: other programs may share the machine.
            rates[columns] = N_FILES / min(_seconds(paths) for _ in range(3))
    return {
        "points": N_POINTS,
        "files": N_FILES,
        "files_per_s": round(rates[2]),
        "files_per_s_3_columns": round(rates[3]),
    }


def _seconds(paths: list[Path]) -> float:
    started = time.process_time()
    for path in paths:
        read_file(path)
    return time.process_time() - started


if __name__ == "__main__":
    main()
