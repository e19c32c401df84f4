"""Batch scoring over Ray Data: every row once, whatever happens."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support.random_models import Registry, random_artifact
from typer.testing import CliRunner

import serving.batch.score as module
from defectnet.cli.main import app
from defectnet.errors import InputError, SettingsError, StorageError, TableError
from defectnet.io.ray_session import ray_session
from defectnet.io.storage import Location
from defectnet.io.tables import PREDICTIONS_SCHEMA, write_table
from defectnet.model.predictor import Predictor
from defectnet.models import ModelVersion
from defectnet.prediction import Prediction
from defectnet.query import Query
from serving.batch.score import ScoreReport, score
from serving.settings import ScoreSettings

Table = Callable[..., pa.Table]


def scorer(artifact: Path, target: Path, *, gpus: float = 0.0, **where: Any) -> module._Scorer:
    """One process of the pool, in this one."""
    model = module._Model(Location.of(artifact), ModelVersion("defectnet", "1", ""), {}, 0, gpus, **where)
    return module._Scorer(model, Location.of(target))


def test_a_row_that_makes_the_model_fail_costs_only_itself(
    artifact: Path, tmp_path: Path, spectra_table: Table, monkeypatch: pytest.MonkeyPatch
):
    write_table(spectra_table(4), tmp_path / "a.parquet")
    whole = Predictor._predict_batch

    def fragile(self: Predictor, queries: list[Query]) -> list[Prediction]:
        if "s2" in [query.sample_id for query in queries]:
            raise ZeroDivisionError
        return whole(self, queries)

    monkeypatch.setattr(Predictor, "_predict_batch", fragile)
    report = scorer(artifact, tmp_path)({"name": "x.parquet", "source": f"{tmp_path}/a.parquet", "start": 0, "rows": 4})
    assert (report["errors"], report["failure"]) == (1, "")
    rows = pq.read_table(tmp_path / "x.parquet")
    assert rows["sample_id"].to_pylist() == ["s0", "s1", "s2", "s3"]
    assert [error is not None for error in rows["error"].to_pylist()] == [False, False, True, False]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_with_a_gpu_computes_there(artifact: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match="cuda"):
        scorer(artifact, tmp_path, gpus=0.5)


def test_a_worker_with_a_gpu_computes_where_and_how_it_is_told(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The processor stands in for a device that torch names otherwise."""
    told: list[module._Model] = []
    monkeypatch.setattr(module, "_score_missing", lambda *given: told.append(given[3]) or 0.0)
    monkeypatch.setattr(module, "_write_reports", lambda *_: None)
    monkeypatch.setattr(module, "plan_shards", lambda *_: [])
    settings = ScoreSettings(model=str(artifact), gpus_per_worker=0.5, device="cpu", precision="bfloat16")
    score(tmp_path, tmp_path / "out", settings=settings)
    (model,) = told
    predictor = scorer(artifact, tmp_path, gpus=model.gpus, device=model.device, precision=model.precision)._predictor
    assert next(predictor.network.parameters()).device.type == "cpu"
    assert predictor._precision == "bfloat16"


@pytest.mark.parametrize("content", [b"", b"not a table"])
def test_not_parquet_is_one_sentence_and_exit_code_2(tmp_path: Path, content: bytes, monkeypatch, capsys):
    from defectnet.cli import main

    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    monkeypatch.setattr("sys.argv", ["defectnet", "score", str(path), str(tmp_path / "out"), "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "not a readable Parquet file" in said
    assert "Traceback" not in said


def test_no_such_model(tmp_path: Path, spectra_table: Table):
    write_table(spectra_table(1), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="no folder"):
        score(tmp_path / "a.parquet", tmp_path / "out", settings=ScoreSettings(model="nothing"))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def ray_here(bucket: str) -> Iterator[None]:  # Ray's workers have the environment of its start
    with ray_session(3):
        yield


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
class TestOverRay:
    """One Ray for all of them."""

    def run(self, tmp_path: Path, model: str, workers: int = 2) -> ScoreReport:
        settings = ScoreSettings(model=model, workers=workers, shard_rows=10, niceness=0)
        return score(tmp_path / "in", tmp_path / "out", settings=settings)

    def output(self, tmp_path: Path) -> pa.Table:
        return pq.read_table(tmp_path / "out")  # as any reader would: the folder

    def test_every_row_once_in_order_and_resumed(self, tmp_path: Path, artifact: Path, spectra_table: Table):
        write_table(spectra_table(47, bad=(3, 44)), tmp_path / "in" / "a.parquet")
        write_table(spectra_table(0), tmp_path / "in" / "b.parquet")
        write_table(spectra_table(8, prefix="t"), tmp_path / "in" / "c.parquet")
        ids = [f"s{i}" for i in range(47)] + [f"t{i}" for i in range(8)]

        report = self.run(tmp_path, str(artifact))
        assert (report.rows, report.scored, report.skipped, report.errors) == (55, 55, 0, 2)
        whole = self.output(tmp_path)
        assert whole["sample_id"].to_pylist() == ids
        assert [i for i, error in zip(ids, whole["error"].to_pylist(), strict=True) if error] == ["s3", "s44"]
        assert "formula" in whole["error"][3].as_py()
        assert json.loads((tmp_path / "out" / "_report.json").read_text()) == asdict(report)

        metadata = pq.ParquetFile(tmp_path / "out" / "part-000000.parquet").schema_arrow.metadata
        assert metadata[b"defectnet_model_name"] == b"defectnet"
        assert metadata[b"defectnet_model_version"] == report.model_version.encode()
        assert metadata[b"defectnet_weights_sha256"] == report.weights_sha256.encode()
        assert metadata[b"defectnet_schema"] == b"predictions"

        assert metadata[b"defectnet_source"] == str(tmp_path / "in" / "a.parquet").encode()
        manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
        assert (manifest["rows"], manifest["errors"]) == (55, 2)
        assert sum(part["rows"] for part in manifest["parts"]) == 55
        assert [part["errors"] for part in manifest["parts"]] == [1, 0, 0, 0, 1, 0, 0]
        assert [part["first_row"] for part in manifest["parts"]] == [0, 10, 20, 30, 40, 0, 0]

        (tmp_path / "out" / "part-000002.parquet").unlink()
        again = self.run(tmp_path, str(artifact))
        assert (again.rows, again.scored, again.skipped, again.errors) == (55, 10, 45, 2)
        assert self.output(tmp_path).equals(whole)
        nothing = self.run(tmp_path, str(artifact))
        assert (nothing.scored, nothing.skipped, nothing.errors) == (0, 55, 2)

        with pytest.raises(InputError, match="another model"):
            self.run(tmp_path, str(random_artifact(tmp_path / "other", 9)))

    def test_json_lines_from_and_to_an_object_store(
        self, tmp_path: Path, artifact: Path, bucket: str, spectra_table: Table
    ):
        lines = [json.dumps(row) for row in spectra_table(25).to_pylist()]
        lines[7] = lines[7][:100]
        Location.of(f"{bucket}/in/a.ndjson").write("\n".join(lines).encode())
        write_table(spectra_table(5, prefix="t"), f"{bucket}/in/b.parquet")
        settings = ScoreSettings(model=str(artifact), workers=2, shard_rows=10, niceness=0)

        report = score(f"{bucket}/in", f"{bucket}/out", settings=settings)
        assert (report.rows, report.scored, report.errors) == (30, 30, 1)
        parts = Location.of(f"{bucket}/out").files(".parquet")
        assert [part.name for part in parts] == [f"part-00000{i}.parquet" for i in range(4)]
        scored = pa.concat_tables(pq.read_table(part.open()) for part in parts)
        assert scored["sample_id"].to_pylist() == [f"s{i}" if i != 7 else "" for i in range(25)] + [
            f"t{i}" for i in range(5)
        ]
        assert "line 8 is no row of the spectra table" in scored["error"][7].as_py()

        Location.of(f"{bucket}/out").remove("part-000001.parquet")
        (tmp_path / "score.yaml").write_text("shard_rows: 10\nniceness: 0\n")
        arguments = [
            f"{bucket}/in",
            f"{bucket}/out",
            "--model",
            str(artifact),
            "--config",
            str(tmp_path / "score.yaml"),
        ]
        ended = CliRunner().invoke(app, ["score", *arguments])
        assert ended.exit_code == 0, ended.output
        assert "10 scored" in ended.output
        assert "20 done before, 1 with an error" in ended.output

    def test_a_full_disk_is_one_sentence(
        self, tmp_path: Path, artifact: Path, spectra_table: Table, monkeypatch: pytest.MonkeyPatch
    ):
        class Full(module._Scorer):
            def _score(self, shard: Any) -> int:
                raise StorageError("cannot write x (No space left on device); make room")

        monkeypatch.setattr(module, "_Scorer", Full)
        write_table(spectra_table(30), tmp_path / "in" / "a.parquet")
        with pytest.raises(StorageError, match="No space left on device"):
            self.run(tmp_path, str(artifact))

    def test_no_rows(self, tmp_path: Path, artifact: Path, spectra_table: Table):
        write_table(spectra_table(0), tmp_path / "in" / "a.parquet")
        assert self.run(tmp_path, str(artifact)).rows == 0
        assert self.output(tmp_path).schema.names == PREDICTIONS_SCHEMA.names
        assert self.output(tmp_path).num_rows == 0

    def test_damage_inside_one_file_does_not_cost_the_others(
        self, tmp_path: Path, artifact: Path, spectra_table: Table
    ):
        write_table(spectra_table(12), tmp_path / "in" / "b.parquet")
        path = tmp_path / "in" / "a.parquet"
        write_table(spectra_table(12), path)
        content = bytearray(path.read_bytes())
        content[4:2000] = bytes(1996)
        path.write_bytes(content)
        with pytest.raises(TableError, match=r"a\.parquet is not a readable Parquet file"):
            self.run(tmp_path, str(artifact))
        assert self.output(tmp_path)["sample_id"].to_pylist() == [f"s{i}" for i in range(12)]

    def test_champion_from_the_command_line(
        self, tmp_path: Path, artifact: Path, registry: Registry, spectra_table: Table, monkeypatch
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
        version = registry.register(artifact, "champion")
        write_table(spectra_table(5), tmp_path / "in" / "a.parquet")
        ended = CliRunner().invoke(app, ["score", str(tmp_path / "in"), str(tmp_path / "out")])
        assert ended.exit_code == 0, ended.output
        assert "5 scored at" in ended.output
        assert f"defectnet version {version}" in ended.output
        assert set(self.output(tmp_path)["model_version"].to_pylist()) == {version}
