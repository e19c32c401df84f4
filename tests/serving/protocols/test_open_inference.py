"""The Open Inference Protocol, and a stock client of it."""

import json
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from support.local_api import Client, LocalBackend, refused

from defectnet.elements import VOCABULARY
from defectnet.errors import InputError
from serving.protocols.tensors import HEADER_LENGTH, read_request
from serving.proxy import free_port
from serving.settings import ServiceSettings

PATH = "/v2/models/defectnet/infer"
AXIS = np.linspace(0.1, 15.0, 120)
DOS = np.abs(np.sin(AXIS)) + 0.1


def tensor(name: str, data: Any, datatype: str = "BYTES", shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def spectrum_tensors(**changes: Any) -> list[dict[str, Any]]:
    tensors = {
        "id": tensor("id", ["a", "b"]),
        "host": tensor("host", ["Si", "GaAs"]),
        "unit": tensor("unit", ["THz", "THz"]),
        "frequency": tensor("frequency", [AXIS.tolist()] * 2, "FP32", [2, 120]),
        "dos": tensor("dos", [DOS.tolist()] * 2, "FP64", [2, 120]),
        "candidates": tensor("candidates", ["Ge, Sn", ""]),
    }
    return [value for value in (tensors | changes).values() if value is not None]


def infer(client: Client, path: str = PATH, /, inputs: Any = None, **more: Any) -> Any:
    body = {"inputs": spectrum_tensors() if inputs is None else inputs, **more}
    return client.request("POST", path, json=body)


def test_errors_are_a_tensor(client: Client):
    errors = tensor("uncertainty", [[0.3] * 120, [0.0] * 120], "FP32", [2, 120])
    got = [infer(client, inputs=inputs).json() for inputs in (spectrum_tensors(), spectrum_tensors(uncertainty=errors))]
    high = [
        np.reshape(next(o["data"] for o in one["outputs"] if o["name"] == "high"), (2, len(VOCABULARY))) for one in got
    ]
    asked = [VOCABULARY.index("Ge"), VOCABULARY.index("Sn")]
    assert (high[1][0, asked] > high[0][0, asked]).all()
    assert high[1][1].tolist() == high[0][1].tolist()


def test_answers_as_the_model_does(client: Client, spectrum: Callable[..., dict[str, Any]]):
    answer = infer(client, id="mine").json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("defectnet", "3", "mine")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["element"]["data"] == list(VOCABULARY)
    probability = np.reshape(outputs["probability"]["data"], outputs["probability"]["shape"])
    verdicts = client.predict(spectrum(candidates=["Ge", "Sn"])).json()["predictions"][0]["elements"]
    for verdict in verdicts:
        # The axis went through float32 on the way.
        assert probability[0, VOCABULARY.index(verdict["element"])] == pytest.approx(verdict["probability"], rel=1e-4)
    assert np.count_nonzero(probability[0]) == 2
    assert outputs["error"]["data"] == ["", ""]


def test_a_bad_row_costs_only_itself(client: Client):
    answer = infer(client, inputs=spectrum_tensors(unit=tensor("unit", ["THz", "GHz"]))).json()
    errors = next(output["data"] for output in answer["outputs"] if output["name"] == "error")
    assert errors[0] == ""
    assert "GHz" in errors[1]


def test_bytes_both_ways(client: Client):
    inputs, tail = [], b""
    for entry in spectrum_tensors():
        data = entry.pop("data")
        if entry["datatype"] == "BYTES":
            content = b"".join(struct.pack("<I", len(text)) + text.encode() for text in data)
        else:
            content = np.asarray(data, "<f4" if entry["datatype"] == "FP32" else "<f8").tobytes()
        inputs.append(entry | {"parameters": {"binary_data_size": len(content)}})
        tail += content
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    answer = client.request("POST", PATH, content=header + tail, headers=headers)
    split = int(answer.headers[HEADER_LENGTH])
    outputs = json.loads(answer.content[:split])["outputs"]
    assert sum(output["parameters"]["binary_data_size"] for output in outputs) == len(answer.content) - split
    plain = infer(client).json()["outputs"]
    start = split
    for binary, output in zip(outputs, plain, strict=True):
        end = start + binary["parameters"]["binary_data_size"]
        if binary["datatype"] == "FP32":
            got = np.frombuffer(answer.content[start:end], "<f4")
            np.testing.assert_allclose(got, output["data"], rtol=1e-6)
        start = end


def test_only_the_outputs_that_are_wanted(client: Client):
    answer = infer(client, outputs=[{"name": "ood_score"}]).json()
    assert [output["name"] for output in answer["outputs"]] == ["ood_score"]


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ([], "inputs"),
        ("no list", "inputs"),
        ([1], "inputs"),
        (spectrum_tensors(host=None), "host"),
        (spectrum_tensors(other=tensor("other", ["a", "b"])), "inputs"),
        (spectrum_tensors(host=tensor("host", ["Si"])), "host"),
        (spectrum_tensors(host=tensor("host", [1, 2])), "host"),
        (spectrum_tensors(dos=tensor("dos", [1.0, 2.0], "FP32")), "dos"),
        (spectrum_tensors(dos=tensor("dos", [DOS.tolist()] * 2, "FP32", [2, 121])), "dos"),
        (spectrum_tensors(dos=tensor("dos", [DOS.tolist()] * 2, "FP8", [2, 120])), "dos"),
        (spectrum_tensors(frequency=tensor("frequency", [AXIS.tolist()], "FP32", [120])), "frequency"),
        (spectrum_tensors(reference_dos=tensor("reference_dos", [[1.0]] * 2, "FP32", [2, 1])), "reference_dos"),
        (spectrum_tensors(frequency=tensor("frequency", [[0.0] * 600] * 2, "FP32", [2, 600])), "frequency"),
    ],
)
def test_what_is_refused(client: Client, inputs: Any, field: str):
    refused(infer(client, inputs=inputs), 422, field)


def test_unknown_names_and_versions(client: Client):
    refused(infer(client, "/v2/models/other/infer"), 404, "name")
    refused(infer(client, "/v2/models/defectnet/versions/4/infer"), 404, "version")
    assert infer(client, "/v2/models/defectnet/versions/3/infer").status_code == 200
    refused(infer(client, outputs=[{"name": "nothing"}]), 422, "outputs")
    refused(client.request("GET", "/v2/models/defectnet/versions/4"), 404, "version")


@given(body=st.binary(max_size=200), length=st.one_of(st.none(), st.text(max_size=8)))
def test_any_bytes_are_refused(body: bytes, length: str | None):
    with pytest.raises(InputError):
        read_request(body, length)


@pytest.fixture
def address(backend: LocalBackend) -> Iterator[str]:
    """The interface on a port, for clients that cannot be talked out of a socket."""
    config = uvicorn.Config(
        Client(ServiceSettings(), backend).api, port=free_port(), log_level="warning", lifespan="off", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"127.0.0.1:{config.port}"
    server.should_exit = True
    thread.join(timeout=10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("binary", [True, False])
def test_a_stock_client(address: str, binary: bool):
    """NVIDIA's client of the protocol, knowing nothing of this service."""
    http = pytest.importorskip("tritonclient.http", reason="the stock client comes with the extra `dev`")
    stock = http.InferenceServerClient(address)
    assert stock.is_server_live()
    assert stock.is_server_ready()
    assert stock.is_model_ready("defectnet")
    assert stock.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = stock.get_model_metadata("defectnet")
    values = {
        "host": np.array(["Si"], object),
        "unit": np.array(["THz"], object),
        "frequency": AXIS[None].astype(np.float32),
        "dos": DOS[None].astype(np.float32),
    }
    inputs = []
    for described in metadata["inputs"]:
        if described["name"] in values:
            array = values[described["name"]]
            inputs.append(http.InferInput(described["name"], list(array.shape), described["datatype"]))
            inputs[-1].set_data_from_numpy(array, binary_data=binary)
    wanted = [http.InferRequestedOutput(output["name"], binary_data=binary) for output in metadata["outputs"]]
    result = stock.infer("defectnet", inputs, outputs=wanted)
    assert result.get_response()["model_version"] == "3"
    assert result.as_numpy("probability").shape == (1, len(VOCABULARY))
    elements = [text.decode() if isinstance(text, bytes) else text for text in result.as_numpy("element")]
    assert elements == list(VOCABULARY)
    stock.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*Any type hint:UserWarning")
def test_mlflows_own_client(address: str, spectrum: Callable[..., dict[str, Any]]):
    import pandas as pd
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    stock = ScoringServerClient(*address.split(":"))
    stock.wait_server_ready(timeout=10)
    answer = stock.invoke(pd.DataFrame([spectrum(id="a"), spectrum(id="b")]))["predictions"]
    assert [prediction["sample_id"] for prediction in answer] == ["a", "b"]
    assert stock.get_version()
