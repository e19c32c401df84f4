"""Batch scoring: a Parquet of spectra in, a folder of Parquet predictions out, over Ray Data.

    plan (shards.py) ── one task an input file reads ──► shards ── a pool of actors predicts and writes ──► report

Exactly one output row for each input row, in the same order. A run that was stopped is finished by the same command.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from defectnet.errors import ArtifactError, DefectNetError, TableError
from defectnet.predictor import Predictor
from defectnet.tables import PREDICTIONS_SCHEMA, write_table
from serving.hot_swap import load_model
from serving.local import local_ray
from serving.models_source import ModelSource, ModelVersion, open_source
from serving.settings import ScoreSettings
from serving.shards import WEIGHTS_KEY, Shard, by_source, finished, plan_shards, read_shards

__all__ = ["ScoreReport", "score", "score_table"]

logger = logging.getLogger(__name__)

# Readers of a folder of Parquet pass over names that begin with an underscore.
REPORT = "_report.json"

# Rows done, rows in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScoreReport:
    """What a run did.

    Attributes:
        rows: rows of the input, and of the output.
        scored: rows scored by this run.
        skipped: rows that an earlier run had scored.
        errors: rows, of all, that have an error instead of a prediction.
        seconds: wall time of the scoring itself, without starting Ray and loading the model.
        rows_per_s: `scored` by `seconds`.
    """

    rows: int
    scored: int
    skipped: int
    errors: int
    seconds: float
    rows_per_s: float
    model_name: str
    model_version: str
    weights_sha256: str


def score(
    input: str | Path,
    output: str | Path,
    model: str | None = None,
    *,
    settings: ScoreSettings | None = None,
    progress: Progress | None = None,
) -> ScoreReport:
    """Score every spectrum of a Parquet file, or of a folder of them, into `output`.

    Args:
        input: the spectra table (`SPECTRA_SCHEMA`).
        output: folder for `part-*.parquet` (`PREDICTIONS_SCHEMA`) and `_report.json`; what it holds already is kept.
        model: overrides `settings.model`: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or an artifact folder.
        settings: model, workers and rows a file.
        progress: told how many rows of how many are done.

    Raises:
        InputError: the input is not a readable spectra table, or `output` holds something else.
        RegistryError: there is no such model.
        ArtifactError: the model is broken.
    """
    settings = settings or ScoreSettings()
    if model is not None:
        settings = settings.model_copy(update={"model": model})
    shards = plan_shards(input, settings.shard_rows)
    source = open_source(settings.model, settings.tracking_uri)
    version = source.current()  # once: an alias that moves meanwhile must not split the output between two models
    loaded = load_model(source, version)
    done = finished(shards, output, loaded.weights_sha256)
    pending = [shard for shard in shards if shard.name not in done]
    total = sum(shard.rows for shard in shards)
    skipped = total - sum(shard.rows for shard in pending)
    metadata = {
        "defectnet_model_name": version.name,
        "defectnet_model_version": version.version,
        WEIGHTS_KEY.decode(): loaded.weights_sha256,
    }
    errors, reached, seconds = sum(done.values()), skipped, 0.0
    failures: list[str] = []
    if pending:
        with local_ray(num_cpus=settings.workers + 1):
            begun = None
            for row in _run(pending, Path(output), source, version, metadata, settings.workers):
                # The pool loads its models while the first shards are read; the clock starts with the work.
                begun = begun or time.perf_counter() - row["seconds"]
                seconds = time.perf_counter() - begun
                errors, reached = errors + row["errors"], reached + row["rows"]
                failures += [row["failure"]] if row["failure"] else []
                if progress:
                    progress(reached, total)
    if failures:
        raise TableError(failures[0], field="input", fix="the rest is scored; run again to finish")
    scored = total - skipped
    report = ScoreReport(
        rows=total,
        scored=scored,
        skipped=skipped,
        errors=errors,
        seconds=round(seconds, 3),
        rows_per_s=round(scored / seconds, 1) if seconds else 0.0,
        model_name=version.name,
        model_version=version.version,
        weights_sha256=loaded.weights_sha256,
    )
    (Path(output) / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    return report


def score_table(predictor: Predictor, table: pa.Table) -> pa.Table:
    """Predict a table; a row that makes the model fail costs only itself."""
    try:
        return predictor.predict_table(table)
    except DefectNetError:
        raise
    except Exception:
        logger.exception("%d rows failed together; they are tried one by one", table.num_rows)
    return pa.concat_tables(_score_row(predictor, table.slice(index, 1)) for index in range(table.num_rows))


def _score_row(predictor: Predictor, row: pa.Table) -> pa.Table:
    try:
        return predictor.predict_table(row)
    except Exception as error:
        failed = dict.fromkeys(PREDICTIONS_SCHEMA.names) | {
            "sample_id": row["sample_id"][0].as_py() or "",
            "elements": [],
            "warnings": [],
            "model_name": predictor.name,
            "model_version": predictor.version,
            "error": f"the model could not answer ({type(error).__name__}); check the row for extreme values",
        }
        return pa.Table.from_pylist([failed], schema=PREDICTIONS_SCHEMA)


def _run(
    pending: Sequence[Shard],
    output: Path,
    source: ModelSource,
    version: ModelVersion,
    metadata: dict[str, str],
    workers: int,
) -> Iterator[dict[str, Any]]:
    import ray

    context = ray.data.DataContext.get_current()
    before = (context.target_max_block_size, context.enable_progress_bars)
    # A block for each shard: blocks are what the pool shares out, and several shards in one would go to one actor.
    context.target_max_block_size, context.enable_progress_bars = 1, False
    data_logger = logging.getLogger("ray.data")
    level = data_logger.level
    data_logger.setLevel(logging.ERROR)  # it tells of its plan, and that there are no progress bars, at each run
    try:
        files = [{"shards": [asdict(shard) for shard in group]} for group in by_source(pending)]
        dataset = (
            ray.data.from_items(files, override_num_blocks=len(files))
            .flat_map(_read, num_cpus=0.5)
            .map(
                cast(Any, _Scorer),  # the annotation of `map` knows functions only
                fn_constructor_args=(source, version, metadata, str(output.absolute())),
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(pending))),
                num_cpus=1,
            )
        )
        yield from dataset.iter_rows()
    finally:
        context.target_max_block_size, context.enable_progress_bars = before
        data_logger.setLevel(level)


def _read(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Read one input file; each of its pending shards becomes one row, which Ray Data cannot split."""
    shards = [Shard(**shard) for shard in job["shards"]]
    try:
        for shard, table in read_shards(shards):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            yield {"name": shard.name, "table": sink.getvalue().to_pybytes(), "failure": ""}
    except TableError as error:  # as a row: an exception would cost the other files too
        yield {"name": "", "table": b"", "failure": str(error)}


class _Scorer:
    """One process of the pool: holds the model, predicts a shard, writes it."""

    def __init__(self, source: ModelSource, version: ModelVersion, metadata: dict[str, str], output: str) -> None:
        import torch

        torch.set_num_threads(1)  # the pool is what scales
        loaded = load_model(source, version)
        if loaded.weights_sha256 != metadata[WEIGHTS_KEY.decode()]:
            raise ArtifactError("the model changed while it was being used; run again, with a folder that stays")
        self._predictor = loaded.predictor
        self._metadata, self._output = metadata, Path(output)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        report = {"rows": 0, "errors": 0, "seconds": 0.0, "failure": row["failure"]}
        if row["failure"]:
            return report
        begun = time.perf_counter()
        predictions = score_table(self._predictor, pa.ipc.open_stream(row["table"]).read_all())
        # Moved into place whole; should Ray run a shard again, it writes the same rows to the same name.
        write_table(
            predictions.replace_schema_metadata(
                {**(PREDICTIONS_SCHEMA.metadata or {}), **{k.encode(): v.encode() for k, v in self._metadata.items()}}
            ),
            self._output / row["name"],
        )
        report["rows"] = predictions.num_rows
        report["errors"] = predictions.num_rows - predictions["error"].null_count
        report["seconds"] = time.perf_counter() - begun
        return report
