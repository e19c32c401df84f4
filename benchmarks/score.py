"""How fast is batch scoring, how much memory does it take, and what share is that of what the predictor alone can do?

Spectra are the released ones with counting noise, so that no two are the same, nor are their references. The limit is
the predictor in as many processes at once, each with one thread and its part of the rows, without Ray, reading
nothing and writing nothing; it is measured before and after each run. The share is taken twice: of rows a second, and
of processor time a row, which a busy machine cannot blur.

    make bench-score                     10⁴, 10⁵ and 10⁶ rows; the last takes about half an hour on two cores
    make bench-score ROWS="10000"
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from writing import write_result

from defectnet.io.tables import read_spectra
from defectnet.model.predictor import Predictor
from defectnet.released import released_model

REPOSITORY = Path(__file__).resolve().parent.parent
WORKERS = 2
FILE_ROWS, GROUP_ROWS = 50_000, 8192
# Relative noise of a bin: that of some 2,500 counts.
NOISE = 0.02
# Of the limit, for each process: at most so many rows, and so many at once as a worker has in a shard.
LIMIT_ROWS, SHARD_ROWS = 20_000, 256
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print, and write `results/score.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    sizes = sorted(parser.parse_args().rows)
    runs: list[dict[str, float]] = []
    for n_rows in sizes:
        with tempfile.TemporaryDirectory(dir=runs_folder()) as folder:
            make_spectra(Path(folder) / "in", n_rows)
            before = limit(Path(folder) / "in", n_rows)
            run = score(Path(folder) / "in", Path(folder) / "out", n_rows)
            after = limit(Path(folder) / "in", n_rows)
        rows_per_s, cpu_s_per_row = ((a + b) / 2 for a, b in zip(before, after, strict=True))
        figures: dict[str, float] = {
            "rows": n_rows,
            "rows_per_s": run["rows_per_s"],
            "share_of_limit": round(run["rows_per_s"] / rows_per_s, 3),
            "cpu_share_of_limit": round(cpu_s_per_row / run["cpu_s_per_row"], 3),
            "limit_rows_per_s": round(rows_per_s, 1),
            "peak_rss_mb": run["peak_rss_mb"],
        }
        runs.append(figures)
        print(figures, flush=True)  # noqa: T201
        write_result("score", figures | {"workers": WORKERS, "runs": runs})


def runs_folder() -> Path:
    """Where large files may lie for a while."""
    folder = REPOSITORY / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def make_spectra(folder: Path, n_rows: int) -> None:
    """Write `n_rows` noisy copies of the released spectra as Parquet files in `folder`."""
    folder.mkdir(parents=True)
    table = read_spectra(REPOSITORY / "data")
    table = table.filter(pc.is_null(table["error"])).select(
        ["sample_id", "host", "frequency_step_thz", "dos", "reference_dos"]
    )
    random = np.random.default_rng(0)
    for start in range(0, n_rows, FILE_ROWS):
        chosen = table.take(np.arange(start, min(start + FILE_ROWS, n_rows)) % table.num_rows)
        ids = pc.binary_join_element_wise(
            chosen["sample_id"].cast(pa.string()),
            pa.array(np.arange(start, start + len(chosen))).cast(pa.string()),
            "-",
        )
        chosen = chosen.set_column(0, "sample_id", ids)
        for name in ("dos", "reference_dos"):
            column = chosen[name].combine_chunks()
            values = column.flatten().to_numpy().astype(np.float32)
            values *= 1.0 + NOISE * random.standard_normal(values.size, dtype=np.float32)
            half = pa.array(np.maximum(values, 0).astype(np.float16))
            noisy = pa.ListArray.from_arrays(column.offsets, half)
            chosen = chosen.set_column(chosen.schema.get_field_index(name), name, noisy)
        pq.write_table(chosen, folder / f"{start:09d}.parquet", row_group_size=GROUP_ROWS, compression="zstd")


def limit(folder: Path, n_rows: int) -> tuple[float, float]:
    """Rows/s of `WORKERS` predictors at once, and processor seconds a row."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(WORKERS), context.Queue()
    rows = min(n_rows // WORKERS, LIMIT_ROWS)
    parts = [(str(folder), worker * rows, rows, barrier, queue) for worker in range(WORKERS)]
    processes = [context.Process(target=_predict, args=part) for part in parts]
    with one_thread():
        for process in processes:
            process.start()
    measured = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    return sum(rate for rate, _ in measured), float(np.mean([cpu for _, cpu in measured]))


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started meanwhile compute by one thread, as Ray has its workers do."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def _predict(folder: str, start: int, rows: int, barrier: object, queue: object) -> None:
    import torch

    torch.set_num_threads(1)
    predictor = Predictor.load(released_model())
    table = read_spectra(sorted(Path(folder).glob("*.parquet"))[0]).slice(start, rows)
    predictor.predict_table(table.slice(0, 64))
    barrier.wait()  # type: ignore[attr-defined]
    begun, cpu = time.perf_counter(), time.process_time()
    done = sum(predictor.predict_table(table.slice(at, SHARD_ROWS)).num_rows for at in range(0, rows, SHARD_ROWS))
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    queue.put((done / seconds, cpu_s / done))  # type: ignore[attr-defined]


def score(source: Path, target: Path, n_rows: int) -> dict[str, float]:
    """Run `defectnet score`; its rows/s, the processor seconds a row and the peak memory of all its processes."""
    command = [sys.executable, "-m", "defectnet", "score", str(source), str(target), "--model", str(released_model())]
    process = subprocess.Popen([*command, "--workers", str(WORKERS)], stdout=subprocess.DEVNULL)
    watch = _Watch(process.pid)
    watch.start()
    returned = process.wait()
    watch.stopped.set()
    watch.join()
    assert returned == 0, "scoring failed"
    report = json.loads((target / "_report.json").read_text())
    parts = sorted(target.glob("part-*.parquet"))
    ids = pa.chunked_array([chunk for part in parts for chunk in pq.read_table(part)["sample_id"].chunks])
    assert report["errors"] == 0
    assert len(ids) == n_rows == pc.count_distinct(ids).as_py(), "not exactly one row for each"
    return {
        "rows_per_s": report["rows_per_s"],
        "cpu_s_per_row": watch.cpu_s / n_rows,
        "peak_rss_mb": round(watch.peak_bytes / 1e6, 1),
    }


class _Watch(threading.Thread):
    """Adds up the memory (each shared page once) and the processor time of a process and all below it."""

    def __init__(self, pid: int, every_s: float = 1.0) -> None:
        super().__init__(daemon=True)
        self._pid, self._every_s = pid, every_s
        self._cpu: dict[int, float] = {}
        self.stopped = threading.Event()
        self.peak_bytes = 0

    @property
    def cpu_s(self) -> float:
        """Of the scoring processes and of all that serves them, their start included."""
        return sum(self._cpu.values())

    def run(self) -> None:
        while not self.stopped.wait(self._every_s):
            total = 0
            for pid in _tree(self._pid):
                try:
                    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue  # it has just ended
                total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                self._cpu[pid] = (int(fields[11]) + int(fields[12])) / TICKS
            self.peak_bytes = max(self.peak_bytes, total)


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:  # grows while it is walked
        found += children.get(one, ())
    return found


if __name__ == "__main__":
    main()
