"""The page's own routes without a browser: files, reading, elements, hosts, answers in words, status."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.local_api import Client, LocalBackend, refused

from defectnet.host import MIN_CONCENTRATION, Host
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.prediction import HESITATION
from defectnet.readers import read_file
from defectnet.readers.query import read_query
from defectnet.references import find_hosts, library_reference
from serving.auth import hash_token
from serving.page.files import CONTENT_SECURITY_POLICY
from serving.schemas_page import (
    ElementsAnswer,
    HostsAnswer,
    HostSpectrumAnswer,
    QuestionAnswer,
    ReadAnswer,
    StatusAnswer,
    StudyAnswer,
)
from serving.settings import ServiceSettings

Make = Callable[..., dict[str, Any]]
STATIC = Path(__file__).parents[3] / "serving" / "page" / "static"


@pytest.fixture
def roomy(backend: LocalBackend) -> Client:
    """A client with the usual limits."""
    return Client(ServiceSettings(), backend)


def read(client: Client, content: bytes, name: str = "s.csv", **query: str) -> Any:
    headers = {"content-type": "application/octet-stream"}
    return client.request("POST", "/v1/read", params={"name": name, **query}, content=content, headers=headers)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", ["/", "/docs", "/status", "/page/main.js", "/page/page.css", "/page/Si.csv"])
def test_files_come_with_a_policy_and_are_not_sent_twice(client: Client, path: str):
    answer = client.request("GET", path)
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.request("GET", path, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["Si.csv", "Si-pristine.csv"])
def test_the_pages_example_is_the_first_example(client: Client, repository: Path, name: str):
    assert client.request("GET", f"/page/{name}").content == (repository / "examples" / name).read_bytes()


def test_the_policy_lets_nothing_of_others_in():
    rules = dict(rule.strip().split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == rules["frame-ancestors"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "name", ["..%2fapi.py", "..%2f..%2fsettings.py", "x..", "__init__.py", "nothing.js", "frame.html"]
)
def test_only_the_pages_files_are_served(client: Client, name: str):
    assert client.request("GET", f"/page/{name}").status_code == 404


@pytest.mark.parametrize("path", ["/", "/docs", "/status"])
def test_pages_hold_no_script_no_style_and_no_other_address(client: Client, path: str):
    text = client.request("GET", path).text
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?:", text)
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', text))
    assert named
    assert {name for name in named if not (STATIC / name.removeprefix("page/")).is_file()} == set()


@pytest.mark.parametrize("path", ["/", "/docs", "/status"])
def test_all_pages_have_one_frame(client: Client, path: str):
    text = client.request("GET", path).text
    links = re.search(r'<nav aria-label="Pages">(.*?)</nav>', text)
    assert links is not None
    assert len(re.findall(r"<a ", links[1])) == 3
    (here,) = re.findall(r'href="([^"]+)" aria-current="page"', links[1])
    assert f"/{here.strip('.')}" == path
    assert [text.count(part) for part in ('<main id="page"', "<dialog", "</html>", "$")] == [1, 1, 1, 0]


def test_what_the_page_knows_of_the_library_is_what_the_library_says():
    text = (STATIC / "limits.js").read_text(encoding="utf-8")
    facts = {name: float(value) for name, value in re.findall(r"const ([A-Z_]+) = ([\d.]+);", text)}
    assert facts == {"LEAST_SEEN": MIN_CONCENTRATION, "HESITATION": HESITATION}


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_scripts_make_no_markup_of_text(path: Path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert set(re.findall(r'from "\./([^"]+)"', text)) <= {other.name for other in STATIC.glob("*.js")}
    assert set(re.findall(r"https?://[^\"'` )]+", text)) <= {"http://www.w3.org/2000/svg"}


# ── reading ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_file_is_read_as_the_library_reads_it(roomy: Client, repository: Path):
    path = repository / "examples" / "Si.csv"
    (one,) = ReadAnswer.model_validate(read(roomy, path.read_bytes(), "Si.csv").json()).spectra
    spectrum = read_file(path).spectrum
    assert one.id == "Si"
    assert one.frequency == spectrum.frequency_thz.tolist()
    assert one.dos == spectrum.dos.tolist()
    assert one.modes == pytest.approx(3.0, rel=1e-3)


def test_a_unit_is_asked_for_and_then_taken(roomy: Client):
    content = "\n".join(f"{x},{np.sin(x / 20) + 1.1},0.1" for x in range(1, 60)).encode()
    said = refused(read(roomy, content, "my data.csv"), 422, "unit")
    assert "my data.csv does not say its unit" in said
    (one,) = read(roomy, content, "my data.csv", unit="meV").json()["spectra"]
    assert one["frequency"][-1] == pytest.approx(59 / 4.135667696923859)
    assert one["uncertainty"][0] == pytest.approx(0.1 * 4.135667696923859)
    assert "unknown unit" in refused(read(roomy, content, unit="GHz"), 422, "unit")


def test_a_wrong_unit_is_overridden_and_both_are_named(roomy: Client):
    content = ("Frequency (THz),dos\n" + "\n".join(f"{x},{np.sin(x / 20) + 1.1}" for x in range(1, 60))).encode()
    assert "is said to be in THz and in meV" in refused(read(roomy, content, "a.csv", unit="meV"), 422, "unit")
    answer = read(roomy, content, "a.csv", unit="meV", override_unit="true").json()
    (one,) = ReadAnswer.model_validate(answer).spectra
    assert one.frequency is not None
    assert one.frequency[-1] == pytest.approx(59 / 4.135667696923859)
    assert one.unit_overruled == "THz (the column's name 'Frequency (THz)')"
    assert "was read in meV because the caller said so" in one.notes[0]
    sent = {"name": "a.csv", "content": base64.b64encode(content).decode()}
    body = {"file": sent, "host": "Si", "unit": "meV", "override_unit": True}
    made = QuestionAnswer.model_validate(roomy.request("POST", "/v1/question", json=body).json())
    assert made.spectrum.frequency == one.frequency
    assert "was read in meV because the caller said so" in made.notes[0]
    answer = roomy.request("POST", "/v1/question", json=body | {"override_unit": "yes"})
    assert "neither true nor false" in refused(answer, 422, "override_unit")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("../../etc/passwd", b"root:x:0:0"),
        ("s.csv", b""),
        ("s.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64),
        ("s.parquet", b"PAR1" + b"\0" * 64),
        ("s.json", b"[" * 100_000),
        ("phonopy.yaml", b"phonopy:\n  a: &x [1]\n  b: *x\n"),
        ("a\nb\0c<script>.csv", b"\xff\xfe\0"),
    ],
)
def test_a_broken_file_is_one_sentence_without_paths(roomy: Client, name: str, content: bytes):
    answer = read(roomy, content, name)
    said = refused(answer, 422, answer.json()["field"])
    assert "/tmp" not in said
    assert "defectnet-read" not in said


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!<tag:yaml.org,2002:python/object/apply:os.system>"]
)
@pytest.mark.parametrize(
    "form", ["phonopy: {tag} ['{command}']\n", 'phonopy:\n  version: "1"\nx: {{"a":{tag} ["{command}"]}}\n']
)
def test_nothing_in_a_file_is_run(roomy: Client, tmp_path: Path, tag: str, form: str):
    marker = tmp_path / "owned"
    content = form.format(tag=tag, command=f"touch {marker}")
    for name in ("phonopy.yaml", "phonopy_params.yaml", "s.txt", "s.json"):
        answer = read(roomy, content.encode(), name, unit="THz")
        assert answer.status_code == 422
    assert not marker.exists()


def test_a_table_is_many_spectra_with_their_hosts(roomy: Client, spectra: Any):
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    errors = pa.array([[0.25] * len(dos) if row == 1 else None for row, dos in enumerate(spectra["dos"].to_pylist())])
    place = spectra.column_names.index("uncertainty")
    pq.write_table(spectra.set_column(place, "uncertainty", errors).cast(SPECTRA_SCHEMA), sink)
    rows = read(roomy, sink.getvalue().to_pybytes(), "run.parquet").json()["spectra"]
    assert [row["id"] for row in rows] == spectra["sample_id"].to_pylist()
    assert [row["error"] is None for row in rows] == [True, True, True, True, False]
    assert rows[0]["host"] == "Si"
    assert rows[0]["reference"]["frequency"][0] == pytest.approx(0.05)
    assert rows[0]["uncertainty"] is None
    assert set(rows[1]["uncertainty"]) == {0.25}


def test_a_browser_may_not_send_a_file_from_elsewhere(client: Client):
    other = {"content-type": "application/octet-stream", "origin": "http://evil.example"}
    refused(client.request("POST", "/v1/read", content=b"1", headers=other), 403, "origin")
    fetched = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    refused(client.request("GET", "/v1/model", headers=fetched), 403, "origin")
    own = {"origin": "http://127.0.0.1", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.request("GET", "/v1/model", headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.request("GET", "/", headers=link).status_code == 200
    refused(
        client.request("POST", "/v1/read", content=b"1", headers={"content-type": "text/plain"}), 415, "content-type"
    )


# ── questions of files ────────────────────────────────────────────────────────────────────────────────────────────────
def file(path: Path) -> dict[str, str]:
    return {"name": path.name, "content": base64.b64encode(path.read_bytes()).decode()}


def test_a_question_of_files_is_the_command_lines(roomy: Client, repository: Path):
    sample, reference = (repository / "examples" / f"{name}.csv" for name in ("Si", "Si-pristine"))
    body = {"file": file(sample), "host": "Si", "reference": file(reference), "candidates": ["Ge"], "prior": False}
    made = QuestionAnswer.model_validate(roomy.request("POST", "/v1/question", json=body).json())
    asked = read_query(sample, "Si", reference=reference, candidates=["Ge"], prior=False)
    assert made.spectrum.model_dump(exclude_none=True) == asked.query.to_json()
    assert made.notes == list(asked.notes)
    (known, *_) = find_hosts(Host("Si"))
    body = {"file": file(sample), "host": "Si", "reference": {"host_id": known.parent_id}}
    made = QuestionAnswer.model_validate(roomy.request("POST", "/v1/question", json=body).json())
    asked = read_query(sample, "Si", reference=known.parent_id)
    assert made.spectrum.model_dump(exclude_none=True) == asked.query.to_json()
    assert any("computed, not measured" in note for note in made.notes)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": 3},
        {"file": {"name": "a.csv", "content": "no base64!"}},
        {"file": {"name": "../../x", "content": ""}},
        {"host": None},
        {"host": "no formula"},
        {"unit": 3},
        {"unit": "GHz"},
        {"kind": "raman"},
        {"prior": "no"},
        {"candidates": "Ge"},
        {"candidates": [1]},
        {"reference": 3},
        {"reference": {"host_id": 3}},
        {"reference": {"host_id": "mp-0"}},
        {"reference": {"name": "r.csv", "content": "AAAA"}},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_question_of_files(roomy: Client, repository: Path, changes: dict[str, Any]):
    body = {"file": file(repository / "examples" / "Si.csv"), "host": "Si"} | changes
    answer = roomy.request("POST", "/v1/question", json=body)
    assert "/tmp" not in refused(answer, 422, answer.json()["field"])


# ── elements and hosts ────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_periodic_table_for_a_host(client: Client):
    plain = ElementsAnswer.model_validate(client.request("GET", "/v1/elements").json())
    assert plain.host is None
    assert all(one.expected and not one.in_host for one in plain.elements)
    table = ElementsAnswer.model_validate(client.request("GET", "/v1/elements?host=SiC").json())
    by_name = {one.symbol: one for one in table.elements}
    assert (by_name["Si"].in_host, by_name["Ge"].in_host) == (True, False)
    assert by_name["Ge"].expected
    assert by_name["Ge"].replaces == "Si"
    assert not by_name["He"].expected
    assert sum(one.share for one in table.elements) == pytest.approx(1.0, abs=1e-3)
    refused(client.request("GET", "/v1/elements?host=no%20formula"), 422, "host")


def test_hosts_by_the_beginning_of_a_formula(client: Client):
    exact = HostsAnswer.model_validate(client.request("GET", "/v1/hosts?formula=Si").json())
    assert exact.hosts[0].formula == "Si"
    assert {one.formula[:2] for one in exact.hosts} == {"Si"}
    swapped, plain = (client.request("GET", f"/v1/hosts?formula={f}").json()["hosts"] for f in ("OMg", "MgO"))
    assert plain
    assert swapped == [one for one in plain if one["formula"] == plain[0]["formula"]]
    assert client.request("GET", "/v1/hosts?formula=Zzz").json() == {"hosts": [], "more": False, "prepares": False}
    everything = client.request("GET", "/v1/hosts").json()
    assert everything["more"]


@pytest.mark.parametrize("kind", ["vibrational", "neutron"])
def test_a_hosts_spectrum_is_the_librarys(client: Client, kind: str):
    (known, *_) = find_hosts(Host("Si"))
    path = f"/v1/hosts/{known.parent_id}/spectrum"
    one = HostSpectrumAnswer.model_validate(client.request("GET", path, params={"kind": kind}).json())
    expected = library_reference(Host("Si"), known.parent_id).as_measured(kind)
    assert one.dos == expected.dos.tolist()
    assert "computed, not measured" in one.note
    assert client.request("GET", f"/v1/hosts/{known.parent_id}").json()["state"] == "ready"
    for place in ("mp-0", "mp-0/spectrum", "h-" + "0" * 24, "h-.."):
        refused(client.request("GET", f"/v1/hosts/{place}"), 422, "host_id")


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_lone_spectrum_comes_with_what_is_behind_it(client: Client, spectrum: Make):
    item = spectrum()
    item["reference"] = {"frequency": item["frequency"], "dos": [value + 0.05 for value in item["dos"]]}
    answer = client.request("POST", "/v1/study", json={"spectra": [item]})
    (one,) = StudyAnswer.model_validate(answer.json()).answers
    expected = client.predict(item).json()["predictions"][0]
    assert [verdict.model_dump() for verdict in one.prediction.elements] == expected["elements"]
    assert one.curves is not None
    assert len(one.curves.measured) == len(one.curves.frequency_thz)
    assert one.spectra is not None
    assert one.spectra.reference is not None
    assert set(one.spoke.elements if one.spoke else ()) == {"Ge"}


def test_without_a_reference_there_is_no_change_to_show(client: Client, spectrum: Make):
    (one,) = client.request("POST", "/v1/study", json={"spectra": [spectrum()]}).json()["answers"]
    assert one["curves"] is None
    assert one["spectra"]["reference"] is None


def test_many_spectra_are_said_in_words_and_a_bad_one_costs_itself(client: Client, spectrum: Make):
    answer = client.request("POST", "/v1/study", json={"spectra": [spectrum(), spectrum(unit="GHz")]})
    good, bad = StudyAnswer.model_validate(answer.json()).answers
    assert good.said.trust != "none"
    assert bad.said.trust == "none"
    assert bad.said.sentence.startswith("No answer: unit: unknown unit")
    refused(client.request("POST", "/v1/study", json={"spectra": [spectrum(unit="GHz")] * 2}), 422, "spectra[0].unit")


@pytest.mark.parametrize("body", [{}, [], {"spectra": []}, {"spectra": [1], "more": 2}, {"spectra": [{}]}])
def test_what_is_no_question(client: Client, body: Any):
    for path in ("/v1/study", "/v1/report"):
        answer = client.request("POST", path, json=body)
        refused(answer, 422, answer.json()["field"])


def test_a_report_stands_alone(client: Client, spectrum: Make):
    body = {"spectra": [spectrum(id="<script>alert(1)</script>")], "source": "a & b.csv"}
    answer = client.request("POST", "/v1/report", json=body)
    assert answer.headers["content-type"].startswith("text/html")
    assert "attachment" in answer.headers["content-disposition"]
    assert "<script" not in answer.text
    assert "a &amp; b.csv" in answer.text
    refused(client.request("POST", "/v1/report", json={"spectra": [spectrum()] * 2}), 422, "spectra")
    refused(client.request("POST", "/v1/report", json={"spectra": [spectrum()], "source": 3}), 422, "source")


# ── status ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_status_is_for_operators(backend: LocalBackend):
    tokens = {name: {"sha256": hash_token(name), "roles": [name]} for name in ("score", "admin")}
    client = Client(ServiceSettings.model_validate({"tokens": tokens, "model": "released"}), backend)
    refused(client.request("GET", "/v1/status", headers={"authorization": "Bearer score"}), 403, "authorization")
    answer = client.request("GET", "/v1/status", headers={"authorization": "Bearer admin"})
    status = StatusAnswer.model_validate(answer.json())
    assert [one.version for one in status.replicas] == ["3"]
    (row,) = status.requests["routes"]
    assert (row["route"], row["refused"], row["answered"]) == ("/v1/status", 1, 0)
    assert status.not_known == []


def test_a_registry_that_is_away_is_said(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    status = client.request("GET", "/v1/status").json()
    assert status["promotions"] == []
    assert "cannot read the registry" in status["not_known"][0]
    assert json.dumps(status)
