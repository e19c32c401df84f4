"""Batches: which files, under which id, how far; and one whole batch as a Ray job."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.local_api import ScriptedJobs

from defectnet.errors import BusyError, InputError
from defectnet.io.ray_session import ray_session
from defectnet.io.tables import write_table
from serving.auth import Caller
from serving.batch.book import FAILURE, PREDICTIONS, PROGRESS, REQUEST, BatchBook
from serving.batch.jobs import RayJobs
from serving.batch.run_job import run
from serving.batch.shards import REPORT
from serving.settings import BatchJobSettings

Table = Callable[..., pa.Table]

ANNA, BERT = Caller("anna", frozenset({"batch"})), Caller("bert", frozenset({"batch"}))
CHIEF = Caller("chief", frozenset({"admin"}))


@pytest.fixture
def data(tmp_path: Path, spectra_table: Table) -> Path:
    """A folder that may be scored, beside one that may not."""
    for folder in ("data", "secret"):
        write_table(spectra_table(5), tmp_path / folder / "run.parquet")
    (tmp_path / "data" / "notes.txt").write_text("no Parquet")
    return tmp_path / "data"


@pytest.fixture
def book(data: Path, tmp_path: Path) -> BatchBook:
    settings = BatchJobSettings(roots=(str(data),), results=str(tmp_path / "results"), max_active=2)
    return BatchBook(settings, ScriptedJobs(), "sqlite:///none.db")


def start(book: BatchBook, uri: str | Path, caller: Caller = ANNA, version: str = "1") -> tuple[dict[str, Any], bool]:
    return book.create(uri.as_uri() if isinstance(uri, Path) else uri, f"models:/defectnet/{version}", version, caller)


def test_the_same_question_is_one_batch(book: BatchBook, data: Path, spectra_table: Table):
    first, started = start(book, data / "run.parquet")
    assert started
    assert start(book, data / "run.parquet") == (first, False)
    other, started = start(book, data / "run.parquet", version="2")
    assert started
    assert other["id"] != first["id"]
    write_table(spectra_table(6), data / "run.parquet")
    with pytest.raises(BusyError) as busy:  # another file now, so another batch, of which there are two already
        start(book, data / "run.parquet")
    assert busy.value.status == 429


@pytest.mark.parametrize("end", ["failed", "stopped", None])
def test_a_batch_that_did_not_end_well_goes_on_when_asked_again(book: BatchBook, data: Path, end: Any):
    first, _ = start(book, data)
    assert isinstance(book.jobs, ScriptedJobs)
    (job,) = book.jobs.states
    book.jobs.states[job] = end
    again, started = start(book, data)
    assert started
    assert again["id"] == first["id"]
    assert len(book.jobs.states) == 2


def test_progress_failure_and_result(book: BatchBook, data: Path):
    batch, _ = start(book, data)
    folder = Path(book.settings.results) / batch["id"]
    (folder / PROGRESS).write_text('{"done": 3, "rows": 5}')
    now = book.get(batch["id"], ANNA)
    assert now is not None
    assert (now["rows_done"], now["rows"], now["result"]) == (3, 5, None)
    (folder / FAILURE).write_text('{"error": "input: no Parquet"}')
    now = book.get(batch["id"], ANNA)
    assert now is not None
    assert (now["state"], now["error"]) == ("failed", "input: no Parquet")
    (folder / PREDICTIONS).mkdir()
    (folder / PREDICTIONS / REPORT).write_text('{"rows": 5}')
    now = book.get(batch["id"], ANNA)
    assert now is not None
    assert (now["state"], now["error"], now["report"]) == ("succeeded", None, {"rows": 5})
    assert now["result"] == (folder / PREDICTIONS).as_uri()


def test_only_its_owner_and_an_admin_see_a_batch(book: BatchBook, data: Path):
    batch, _ = start(book, data)
    assert book.get(batch["id"], BERT) is None
    assert not book.delete(batch["id"], BERT)
    assert book.get(batch["id"], CHIEF) is not None
    assert book.delete(batch["id"], CHIEF)
    assert book.get(batch["id"], ANNA) is None
    assert list(Path(book.settings.results).iterdir()) == []


@pytest.mark.parametrize("batch_id", ["", "..", "b-" + "0" * 24, "b-" + "g" * 24, "../results"])
def test_what_is_no_batch(book: BatchBook, batch_id: str):
    assert book.get(batch_id, CHIEF) is None
    assert not book.delete(batch_id, CHIEF)


@pytest.mark.parametrize(
    "uri",
    [
        "file://{root}/../secret/run.parquet",
        "file://{root}/%2e%2e/secret/run.parquet",
        "file://{root}-other/run.parquet",
        "file://{root}/link.parquet",
        "file://{root}/linked",
        "file://{root}/within",
        "file://{root}/nothing.parquet",
        "file://{root}/notes.txt",
        "file://{root}/empty",
        "file://{root}/run.parquet%00",
        "file://{root}/run.parquet?x=1",
        "file://host{root}/run.parquet",
        "file:run.parquet",
        "{root}/run.parquet",
        "s3://bucket/run.parquet",
        "http://127.0.0.1/run.parquet",
        "FILE:///etc/passwd",
        "file:///proc/self/environ",
        "",
        "file://[",
    ],
)
def test_nothing_outside_the_roots_is_touched_and_nothing_is_told(book: BatchBook, data: Path, uri: str):
    (data / "link.parquet").symlink_to(data.parent / "secret" / "run.parquet")
    (data / "linked").symlink_to(data.parent / "secret")
    (data / "within").mkdir()
    (data / "within" / "run.parquet").symlink_to(data.parent / "secret" / "run.parquet")
    (data / "empty").mkdir()
    with pytest.raises(InputError) as refused:
        start(book, uri.format(root=data))
    assert str(refused.value).startswith("input: is no Parquet file, or folder of them, under a folder")
    assert "secret" not in str(refused.value)


def test_a_job_without_a_readable_input_says_so_without_paths(book: BatchBook, data: Path, artifact: Path):
    (data / "run.parquet").write_bytes(b"PAR1 no longer")
    batch, _ = book.create((data / "run.parquet").as_uri(), str(artifact), "1", ANNA)
    folder = Path(book.settings.results) / batch["id"]
    assert run(folder) == 1
    error = json.loads((folder / FAILURE).read_text())["error"]
    assert "not a readable Parquet" in error
    assert str(data) not in error.replace("file://" + str(data), "")


@pytest.fixture(scope="module")
def ray_with_jobs() -> Iterator[None]:
    with ray_session(3, dashboard=True):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_with_jobs")
def test_a_whole_batch_as_a_ray_job(data: Path, tmp_path: Path, artifact: Path, spectra_table: Table):
    write_table(spectra_table(40, bad=(3,)), data / "run.parquet")
    settings = BatchJobSettings(roots=(str(data),), results=str(tmp_path / "results"), shard_rows=16)
    book = BatchBook(settings, RayJobs(), "sqlite:///none.db")
    deadline = time.monotonic() + 400
    while True:
        try:
            batch, started = book.create((data / "run.parquet").as_uri(), str(artifact), "1", ANNA)
            break
        except BusyError:  # what starts the jobs is up some seconds after Ray is
            assert time.monotonic() < deadline
            time.sleep(1.0)
    assert started
    while (now := book.get(batch["id"], ANNA)) and now["state"] in ("pending", "running"):
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    assert now is not None
    assert now["state"] == "succeeded", now
    assert (now["rows_done"], now["rows"], now["report"]["errors"]) == (40, 40, 1)
    folder = Path(now["result"].removeprefix("file://"))
    rows = pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("part-*.parquet"))])
    assert rows["sample_id"].to_pylist() == [f"s{index}" for index in range(40)]
    request = json.loads((Path(settings.results) / batch["id"] / REQUEST).read_text())
    assert book.jobs.state(request["job"]) in ("running", "succeeded")  # its process ends after its work
    assert book.create((data / "run.parquet").as_uri(), str(artifact), "1", ANNA)[1] is False
    assert book.delete(batch["id"], ANNA)
    assert not folder.exists()
