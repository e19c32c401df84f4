"""What large campaigns cost, computed from figures that are measured here or by the other benchmarks.

Measured here, in some two minutes: how fast a driver hands out shards that cost nothing, plans files, checks what is
finished, and simulates a few packaged parents; how many bytes a row takes. From `results/score.json`: rows/s of a
scoring process. Everything else is arithmetic, below.

    make capacity
"""

import json
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from score import GROUP_ROWS, make_spectra, runs_folder
from writing import RESULTS, write_result

from datagen.parents import load_parents
from datagen.potentials import load_potential
from datagen.samples import rows_table, simulate_parent
from datagen.settings import SimulateSettings
from defectnet.io.compact import compacted
from defectnet.io.ray_session import ray_session
from defectnet.io.storage import Location
from defectnet.io.tables import read_spectra, write_table
from defectnet.model.predictor import Predictor
from defectnet.released import released_model
from serving.batch.shards import WEIGHTS_KEY, finished, plan_shards
from serving.settings import ScoreSettings

SHARD_ROWS = ScoreSettings().shard_rows
CORES_A_NODE = 16
SIMULATED_PARENTS, SIMULATED_SAMPLES = ("Si", "GaAs", "MgO"), 4


def main() -> None:
    """Measure, compute, print, and write `results/capacity.json`."""
    score = json.loads((RESULTS / "score.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(dir=runs_folder()) as folder:
        measured = {
            "score_rows_per_core_s": round(score["rows_per_s"] / score["workers"], 1),
            "score_rows_measured": score["rows"],
            **bytes_a_row(Path(folder)),
            "plan_files_per_s": plan_rate(Path(folder)),
            "resume_rows_per_s": resume_rate(Path(folder)),
            "driver_shards_per_s": driver_rate(),
            **simulation(),
        }
    result = {"measured": measured, "campaigns": campaigns(measured), "limits": limits(measured)}
    write_result("capacity", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def campaigns(m: dict[str, float]) -> dict[str, dict[str, float]]:
    """Core hours, hours on some nodes, and storage."""

    def scoring(rows: float, nodes: int) -> dict[str, float]:
        core_hours = rows / m["score_rows_per_core_s"] / 3600
        return {
            "core_hours": round(core_hours, 1),
            "nodes_of_16_cores": nodes,
            "hours": round(core_hours / (nodes * CORES_A_NODE), 2),
            "input_gb": round(rows * m["input_bytes_per_row"] / 1e9, 1),
            "output_gb": round(rows * m["output_bytes_per_row"] / 1e9, 1),
            "output_files": round(rows / SHARD_ROWS),
        }

    spectra = 10_000 * 10
    core_hours = spectra / m["simulate_spectra_per_core_s"] / 3600
    return {
        "1e6 spectra a day, as a batch": scoring(1e6, 1),
        "1e9 spectra, 100 nodes": scoring(1e9, 100),
        "10,000 parents, 10 spectra each": {
            "core_hours": round(core_hours, 1),
            "nodes_of_16_cores": 10,
            "hours": round(core_hours / (10 * CORES_A_NODE), 2),
            "output_gb": round(spectra * m["simulated_bytes_per_row"] / 1e9, 2),
        },
    }


def limits(m: dict[str, float]) -> dict[str, float]:
    """Where one driver, one plan and one resume end."""
    rows_per_s = m["driver_shards_per_s"] * SHARD_ROWS
    return {
        "driver_rows_per_s": round(rows_per_s),
        "cores_that_one_driver_feeds": round(rows_per_s / m["score_rows_per_core_s"]),
        "hours_to_plan_20000_files": round(20_000 / m["plan_files_per_s"] / 3600, 2),
        "hours_to_check_1e9_finished_rows": round(1e9 / m["resume_rows_per_s"] / 3600, 2),
    }


def bytes_a_row(folder: Path) -> dict[str, float]:
    """Bytes of a row of a spectra file with noise, which cannot be compressed away, and of its predictions."""
    make_spectra(folder / "one", GROUP_ROWS)
    (file,) = (folder / "one").glob("*.parquet")
    table = read_spectra(file).slice(0, 1024)
    write_table(Predictor.load(released_model()).predict_table(table), folder / "predictions.parquet")
    return {
        "input_bytes_per_row": round(file.stat().st_size / GROUP_ROWS),
        "output_bytes_per_row": round((folder / "predictions.parquet").stat().st_size / table.num_rows),
    }


def plan_rate(folder: Path, n_files: int = 500) -> float:
    """Files/s that a plan opens, on the local disk."""
    table = read_spectra(next((folder / "one").glob("*.parquet"))).slice(0, 10)
    for number in range(n_files):
        write_table(table, folder / "many" / f"{number:05d}.parquet")
    begun = time.perf_counter()
    assert len(plan_shards(Location.of(folder / "many"), SHARD_ROWS)) == n_files
    return round(n_files / (time.perf_counter() - begun), 1)


def resume_rate(folder: Path, n_rows: int = 100_000) -> float:
    """Rows/s of the check of what an earlier run has finished."""
    make_spectra(folder / "in", n_rows)
    shards = plan_shards(Location.of(folder / "in"), SHARD_ROWS)
    for shard in shards:
        ids = pq.read_table(shard.source.text, columns=["sample_id"])["sample_id"].slice(shard.start, shard.rows)
        part = pa.table({"sample_id": ids, "error": pa.nulls(len(ids), pa.string())})
        pq.write_table(part.replace_schema_metadata({WEIGHTS_KEY: b"w"}), _made(folder / "out") / shard.name)
    begun = time.perf_counter()
    assert len(finished(shards, Location.of(folder / "out"), "w")) == len(shards)
    return round(n_rows / (time.perf_counter() - begun))


def driver_rate(n_shards: int = 2000) -> float:
    """Shards/s that a driver hands to two actors which do nothing with them, as `serving.batch.score` does it."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    with ray_session(2):
        items = [{"name": f"part-{number:06d}", "start": number} for number in range(n_shards)]
        dataset = ray.data.from_items(items, override_num_blocks=n_shards).map(
            _Nothing, compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1
        )
        seen, begun = 0, 0.0
        for _ in dataset.iter_rows():
            begun = begun or time.perf_counter()  # after the actors have started
            seen += 1
        seconds = time.perf_counter() - begun
    assert seen == n_shards
    return round(n_shards / seconds, 1)


class _Nothing:
    def __call__(self, row: dict[str, object]) -> dict[str, object]:
        return row


def simulation() -> dict[str, float]:
    """Spectra a core second of some packaged parents in cells of the default size, and bytes of a row."""
    settings = SimulateSettings(samples_per_parent=SIMULATED_SAMPLES)
    potential = load_potential(settings.potential)
    rows = []
    begun = time.process_time()
    for name, load in load_parents(settings.parents, list(SIMULATED_PARENTS)):
        rows += simulate_parent(name, load, list(range(settings.samples_per_parent)), potential, settings)
    seconds = time.process_time() - begun
    sink = pa.BufferOutputStream()
    pq.write_table(compacted(rows_table(rows)), sink, compression="zstd")
    return {
        "simulate_spectra_per_core_s": round(len(rows) / seconds, 4),
        "simulated_bytes_per_row": round(len(sink.getvalue()) / len(rows)),
    }


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
