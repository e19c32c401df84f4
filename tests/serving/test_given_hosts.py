"""A host that a user gave answers with its own responses to whoever names it: routes, batches and `score`."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.given_hosts import comparing_artifact, give_made_up
from support.local_api import Client, LocalBackend, ScriptedJobs, refused
from support.responses import made_up_question

from defectnet.io.host_store import HostStore
from defectnet.io.storage import Location
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.model.predictor import Predictor
from defectnet.models import ModelVersion
from defectnet.query import Query
from serving.auth import Caller
from serving.batch import run_job
from serving.batch import score as score_module
from serving.batch.book import REQUEST, BatchBook
from serving.loading import loader
from serving.models_source import open_source
from serving.replica import Model
from serving.settings import BatchJobSettings, HostSettings, ScoreSettings, ServiceSettings

ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def host_id(store: str) -> str:
    return give_made_up(store)


@pytest.fixture(scope="module")
def settings(store: str, tmp_path_factory: pytest.TempPathFactory) -> ServiceSettings:
    """A service that prepares hosts and has no other library."""
    model = comparing_artifact(tmp_path_factory.mktemp("model"))
    return ServiceSettings(model=str(model), hosts=HostSettings(prepare=True, store=store, library=None))


@pytest.fixture(scope="module")
def predictor(settings: ServiceSettings) -> Predictor:
    """As a replica loads it."""
    source = open_source(settings.model, None)
    return loader(settings)(source, source.current()).predictor


@pytest.fixture
def client(settings: ServiceSettings, predictor: Predictor) -> Client:
    return Client(settings, LocalBackend(predictor))


@pytest.fixture
def asked(host_id: str) -> Query:
    return made_up_question({"Ca": 0.05}, candidates=("Ca", "Zn"), host_id=host_id)


def test_the_next_model_goes_on_from_what_the_former_knows(
    settings: ServiceSettings, asked: Query, monkeypatch: pytest.MonkeyPatch
):
    source, load = open_source(settings.model, None), loader(settings)
    answers = load(source, source.current()).predictor.predict([asked])
    monkeypatch.setattr(HostStore, "responses", lambda *_: pytest.fail("a host is read again"))
    assert load(source, source.current()).predictor.predict([asked]) == answers


def test_as_json(client: Client, asked: Query, host_id: str):
    (answer,) = client.predict(asked.to_json()).json()["predictions"]
    assert answer["fit"]["host_id"] == host_id
    assert {one["source"] for one in answer["fit"]["sources"]} == {"endmember"}
    (other,) = client.predict(asked.to_json() | {"host_id": None}).json()["predictions"]
    assert other["fit"] is None


def test_in_a_layout_of_mlflows(client: Client, asked: Query, host_id: str):
    answer = client.request("POST", "/invocations", json={"instances": [asked.to_json()]})
    assert answer.json()["predictions"][0]["fit"]["host_id"] == host_id


def test_as_tensors(client: Client, asked: Query, predictor: Predictor):
    assert asked.reference is not None
    numbers = {
        "frequency": asked.spectrum.frequency_thz,
        "dos": asked.spectrum.dos,
        "reference_frequency": asked.reference.frequency_thz,
        "reference_dos": asked.reference.dos,
    }
    texts = {"host": "MgO", "unit": "THz", "candidates": "Ca,Zn", "host_id": asked.host_id}
    texts["reference_kind"] = "computed"
    inputs = [
        {"name": name, "datatype": "FP64", "shape": [1, len(values)], "data": values.tolist()}
        for name, values in numbers.items()
    ]
    inputs += [{"name": name, "datatype": "BYTES", "shape": [1], "data": [text]} for name, text in texts.items()]
    inputs += [{"name": "prior", "datatype": "BOOL", "shape": [1], "data": [False]}]
    answer = client.request("POST", "/v2/models/defectnet/infer", json={"inputs": inputs}).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    (expected,) = predictor.predict(
        [
            made_up_question(
                {"Ca": 0.05}, candidates=("Ca", "Zn"), host_id=asked.host_id, reference_kind="computed", prior=False
            )
        ]
    )
    found = {e: p for e, p in zip(outputs["element"]["data"], outputs["probability"]["data"], strict=True) if p}
    assert found == pytest.approx({one.element: one.probability for one in expected.elements}, rel=1e-4)


def table_of(*queries: Query) -> pa.Table:
    return pa.Table.from_pylist([query.to_row() for query in queries], schema=SPECTRA_SCHEMA)


def test_as_arrow(client: Client, asked: Query, host_id: str):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SPECTRA_SCHEMA) as stream:
        stream.write_table(table_of(asked))
    answer = client.send(sink.getvalue().to_pybytes(), ARROW)
    assert pa.ipc.open_stream(answer.content).read_all()["fit"][0].as_py()["host_id"] == host_id


def test_as_a_study_with_its_curves(client: Client, asked: Query, host_id: str):
    answer = client.request("POST", "/v1/study", json={"spectra": [asked.to_json()]})
    (studied,) = answer.json()["answers"]
    assert studied["prediction"]["fit"]["host_id"] == host_id
    assert studied["prediction"]["fit"]["alternatives"][0]["elements"] == ["Ca"]
    measured = np.array(studied["curves"]["measured"])
    whole = np.sum([*studied["curves"]["each"].values(), studied["curves"]["residual"]], axis=0)
    assert whole == pytest.approx(measured, abs=1e-4)


def test_in_a_question_of_files(client: Client, asked: Query, host_id: str):
    text = "frequency (THz),dos\n"
    text += "".join(f"{x},{y}\n" for x, y in zip(asked.spectrum.frequency_thz, asked.spectrum.dos, strict=True))
    sent = {"name": "MgO.csv", "content": base64.b64encode(text.encode()).decode()}
    body: dict[str, Any] = {"file": sent, "host": "MgO", "reference": sent}
    told = [body | {"host_id": host_id}, body | {"reference": {"host_id": host_id}}, body]
    made = [client.request("POST", "/v1/question", json=one).json()["spectrum"] for one in told]
    # The reference of the second is what was computed of the host.
    assert [(one.get("host_id"), one.get("reference_kind")) for one in made] == [
        (host_id, None),
        (host_id, "computed"),
        (None, None),
    ]
    for wrong in (3, "h-" + "0" * 24):
        answer = client.request("POST", "/v1/question", json=body | {"host_id": wrong})
        refused(answer, 422, "host_id")


def test_a_row_of_a_table_and_beside_others(predictor: Predictor, asked: Query, host_id: str):
    unnamed = made_up_question({"Ca": 0.05}, candidates=("Ca", "Zn"))
    missing = made_up_question({"Ca": 0.05}, host_id="h-" + "0" * 24)
    answers = predictor.predict_table(table_of(unnamed, asked, missing)).to_pylist()
    assert [answer["fit"] and answer["fit"]["host_id"] for answer in answers] == [None, host_id, None]
    assert [answer["error"] is None for answer in answers] == [True, True, False]
    assert "GET /v1/hosts" in answers[2]["error"]


def test_the_replica_hands_the_store_to_its_model(settings: ServiceSettings, asked: Query, host_id: str):
    model = Model(settings, settings.model)
    try:
        (answer,) = asyncio.run(model.predict([asked]))
    finally:
        model.close()
    assert answer["fit"]["host_id"] == host_id


def test_what_a_store_that_cannot_be_read_says(predictor: Predictor, store: str, asked: Query):
    other = give_made_up(store, "NaCl")
    place = Path(store) / f"{other}.responses.parquet"
    place.write_bytes(b"no Parquet")
    (answer,) = predictor.predict([made_up_question({"K": 0.1}, host="NaCl", host_id=other)])
    assert answer.error is not None
    assert "cannot be read now" in answer.error
    assert store not in answer.error


def test_a_batch_names_the_store_and_the_job_reads_it(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch):
    table = tmp_path / "in" / "spectra.parquet"
    table.parent.mkdir()
    table.write_bytes(b"")
    batches = BatchJobSettings(roots=(str(table.parent),), results=str(tmp_path / "results"))
    hosts = HostSettings(prepare=True, store=store, library=None)
    book = BatchBook(batches, ScriptedJobs(), "sqlite:///none.db", hosts)
    made, _ = book.create(table.as_uri(), "released", "1", Caller("anna", frozenset({"batch"})))
    folder = tmp_path / "results" / made["id"]
    told: list[ScoreSettings] = []
    monkeypatch.setattr("serving.batch.score.score", lambda *args, settings, **kwargs: told.append(settings))
    assert run_job.run(folder) == 0
    assert (told[0].given_hosts, told[0].responses) == (store, None)
    assert json.loads((folder / REQUEST).read_text())["given_hosts"] == store


def test_a_process_of_score_reads_the_store(settings: ServiceSettings, store: str, tmp_path: Path, asked: Query):
    write_table(table_of(asked), tmp_path / "in.parquet")
    where = Location.of(settings.model)
    version = ModelVersion("defectnet", "1", "")
    model = score_module._Model(where, version, {}, 0, 0.0, responses=None, given_hosts=store)
    scorer = score_module._Scorer(model, Location.of(tmp_path))
    done = scorer({"name": "out.parquet", "source": f"{tmp_path}/in.parquet", "start": 0, "rows": 1})
    assert (done["errors"], done["failure"]) == (0, "")
    assert pq.read_table(tmp_path / "out.parquet")["fit"][0].as_py()["host_id"] == asked.host_id


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_score_over_ray(settings: ServiceSettings, store: str, tmp_path: Path, asked: Query):
    write_table(table_of(asked, made_up_question({"Ca": 0.05})), tmp_path / "in.parquet")
    told = ScoreSettings(model=settings.model, given_hosts=store, responses=None)
    score_module.score(tmp_path / "in.parquet", tmp_path / "out", settings=told)
    found = pq.read_table(tmp_path / "out")["fit"].to_pylist()
    assert [fit and fit["host_id"] for fit in found] == [asked.host_id, None]
