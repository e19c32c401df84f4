"""Requests per second and latency of this service beside other ways of serving the same predictor, one run.

The servers stand beside one another, on loopback, with one thread a process and the settings they come with, and one
after another is asked for a few seconds, for a machine may change its pace by a third within minutes; an idle server
takes nothing from the one that is asked. Each figure is the median over all turns. The load comes from wrk
(https://github.com/wg/wrk; `apt install wrk`), one thread, which keeps C connections busy; bulk bodies, of which a
second sees one or two, from a client that waits for all that it has begun. A single spectrum has 250 points and a
reference; a bulk body has 256 spectra. A cold host is the first question about a crystal that the server has not been
asked about. The limit is the predictor called in a process of its own, in each turn as well.

    make bench-serve
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from writing import say, write_result

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
# The servers are started so often, and each time asked in so many turns.
ROUNDS, TURNS = 2, 4
SECONDS, WARM_UP_S, BULK_SECONDS = 3, 2, 6
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
    say(json.dumps(result, indent=1))


def measure(folder: Path) -> dict[str, Any]:
    """Measure every server that there is, in turns."""
    single, table = _single(), _bulk_table()
    queries = [Query.from_row(row) for row in iterate_rows(table)]
    items = [_item(query) for query in queries]
    bodies = {
        "spectra": _write(folder / "single.json", {"spectra": [single]}),
        "mlflow": _write(folder / "single-mlflow.json", _split([single])),
        "cold": _write(folder / "cold.json", {"spectra": [_of_another_host(items, single)]}),
        "cold-mlflow": _write(folder / "cold-mlflow.json", _split([_of_another_host(items, single)])),
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
    commands = {name: _command(name, folder) for name in servers}
    seen, predictor, lone = _Seen(), _predictor(), [Query.from_json(single)]
    started = {name: command for name, command in commands.items() if command is not None}
    for _ in range(ROUNDS):
        with ExitStack() as running:
            urls = {name: running.enter_context(_running(one)) + servers[name][0] for name, one in started.items()}
            for name, url in urls.items():
                cold = bodies["cold-mlflow" if name == "mlflow" else "cold"]
                seen.cold[name, "ms"].append(_once_ms(url, servers[name][1], cold))
                _wrk(url, servers[name][1], JSON, 1, WARM_UP_S)
            for turn in range(TURNS):
                order = list(urls)[:: 1 if turn % 2 else -1]
                seen.own_ms.append(1e3 * _median_s(predictor, lone, 300))
                for clients in CONCURRENCIES:
                    for name in order:
                        seen.add(name, clients, _wrk(urls[name], servers[name][1], JSON, clients, SECONDS))
                seen.limit.append(BULK / _median_s(predictor, queries, 3))
                for name in order:
                    seen.bulk[name, "json"].append(_bulk_rate(urls[name], servers[name][2], JSON))
                seen.bulk["defectnet", "arrow"].append(_bulk_rate(urls["defectnet"], bodies["arrow"], ARROW))
                say(f"turn {len(seen.limit)} of {ROUNDS * TURNS}: {seen.latest()}")
    missing = {name: "not installed" for name, command in commands.items() if command is None}
    return seen.result() | {
        "rounds": ROUNDS,
        "turns": TURNS,
        "bulk": {"spectra": BULK, "connections": BULK_CONNECTIONS},
        "missing": missing,
        "machine": {"cores": os.cpu_count(), "load_average_before": _LOAD_BEFORE},
    }


@dataclass
class _Seen:
    """What the turns gave: by server and concurrency or kind of body, one figure a turn."""

    rates: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    p50: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    p99: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    bulk: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    cold: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    own_ms: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)

    def add(self, name: str, clients: int, got: dict[str, float]) -> None:
        """What wrk saw in one turn."""
        self.rates[name, str(clients)].append(round(got["requests"] / got["seconds"], 1))
        self.p50[name, str(clients)].append(got["p50_ms"])
        self.p99[name, str(clients)].append(got["p99_ms"])

    def latest(self) -> str:
        """Requests/s of each server in the latest turn, by concurrency."""
        return ", ".join(f"{name} c={clients} {values[-1]}" for (name, clients), values in self.rates.items())

    def result(self) -> dict[str, Any]:
        """Medians over the turns, and the ratios that the goals are about."""
        rates, p50, p99, bulk = (_medians(of) for of in (self.rates, self.p50, self.p99, self.bulk))
        own_ms, limit = float(np.median(self.own_ms)), float(np.median(self.limit))
        return {
            "requests_per_s": rates,
            "p50_ms": p50,
            "p99_ms": p99,
            "best_at_every_c": _best(rates, p50),
            "ratio_vs_mlflow_c16": round(rates["defectnet"]["16"] / rates["mlflow"]["16"], 2),
            "ratio_vs_mlflow_c64": round(rates["defectnet"]["64"] / rates["mlflow"]["64"], 2),
            "cold_host_ms": {name: found["ms"] for name, found in _medians(self.cold).items()},
            "predictor_ms": round(own_ms, 2),
            "p50_over_predictor_ms_c1": round(p50["defectnet"]["1"] - own_ms, 2),
            "p99_over_p50_c16": round(p99["defectnet"]["16"] / p50["defectnet"]["16"], 2),
            "bulk_spectra_per_s": bulk,
            "limit_spectra_per_s": round(limit, 1),
            "arrow_share_of_limit": round(bulk["defectnet"]["arrow"] / limit, 3),
            "requests_per_s_by_turn": {f"{name} c={c}": values for (name, c), values in self.rates.items()},
        }


def _of_another_host(items: Sequence[dict[str, Any]], single: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in items if item["host"] != single["host"] and "reference" in item)


def _once_ms(url: str, warm: Path, body: Path) -> float:
    """How long a single question takes, after another one about another host."""
    headers = {"content-type": JSON}
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        client.post(url, content=warm.read_bytes(), headers=headers).raise_for_status()
        begun = time.perf_counter()
        client.post(url, content=body.read_bytes(), headers=headers).raise_for_status()
        return 1e3 * (time.perf_counter() - begun)


def _medians(of: dict[tuple[str, str], list[float]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (name, what), values in of.items():
        found.setdefault(name, {})[what] = round(float(np.median(values)), 2)
    return found


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


def _bulk_rate(url: str, body: Path, kind: str) -> float:
    """Spectra per second of bulk bodies, after a first one. Each that was begun counts, with the time until its end.

    wrk leaves out what is under way when its time is over: two of the eight bodies that a server may begin in it.
    """
    content, headers = body.read_bytes(), {"content-type": kind}

    def ask(until: float) -> int:
        asked = 0
        with httpx.Client(timeout=60.0, trust_env=False) as client:
            while not asked or time.perf_counter() < until:
                client.post(url, content=content, headers=headers).raise_for_status()
                asked += 1
        return asked

    ask(0.0)
    begun = time.perf_counter()
    with ThreadPoolExecutor(BULK_CONNECTIONS) as pool:
        asked = sum(pool.map(ask, [begun + BULK_SECONDS] * BULK_CONNECTIONS))
    return round(BULK * asked / (time.perf_counter() - begun), 1)


def _predictor() -> Predictor:
    torch.set_num_threads(1)
    predictor = Predictor.load(released_model())
    predictor.warm_up()
    return predictor


def _median_s(predictor: Predictor, queries: Sequence[Query], repeats: int) -> float:
    """How long one thread takes for these, s."""
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        predictor.predict(queries)
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


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
