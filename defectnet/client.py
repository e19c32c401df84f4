"""A client of the DefectNet service: the same questions as `Predictor`, over HTTP.

It tries again where that is safe, which is everywhere: every request of the service may be asked twice. It waits as
long as a busy service tells it to, and twice as long each time that nobody answers.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import httpx
import pyarrow as pa

from defectnet.errors import InputError, ServiceError
from defectnet.io.tables import PREDICTIONS_SCHEMA, SPECTRA_SCHEMA, conform
from defectnet.prediction import Prediction
from defectnet.query import Query

__all__ = ["Client"]

_ARROW = "application/vnd.apache.arrow.stream"
# Rows of a streamed request: 256 take a third of a second of one core, so that several replicas can share a table.
_STREAM_ROWS = 256
# The service's own answers that time can mend; 502 and 504 come from proxies on the way.
_TRY_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_POLL_S = 1.0


class Client:
    """Asks one service. May be shared by threads.

    Args:
        url: the service's address.
        token: a bearer token, where the service asks for one.
        timeout_s: seconds that one attempt may take; the service is told, and drops what nobody waits for.
        attempts: how often a request is sent before its failure is raised.
        transport: how requests travel; the network by default.
        sleep: waits so many seconds.

    Attributes:
        retries: how often something was sent again.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        attempts: int = 5,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {"x-request-timeout-seconds": f"{timeout_s:g}"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        # A little longer than the service may take, so that its own sentence arrives.
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout_s + 1.0, transport=transport, trust_env=False
        )
        self._attempts, self._sleep = attempts, sleep
        self.retries = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def predict(self, spectra: Sequence[Query | Mapping[str, Any]]) -> list[Prediction]:
        """Ask about spectra, given as queries or as the JSON objects of the interface; one prediction for each.

        Raises:
            InputError: every spectrum is wrong; a wrong one among good ones has an `error` in its prediction.
            ServiceError: the service cannot be reached, refused the token, or failed.
        """
        items = [item.to_json() if isinstance(item, Query) else dict(item) for item in spectra]
        answer = self._send("POST", "/v1/predict", json={"spectra": items}).json()
        return [Prediction.from_dict(prediction) for prediction in answer["predictions"]]

    def predict_table(self, table: pa.Table) -> pa.Table:
        """Ask about a spectra table in one request; one row of `PREDICTIONS_SCHEMA` for each row.

        Raises:
            InputError: the table breaks the contract, has too many rows, or every row is wrong.
            ServiceError: as `predict`.
        """
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, SPECTRA_SCHEMA) as stream:
            stream.write_table(conform(table))
        answer = self._send(
            "POST", "/v1/predict", content=sink.getvalue().to_pybytes(), headers={"content-type": _ARROW}
        )
        return pa.ipc.open_stream(answer.content).read_all()

    def stream(
        self, tables: pa.Table | Iterable[pa.Table], *, rows: int = _STREAM_ROWS, in_flight: int = 4
    ) -> Iterator[pa.Table]:
        """Ask about any number of rows, a part at a time and several parts at once; predictions come in order.

        Args:
            tables: a spectra table, or tables as they are read; no more than is in flight is held.
            rows: rows of a part.
            in_flight: parts that are asked about at a time.

        Raises:
            InputError, ServiceError: as `predict_table`; a part in which every row is wrong is no error here.
        """
        parts = (
            table.slice(start, rows)
            for table in ([tables] if isinstance(tables, pa.Table) else tables)
            for start in range(0, table.num_rows, rows)
        )
        waiting: deque[Future[pa.Table]] = deque()
        with ThreadPoolExecutor(max_workers=in_flight) as pool:
            try:
                for part in parts:
                    waiting.append(pool.submit(self._predict_part, part))
                    if len(waiting) >= in_flight:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def model(self) -> dict[str, Any]:
        """The model that answers now: name, version, run, vocabulary, grid, metrics, card, `problem`."""
        return self._object("GET", "/v1/model")

    def start_batch(self, uri: str) -> dict[str, Any]:
        """Have a Parquet scored where it lies (`file:///…` as the service sees it); the same question is one batch."""
        return self._object("POST", "/v1/batches", json={"input": uri})

    def batch(self, batch_id: str) -> dict[str, Any]:
        """How far a batch is."""
        return self._object("GET", f"/v1/batches/{batch_id}")

    def wait_for_batch(self, batch_id: str, timeout_s: float = float("inf")) -> dict[str, Any]:
        """Wait for the end of a batch.

        Raises:
            ServiceError: it failed, was stopped, or did not end in time.
        """
        return self._wait(lambda: self.batch(batch_id), f"batch {batch_id}", "succeeded", timeout_s)

    def delete_batch(self, batch_id: str) -> None:
        """Stop a batch and have its result removed."""
        self._send("DELETE", f"/v1/batches/{batch_id}")

    def give_host(self, content: bytes, name: str = "structure") -> dict[str, Any]:
        """Have a crystal prepared, a CIF or phonopy's YAML; its `host_id` is for `Query.host_id` once it is ready."""
        octets = {"content-type": "application/octet-stream"}
        return self._object("POST", "/v1/hosts", params={"name": name}, content=content, headers=octets)

    def host(self, host_id: str) -> dict[str, Any]:
        """A crystal that is known by name; of one that was given, how far it is."""
        return self._object("GET", f"/v1/hosts/{host_id}")

    def wait_for_host(self, host_id: str, timeout_s: float = float("inf")) -> dict[str, Any]:
        """Wait until a crystal that was given is ready.

        Raises:
            ServiceError: it cannot be prepared, or did not end in time.
        """
        return self._wait(lambda: self.host(host_id), f"host {host_id}", "ready", timeout_s)

    def _wait(self, describe: Callable[[], dict[str, Any]], what: str, wanted: str, timeout_s: float) -> dict[str, Any]:
        waited_s = 0.0
        while (now := describe())["state"] in ("pending", "running"):
            if waited_s >= timeout_s:
                raise ServiceError(f"{what} has not ended after {timeout_s:g} s; ask again later")
            self._sleep(_POLL_S)
            waited_s += _POLL_S
        if now["state"] != wanted:
            raise ServiceError(f"{what} {now['state']}: {now['error'] or 'ask for it again'}")
        return now

    def _predict_part(self, part: pa.Table) -> pa.Table:
        try:
            return self.predict_table(part)
        except InputError as error:
            if not error.field.startswith("spectra["):
                raise
        # Every row is wrong: asked one by one, each tells what is wrong with it.
        return pa.concat_tables(self._predict_row(part.slice(index, 1)) for index in range(part.num_rows))

    def _predict_row(self, row: pa.Table) -> pa.Table:
        try:
            return self.predict_table(row)
        except InputError as error:
            values = {name: row[name][0].as_py() or "" for name in ("sample_id", "host")}
            failed = Prediction.failed(values["sample_id"], values["host"], error)
            return pa.Table.from_pylist([failed.to_dict()], schema=PREDICTIONS_SCHEMA)

    def _object(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._send(method, path, **content).json()
        return answer

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        pause_s = _FIRST_PAUSE_S
        for left in range(self._attempts - 1, -1, -1):
            try:
                answer = self._http.request(method, path, **content)
            except httpx.TransportError as error:
                if not left:
                    raise ServiceError(
                        f"{self._http.base_url} does not answer ({type(error).__name__}); check that it runs"
                    ) from None
                wait_s = pause_s
            else:
                if not left or not _may_pass(answer):
                    return _checked(answer)
                wait_s = _retry_after_s(answer, pause_s)
            self.retries += 1
            self._sleep(min(wait_s, _LONGEST_PAUSE_S))
            pause_s *= 2.0
        raise AssertionError("unreachable")


def _may_pass(answer: httpx.Response) -> bool:
    """Whether time can mend it. Ray's HAProxy writes 502 and 504 as a bare 500; one of the service's own is JSON."""
    if answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
        return not answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code in _TRY_AGAIN


def _retry_after_s(answer: httpx.Response, otherwise_s: float) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else otherwise_s


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        error, field = answer.json()["error"], answer.json()["field"]
    except (ValueError, KeyError, TypeError):
        error, field = f"the service answered with status {answer.status_code}", ""
    if answer.status_code in (413, 415, 422):
        raise InputError(error.removeprefix(f"{field}: ") if field else error, field=field)
    raise ServiceError(error)
