"""How many small spectrum files are read a second, by one process.

make bench-readers
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from writing import write_result

from defectnet.readers import read_file

N_FILES = 500
N_POINTS = 300


def main() -> None:
    """Write files, read them, print and write `results/readers.json`."""
    axis = np.arange(1, N_POINTS + 1) * 0.05
    rng = np.random.default_rng(0)
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for columns in (2, 3):
            paths = []
            for number in range(N_FILES):
                values = [axis, *rng.random((columns - 1, N_POINTS))]
                path = Path(folder) / f"{columns}-{number}.csv"
                header = "frequency_thz,dos" + ",error" * (columns - 2)
                np.savetxt(path, np.transpose(values), delimiter=",", fmt="%.6g", header=header, comments="")
                paths.append(path)
            read_file(paths[0])
            # The best of three passes, because other processes may share the machine.
            seconds = min(_seconds(paths) for _ in range(3))
            rates[f"files_per_second_{columns}_columns"] = round(N_FILES / seconds)
    result = {"points": N_POINTS, "files": N_FILES, **rates}
    write_result("readers", result)
    print(json.dumps(result))  # noqa: T201


def _seconds(paths: list[Path]) -> float:
    started = time.perf_counter()
    for path in paths:
        read_file(path)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
