"""Ten thousand requests that nobody should send: no status 5xx, no hang, and no memory that stays.

Most come from the OpenAPI document (schemathesis), well-formed and broken, over every route of it; a third are Arrow
streams, damaged by hypothesis, and a tenth uploaded files, damaged alike. 503 with Retry-After counts as a refusal.
Memory is the sum over the service's processes that answer.

    make bench-serve-fuzz
"""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import schemathesis
from asked_service import processes
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from serve import ARROW, EXAMPLES, JSON, _running
from writing import write_result

from defectnet.io.tables import SPECTRA_SCHEMA, conform

HERE = Path(__file__).resolve().parent
REQUESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
WARM_UP = 500
# An answer that takes longer counts as a hang.
HANG_S = 30.0
PROFILE: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


class Tally:
    """What was sent and what came back."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.slowest_s = 0.0

    def send(self, client: httpx.Client, method: str, url: str, **content: Any) -> None:
        begun = time.monotonic()
        try:
            answer = client.request(method, url, **content)
        except httpx.InvalidURL:
            return  # nothing that a client could send
        except httpx.TransportError as error:
            self.failures.append(f"{method} {url}: {type(error).__name__}")
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - begun)
        self.statuses[answer.status_code] += 1
        busy = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "retry-after" in answer.headers
        if answer.is_server_error and not busy:
            self.failures.append(f"{method} {url}: {answer.status_code} {answer.text[:200]}")

    @property
    def sent(self) -> int:
        return self.statuses.total() + len(self.failures)


def main() -> None:
    """Send, print, and write `results/serve_fuzz.json`."""
    command = [sys.executable, str(HERE / "serve.py"), "serve", "PORT"]
    with _running(command) as url, httpx.Client(base_url=url, timeout=HANG_S, trust_env=False) as client:
        warm_up = Tally()
        fuzz_arrow(client, warm_up, WARM_UP // 2)
        fuzz_openapi(client, warm_up, WARM_UP // 2)
        before = memory_mb()
        tally = Tally()
        fuzz_arrow(client, tally, REQUESTS // 3)
        fuzz_files(client, tally, REQUESTS // 10)
        halfway = memory_mb()
        fuzz_openapi(client, tally, REQUESTS - tally.sent)
        after = memory_mb()
        answers = client.get("/v2/health/ready").status_code == httpx.codes.OK
    result = {
        "sent": tally.sent,
        "failed": len(tally.failures),
        "failures": tally.failures[:20],
        "statuses": {str(status): count for status, count in sorted(tally.statuses.items())},
        "slowest_s": round(tally.slowest_s, 2),
        "still_answers": answers,
        "rss_mb": {"after_warm_up": before, "halfway": halfway, "after": after},
    }
    write_result("serve_fuzz", result)
    print(json.dumps(result, indent=1))  # noqa: T201


def fuzz_openapi(client: httpx.Client, tally: Tally, requests: int) -> None:
    """Requests made from the service's own description, whose generator also breaks it."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [result.ok() for result in schema.get_all_operations()]
    target = tally.sent + requests
    turn = 0
    while tally.sent < target:
        for operation in operations:
            turn += 1
            mode = list(schemathesis.GenerationMode)[turn % 2]
            each = max(1, min(40, target - tally.sent))
            if tally.sent >= target:
                return
            _fuzz_operation(client, tally, operation, mode, each, turn)


def _fuzz_operation(client: httpx.Client, tally: Tally, operation: Any, mode: Any, count: int, turn: int) -> None:
    try:
        cases = operation.as_strategy(generation_mode=mode)
    except Exception:  # an operation without parameters or body cannot be broken
        cases = operation.as_strategy()

    @seed(turn)
    @settings(max_examples=count, **PROFILE)
    @given(case=cases)
    def ask(case: Any) -> None:
        try:
            sent = case.as_transport_kwargs(base_url=str(client.base_url))
            request = httpx.Request(
                sent["method"],
                sent["url"],
                params=sent.get("params"),
                headers={k: v for k, v in (sent.get("headers") or {}).items() if k.lower() != "user-agent"},
                cookies=None,
                json=sent.get("json"),
                content=sent.get("data") if isinstance(sent.get("data"), bytes | str) else None,
            )
        except (ValueError, TypeError, UnicodeError, httpx.InvalidURL):
            return  # nothing that a client could send
        tally.send(client, request.method, str(request.url), content=request.read(), headers=request.headers)

    try:
        ask()
    except Exception as error:  # the generator gave up on this operation
        if type(error).__name__ not in ("Unsatisfiable", "FailedHealthCheck", "SkipTest"):
            raise


def fuzz_arrow(client: httpx.Client, tally: Tally, requests: int) -> None:
    """Streams of spectra with bytes changed, cut out or doubled; and JSON bodies treated the same."""
    table = conform(pq.read_table(EXAMPLES / "batch.parquet"), SPECTRA_SCHEMA).slice(0, 2)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    bodies = {ARROW: sink.getvalue().to_pybytes(), JSON: (EXAMPLES / "request.json").read_bytes()}

    @seed(requests)
    @settings(max_examples=requests, **PROFILE)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from([ARROW, ARROW, ARROW, JSON]))
        body = bytearray(bodies[kind])
        tally.send(client, "POST", "/v1/predict", content=_damaged(body, data), headers={"content-type": kind})

    ask()


def fuzz_files(client: httpx.Client, tally: Tally, requests: int) -> None:
    """Spectrum files, damaged, and under names that say something else."""
    files = [path for path in sorted(EXAMPLES.iterdir()) if path.suffix in (".csv", ".parquet", ".json")]
    bodies = {path.name: path.read_bytes() for path in files}
    names = [*bodies, "phonon.yaml", "FORCE_CONSTANTS", "si.phonon", "si.cif", "si.xlsx", "si.hdf5", "../../etc/passwd"]

    @seed(requests)
    @settings(max_examples=requests, **PROFILE)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        body = bytearray(bodies[data.draw(st.sampled_from(sorted(bodies)))])
        asked = {"name": data.draw(st.sampled_from(names)), "unit": data.draw(st.sampled_from(["", "meV", "THz", "x"]))}
        headers = {"content-type": "application/octet-stream"}
        tally.send(client, "POST", "/v1/read", params=asked, content=_damaged(body, data), headers=headers)

    ask()


def _damaged(body: bytearray, data: st.DataObject) -> bytes:
    """With up to four changes, half of them in the first bytes, where headers have their lengths."""
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, (len(body) if data.draw(st.booleans()) else min(2000, len(body))) - 1))
        change = data.draw(st.sampled_from(["set", "cut", "double"]))
        if change == "set":
            body[place] = data.draw(st.integers(0, 255))
        elif change == "cut":
            del body[place : place + data.draw(st.integers(1, 200))]
            body = body or bytearray(b"\0")
        else:
            body[place:place] = body[place : place + data.draw(st.integers(1, 200))]
    return bytes(body)


def memory_mb() -> dict[str, float]:
    """Resident memory of the processes that answer, MB; those of this program's own service only."""
    import os

    found = {}
    for name in ("model", "challenger"):
        pages = [
            int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for pid in processes(os.getpid(), f"ray::ServeReplica:defectnet:{name}")
        ]
        found[name] = round(sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    return found


if __name__ == "__main__":
    main()
