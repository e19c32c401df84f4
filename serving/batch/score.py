"""Batch scoring: spectra in (Parquet, Arrow, JSON a line), a folder of Parquet predictions out, over Ray Data.

    plan (shards.py) ──► a pool of actors, each with the model: reads its shard, predicts, writes it ──► report

Exactly one output row for each input row, in the same order. A run that was stopped is finished by the same command.
What passes through Ray are the shards' names: an actor reads no row before it scores it, so that memory does not grow
with the input, and a node that dies takes nothing with it but the shards that it was working on.
"""

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import defectnet
from defectnet.errors import ArtifactError, StorageError, TableError
from defectnet.io.cluster import cluster_failure, require_room, warn_when_silent
from defectnet.io.ray_session import ray_session
from defectnet.io.storage import Location
from defectnet.io.tables import PREDICTIONS_SCHEMA, write_table
from defectnet.model.artifact import ARTIFACT_FILES, SUMS
from defectnet.model.precision import Precision
from defectnet.model.predictor import Predictor
from defectnet.models import ModelVersion
from defectnet.responses import PACKAGED
from serving.batch.inputs import Cursor
from serving.batch.shards import MANIFEST, MODEL, REPORT, WEIGHTS_KEY, Shard, finished, plan_shards
from serving.loading import load_model
from serving.models_source import ModelSource, open_source, weights_sha256
from serving.settings import ScoreSettings, device_of

__all__ = ["ScoreReport", "score"]

logger = logging.getLogger(__name__)

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
    """Score every spectrum of a file, or of every file of a folder, into `output`.

    Args:
        input: the spectra table (`SPECTRA_SCHEMA`), as path or URI: `.parquet`, `.arrow`, `.ndjson`.
        output: folder, as path or URI, for `part-*.parquet` (`PREDICTIONS_SCHEMA`), a copy of the model, `_report.json`
            and, once every row is there, `_manifest.json`; what it holds already is kept.
        model: overrides `settings.model`: `models:/NAME@ALIAS`, `models:/NAME/VERSION` or an artifact folder.
        settings: model, workers and rows a file.
        progress: told how many rows of how many are done.

    Raises:
        InputError: the input is not a readable spectra table, or `output` holds something else.
        RegistryError: there is no such model.
        ArtifactError: the model is broken.
        StorageError: the output cannot be written.
        DefectNetError: the cluster was lost.
    """
    settings = settings or ScoreSettings()
    if model is not None:
        settings = settings.model_copy(update={"model": model})
    target = Location.of(output, field="output")
    shards = plan_shards(Location.of(input, field="input"), settings.shard_rows)
    source = open_source(settings.model, settings.tracking_uri)
    version = source.current()  # once: an alias that moves meanwhile must not split the output between two models
    # Fetched once: whoever takes part reads the copy beside the output, and the registry may be away from here on.
    files, digest = _fetch(source, version)
    done = finished(shards, target, digest)
    total, skipped = sum(shard.rows for shard in shards), sum(shard.rows for shard in shards if shard.name in done)
    provenance = {
        "defectnet_version": defectnet.__version__,
        "defectnet_model_name": version.name,
        "defectnet_model_version": version.version,
        WEIGHTS_KEY.decode(): digest,
    }
    model_copy = _Model(
        target.child(MODEL),
        version,
        provenance,
        settings.niceness,
        settings.gpus_per_worker,
        settings.device,
        settings.precision,
        _everywhere(settings.responses),
        _everywhere(settings.given_hosts),
    )
    seconds = _score_missing(shards, target, files, model_copy, settings.workers, done, progress)
    scored = total - skipped
    report = ScoreReport(
        rows=total,
        scored=scored,
        skipped=skipped,
        errors=sum(done.values()),
        seconds=round(seconds, 3),
        rows_per_s=round(scored / seconds, 1) if seconds else 0.0,
        model_name=version.name,
        model_version=version.version,
        weights_sha256=digest,
    )
    _write_reports(target, report, shards, done, provenance)
    return report


def _score_missing(
    shards: Sequence[Shard],
    target: Location,
    files: Mapping[str, bytes],
    model: "_Model",
    workers: int,
    done: dict[str, int],
    progress: Progress | None,
) -> float:
    """Score the shards that are not `done`, adding each to it; returns the seconds that it took."""
    pending = [shard for shard in shards if shard.name not in done]
    if not pending:
        return 0.0
    total = sum(shard.rows for shard in shards)
    reached = total - sum(shard.rows for shard in pending)

    def advance(rows: int) -> None:
        nonlocal reached
        reached += rows
        if progress:
            progress(reached, total)

    target.remove(MANIFEST)
    for name, content in files.items():
        model.folder.child(name).write(content)
    with ray_session(workers), _as_error():
        _room_for_objects()
        seconds = _score_pending(pending, target, model, workers, done, advance)
    target.sweep()
    return seconds


def _write_reports(
    target: Location, report: ScoreReport, shards: Sequence[Shard], done: dict[str, int], provenance: dict[str, str]
) -> None:
    """What this run did, and the manifest, which says that every row is there."""
    parts = [
        {"file": s.name, "source": str(s.source), "first_row": s.start, "rows": s.rows, "errors": done[s.name]}
        for s in shards
    ]
    target.child(REPORT).write(_json(asdict(report)))
    target.child(MANIFEST).write(_json({"rows": report.rows, "errors": report.errors, **provenance, "parts": parts}))


@dataclass(frozen=True)
class _Model:
    """What an actor must know of the model: where it is, and what each output file says of it."""

    folder: Location
    version: ModelVersion
    provenance: dict[str, str]
    niceness: int
    gpus: float
    device: str | None = None
    precision: Precision = "float32"
    responses: str | None = PACKAGED
    given_hosts: str | None = None


def _everywhere(place: str | None) -> str | None:
    """A path or URI as processes with other working folders know it."""
    return place if place in (None, PACKAGED, "none") else str(Location.of(place, field="responses"))


def _fetch(source: ModelSource, version: ModelVersion) -> tuple[dict[str, bytes], str]:
    """The files of a model that has answered a plain spectrum, and the sum of its weights."""
    expected = load_model(source, version).weights_sha256
    with tempfile.TemporaryDirectory(prefix="defectnet-model-") as folder:
        path = source.fetch(version, Path(folder))
        if weights_sha256(path) != expected:
            raise ArtifactError("the model changed while it was being fetched; run again, with a folder that stays")
        return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}, expected


def _score_pending(
    pending: Sequence[Shard],
    target: Location,
    model: _Model,
    workers: int,
    done: dict[str, int],
    progress: Callable[[int], None],
) -> float:
    """Score the shards, adding each to `done`; returns the seconds from the first one's start to the last one's end."""
    failures: list[str] = []
    begun = seconds = 0.0
    rows = {shard.name: shard.rows for shard in pending}
    for row in warn_when_silent(_run(pending, target, model, workers), _room_for_objects):
        if row["fatal"]:  # a full disk: whatever is tried next would be computed for nothing
            raise StorageError(row["failure"])
        # The pool loads its models first; the clock starts with the work.
        begun = begun or time.perf_counter() - row["seconds"]
        seconds = time.perf_counter() - begun
        if row["failure"]:
            failures.append(row["failure"])
            continue
        done[row["name"]] = row["errors"]
        progress(rows[row["name"]])
    if failures:
        raise TableError(failures[0], field="input", fix="the rest is scored; run again to finish")
    return seconds


def _run(pending: Sequence[Shard], target: Location, model: _Model, workers: int) -> Iterator[dict[str, Any]]:
    import ray

    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars
    context.enable_progress_bars = False
    data_logger = logging.getLogger("ray.data")
    level = data_logger.level
    data_logger.setLevel(logging.ERROR)  # it tells of its plan, and that there are no progress bars, at each run
    try:
        items = [{"name": s.name, "source": str(s.source), "start": s.start, "rows": s.rows} for s in pending]
        # A block for each shard: blocks are what the pool shares out. Its own retries have no limit, and need none: a
        # limit would be used up in the seconds that Ray takes to notice that a node is gone.
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
            cast(Any, _Scorer),  # the annotation of `map` knows functions only
            fn_constructor_args=(model, target),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
            num_cpus=1,
            num_gpus=model.gpus,
        )
        yield from dataset.iter_rows()
    finally:
        context.enable_progress_bars = before
        data_logger.setLevel(level)


class _Scorer:
    """One process of the pool: holds the model, reads a shard, predicts it, writes it."""

    def __init__(self, model: _Model, target: Location) -> None:
        import torch

        torch.set_num_threads(1)  # the pool is what scales
        os.nice(model.niceness)
        with tempfile.TemporaryDirectory(prefix="defectnet-model-") as folder:
            for name in (*ARTIFACT_FILES, SUMS):
                with model.folder.child(name).open() as file:
                    (Path(folder) / name).write_bytes(file.read())
            self._predictor = Predictor.load(
                folder,
                name=model.version.name,
                version=model.version.version,
                device=device_of(model.gpus, model.device),
                precision=model.precision,
                responses=model.responses,
                given_hosts=model.given_hosts,
            )
        self._provenance, self._target = model.provenance, target
        self._cursor: Cursor | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        begun = time.perf_counter()
        shard = Shard(row["name"], Location(row["source"]), row["start"], row["rows"])
        report = {"name": shard.name, "errors": 0, "failure": "", "fatal": False}
        # Failures return as rows: as exceptions they would cost the other shards too.
        try:
            report["errors"] = self._score(shard)
        except TableError as error:
            self._cursor = None
            report["failure"] = str(error)
        except StorageError as error:
            report |= {"failure": str(error), "fatal": True}
        return report | {"seconds": time.perf_counter() - begun}

    def _score(self, shard: Shard) -> int:
        if self._cursor is None or self._cursor.source != shard.source:
            self._cursor = Cursor(shard.source)
        predictions = self._predictor.predict_table(self._cursor.read(shard.start, shard.rows), isolate=True)
        metadata = self._provenance | {"defectnet_source": str(shard.source), "defectnet_first_row": str(shard.start)}
        # Appears whole; should Ray run a shard again, it writes the same rows to the same name.
        write_table(
            predictions.replace_schema_metadata((PREDICTIONS_SCHEMA.metadata or {}) | metadata),
            self._target.child(shard.name),
        )
        return predictions.num_rows - int(predictions["error"].null_count)


def _room_for_objects() -> None:
    import ray

    require_room(ray.put, (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError))


@contextmanager
def _as_error() -> Iterator[None]:
    """Turn what Ray raises (a lost cluster, say) into one sentence."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise cluster_failure("scoring", error, "what is scored is kept: run again to finish") from error


def _json(values: object) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
