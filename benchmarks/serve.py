"""Requests per second and latency of this service beside other ways of serving the same predictor, one run.

Each server runs alone, on loopback, with one thread a process and the settings it comes with. The load comes from wrk
(https://github.com/wg/wrk; `apt install wrk`), one thread, which keeps C connections busy. A single spectrum has 250
points and a reference; a bulk body has 256 spectra. The limit is the predictor called in a process of its own.

    make bench-serve
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from writing import write_result

from defectnet.io.tables import SPECTRA_SCHEMA, conform
from defectnet.model.predictor import Predictor
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model
from serving.proxy import free_port

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
CONCURRENCIES = (1, 4, 16, 64)
BULK = 256
# Bulk bodies that are under way at a time: one is read while another is computed.
BULK_CONNECTIONS = 2
SECONDS, WARM_UP_S, BULK_SECONDS = 8, 2, 12
READY_WITHIN_S = 180.0
JSON, ARROW = "application/json", "application/vnd.apache.arrow.stream"

# wrk's own report rounds; its `done` hook has the figures.
_LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "{kind}"
local file = io.open("{body}", "rb"); wrk.body = file:read("*a"); file:close()
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""

# An MLflow model from code: no pickle, the same predictor.
_PYFUNC = """
import mlflow.pyfunc
from mlflow.models import set_model


class Model(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import torch
        from defectnet.model.predictor import Predictor
        torch.set_num_threads(1)
        self.predictor = Predictor.load(context.artifacts["model"])
        self.predictor.warm_up()

    def predict(self, context, model_input, params=None):
        from defectnet.query import Query
        queries = [Query.from_json(row) for row in model_input.to_dict(orient="records")]
        return [prediction.to_dict() for prediction in self.predictor.predict(queries)]


set_model(Model())
"""


def main() -> None:
    """Measure, print, and write `results/serve.json`."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    write_result("serve", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def measure(folder: Path) -> dict[str, Any]:
    """Measure every server that there is, one after another."""
    single, table = _single(), _bulk_table()
    queries = [Query.from_row(row) for row in iterate_rows(table)]
    items = [_item(query) for query in queries]
    bodies = {
        "spectra": _write(folder / "single.json", {"spectra": [single]}),
        "mlflow": _write(folder / "single-mlflow.json", _split([single])),
        "bulk": _write(folder / "bulk.json", {"spectra": items}),
        "bulk-mlflow": _write(folder / "bulk-mlflow.json", _split(items)),
        "arrow": _write_arrow(folder / "bulk.arrow", table),
    }
    servers = {
        "defectnet": ("/v1/predict", bodies["spectra"], bodies["bulk"]),
        "mlflow": ("/invocations", bodies["mlflow"], bodies["bulk-mlflow"]),
        "fastapi": ("/predict", bodies["spectra"], bodies["bulk"]),
        "bentoml": ("/predict", bodies["spectra"], bodies["bulk"]),
    }
    rates: dict[str, dict[str, float]] = {}
    p50: dict[str, dict[str, float]] = {}
    p99: dict[str, dict[str, float]] = {}
    bulk: dict[str, dict[str, float]] = {}
    missing: dict[str, str] = {}
    # The predictor's own figures are taken before and after this service's: the machine may change its pace.
    own_ms, limit = [_time_single(single)], [_time_bulk(queries)]
    for name, (path, body, bulk_body) in servers.items():
        command = _command(name, folder)
        if command is None:
            missing[name] = "not installed"
            continue
        with _running(command) as url:
            rates[name], p50[name], p99[name] = {}, {}, {}
            _wrk(url + path, body, JSON, 1, WARM_UP_S)
            for clients in CONCURRENCIES:
                got = _wrk(url + path, body, JSON, clients, SECONDS)
                rates[name][str(clients)] = round(got["requests"] / got["seconds"], 1)
                p50[name][str(clients)], p99[name][str(clients)] = round(got["p50_ms"], 2), round(got["p99_ms"], 2)
                if name == "defectnet" and clients == 1:
                    own_ms.append(_time_single(single))
            bulk[name] = {"json": _spectra_per_s(_wrk(url + path, bulk_body, JSON, BULK_CONNECTIONS, BULK_SECONDS))}
            if name == "defectnet":
                got = _wrk(url + path, bodies["arrow"], ARROW, BULK_CONNECTIONS, BULK_SECONDS)
                bulk[name]["arrow"] = _spectra_per_s(got)
                limit.append(_time_bulk(queries))
    return {
        "requests_per_s": rates,
        "p50_ms": p50,
        "p99_ms": p99,
        "best_at_every_c": _best(rates, p50),
        "ratio_vs_mlflow_c16": round(rates["defectnet"]["16"] / rates["mlflow"]["16"], 2),
        "ratio_vs_mlflow_c64": round(rates["defectnet"]["64"] / rates["mlflow"]["64"], 2),
        "predictor_ms": [round(value, 2) for value in own_ms],
        "p50_over_predictor_ms_c1": round(p50["defectnet"]["1"] - float(np.mean(own_ms)), 2),
        "bulk_spectra_per_s": bulk,
        "limit_spectra_per_s": [round(value, 1) for value in limit],
        "arrow_share_of_limit": round(bulk["defectnet"]["arrow"] / float(np.mean(limit)), 3),
        "bulk": {"spectra": BULK, "connections": BULK_CONNECTIONS},
        "missing": missing,
        "machine": {"cores": os.cpu_count(), "load_average_before": _LOAD_BEFORE},
    }


def _best(rates: dict[str, dict[str, float]], p50: dict[str, dict[str, float]]) -> bool:
    """Whether this service answers more requests, and half of them sooner, than every other one at each concurrency."""
    others = [name for name in rates if name != "defectnet"]
    return bool(others) and all(
        rates["defectnet"][c] > rates[name][c] and p50["defectnet"][c] < p50[name][c]
        for name in others
        for c in map(str, CONCURRENCIES)
    )


_LOAD_BEFORE = [round(value, 1) for value in os.getloadavg()]


def serve_defectnet(port: int) -> None:
    """Run the service with its default settings until SIGTERM."""
    from serving.local import running_service
    from serving.settings import ServiceSettings

    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    with running_service(ServiceSettings(model=str(released_model()), port=port)):
        while not stop:
            time.sleep(0.2)


def _command(name: str, folder: Path) -> list[str] | None:
    if name == "defectnet":
        return [sys.executable, __file__, "serve", "PORT"]
    if name == "fastapi":
        options = ["--port", "PORT", "--log-level", "warning", "--app-dir", str(HERE)]
        return [sys.executable, "-m", "uvicorn", "serve_plain:app", *options]
    if name == "bentoml":
        # Its dependencies are not those of this project, so it lives in an environment of its own.
        python = os.environ.get("BENTOML_PYTHON", "")
        options = ["--port", "PORT", "--host", "127.0.0.1", "--working-dir", str(HERE)]
        return [python, "-m", "bentoml", "serve", "serve_bento:Service", *options] if python else None
    import mlflow

    model = folder / "pyfunc"
    code = folder / "pyfunc_model.py"
    code.write_text(_PYFUNC, encoding="utf-8")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    artifacts = {"model": str(released_model())}
    mlflow.pyfunc.save_model(model, python_model=str(code), artifacts=artifacts, pip_requirements=[])
    options = ["--model-uri", str(model), "--port", "PORT", "--env-manager", "local"]
    return [sys.executable, "-m", "mlflow", "models", "serve", *options]


@contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    """Run a server on a free port until the context ends; yields its address once it answers."""
    port = str(free_port())
    # mlflow calls `uvicorn` by its name.
    variables = {"OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    process = subprocess.Popen(
        [port if word == "PORT" else word for word in command],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + READY_WITHIN_S
    try:
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{' '.join(command)} did not come up")
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        if "serve" not in command[2:3]:
            _end_group(process.pid)


def _answers(url: str) -> bool:
    for path in ("/v2/health/ready", "/ping", "/readyz"):
        try:
            if httpx.get(url + path, timeout=2.0, trust_env=False).status_code == httpx.codes.OK:
                return True
        except httpx.HTTPError:
            continue
    return False


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGTERM)
    except ProcessLookupError:
        return


def _wrk(url: str, body: Path, kind: str, connections: int, seconds: float) -> dict[str, float]:
    script = body.with_suffix(".lua")
    script.write_text(_LUA.format(kind=kind, body=body), encoding="utf-8")
    options = ["-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "60s", "-s", str(script)]
    said = subprocess.run(["wrk", *options, url], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in said.splitlines() if line.startswith("RESULT ")]
    got: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    if got["failed"]:
        raise SystemExit(f"{url} failed {got['failed']} of {got['requests']} requests")
    return got


def _spectra_per_s(got: dict[str, float]) -> float:
    return round(BULK * got["requests"] / got["seconds"], 1)


def _predictor() -> Predictor:
    torch.set_num_threads(1)
    predictor = Predictor.load(released_model())
    predictor.warm_up()
    return predictor


def _time_single(item: dict[str, Any], repeats: int = 300) -> float:
    """Median time of one prediction, ms."""
    predictor, query = _predictor(), Query.from_json(item)
    return float(np.median([_seconds(predictor, [query]) for _ in range(repeats)])) * 1e3


def _time_bulk(queries: Sequence[Query], repeats: int = 5) -> float:
    """Spectra per second of one thread."""
    predictor = _predictor()
    return len(queries) / float(np.median([_seconds(predictor, queries) for _ in range(repeats)]))


def _seconds(predictor: Predictor, queries: Sequence[Query]) -> float:
    begun = time.perf_counter()
    predictor.predict(queries)
    return time.perf_counter() - begun


def _single() -> dict[str, Any]:
    item: dict[str, Any] = json.loads((EXAMPLES / "request.json").read_text(encoding="utf-8"))["spectra"][0]
    return item


def _bulk_table() -> pa.Table:
    table = conform(pq.read_table(EXAMPLES / "batch.parquet"), SPECTRA_SCHEMA)
    wanted = ["sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind", "candidates", "error"]
    usable = table.filter(pa.compute.is_null(table["error"])).select(wanted)
    return usable.take(np.arange(BULK) % usable.num_rows)


def _item(query: Query) -> dict[str, Any]:
    item: dict[str, Any] = {"id": query.sample_id, "host": query.host.formula, "unit": "THz"}
    item |= {"frequency": query.spectrum.frequency_thz.tolist(), "dos": query.spectrum.dos.tolist()}
    if query.reference is not None:
        reference = query.reference
        item["reference"] = {"frequency": reference.frequency_thz.tolist(), "dos": reference.dos.tolist()}
    return item


def _split(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    columns = list(items[0])
    return {"dataframe_split": {"columns": columns, "data": [[item.get(name) for name in columns] for item in items]}}


def _write(path: Path, body: dict[str, Any]) -> Path:
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def _write_arrow(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve_defectnet(int(sys.argv[2]))
    else:
        main()
