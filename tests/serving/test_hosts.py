"""Hosts that users give: what is refused at the door and by the job, one job for two users, resumption, quotas."""

from pathlib import Path
from typing import Any

import pytest
from support.local_api import Client, LocalBackend, refused

from datagen.uploaded_hosts import prepare_uploaded
from defectnet.io.host_store import HostStore
from serving.auth import hash_token
from serving.schemas_page import GivenHostAnswer, HostsAnswer
from serving.settings import ServiceSettings

_TOKENS = {name: {"sha256": hash_token(name), "roles": ["batch"]} for name in ("anna", "ben")}
CELL = "_cell_length_a {a}\n_cell_length_b 4.2\n_cell_length_c 4.2\n_cell_angle_alpha 90\n_cell_angle_beta 90\n"
CELL += "_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1'\nloop_\n_atom_site_label\n_atom_site_type_symbol\n"
CELL += "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\n"


def cif(a: str = "4.2", atoms: str = "Mg1 Mg 0 0 0 1\nO1 O 0.5 0.5 0.5 1\n") -> bytes:
    return f"data_x\n{CELL.format(a=a)}{atoms}".encode()


@pytest.fixture
def given(backend: LocalBackend, tmp_path: Path) -> Client:
    """A service that prepares hosts; its jobs run when a test says so."""
    hosts = {"prepare": True, "store": str(tmp_path / "hosts"), "max_hosts": 3, "max_bytes": 200_000}
    return Client(ServiceSettings.model_validate({"hosts": hosts, "tokens": _TOKENS}), backend)


def give(client: Client, content: bytes, who: str = "anna", name: str = "MgO.cif") -> Any:
    headers = {"content-type": "application/octet-stream", "authorization": f"Bearer {who}"}
    return client.request("POST", "/v1/hosts", params={"name": name}, content=content, headers=headers)


def ask(client: Client, path: str) -> Any:
    return client.request("GET", path, headers={"authorization": "Bearer anna"})


def work(client: Client, host_id: str, tmp_path: Path) -> dict[str, Any]:
    """Run the job in this process and tell what became of the host."""
    prepare_uploaded(HostStore.at(str(tmp_path / "hosts")), host_id)
    for name in client.jobs.states:
        client.jobs.states[name] = "succeeded"
    return GivenHostAnswer.model_validate(ask(client, f"/v1/hosts/{host_id}").json()).model_dump()


@pytest.fixture(scope="module")
def calculation(repository: Path) -> bytes:
    """A phonopy calculation as a user has it."""
    return (repository / "datagen" / "library" / "MgO" / "phonopy_params.yaml").read_bytes()


@pytest.mark.physics
def test_a_calculation_becomes_a_host_and_a_reference(given: Client, calculation: bytes, tmp_path: Path):
    answer = give(given, calculation, name="my MgO.yaml")
    assert answer.status_code == 202
    first = GivenHostAnswer.model_validate(answer.json())
    assert (first.state, first.owner, first.done) == ("pending", "anna", 0)
    assert answer.headers["location"] == f"/v1/hosts/{first.host_id}"
    # Another user, other line ends, trailing blanks: the same host and no second job.
    again = give(given, calculation.replace(b"\n", b" \r\n"), "ben")
    assert (again.status_code, again.json()["host_id"]) == (200, first.host_id)
    assert len(given.jobs.commands) == 1
    done = work(given, first.host_id, tmp_path)
    assert (done["state"], done["formula"], done["done"], done["error"]) == ("ready", "MgO", 3, None)
    found = HostsAnswer.model_validate(ask(given, "/v1/hosts?formula=MgO").json()).hosts
    assert found[0].host_id == first.host_id
    assert found[0].responses
    assert found[0].description.startswith("my MgO.yaml")
    spectrum = ask(given, f"/v1/hosts/{first.host_id}/spectrum").json()
    step = spectrum["frequency"][1] - spectrum["frequency"][0]
    assert sum(spectrum["dos"]) * step == pytest.approx(3.0, rel=0.02)
    stored = HostStore.at(str(tmp_path / "hosts")).responses(first.host_id)
    assert len({one.element for one in stored.responses}) > 5
    assert {one.source for one in stored.responses} == {"springs"}


@pytest.mark.physics
def test_a_job_that_was_killed_goes_on_from_its_force_constants(
    given: Client, calculation: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    host_id = give(given, calculation).json()["host_id"]

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("datagen.uploaded_hosts.host_row", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_uploaded(HostStore.at(str(tmp_path / "hosts")), host_id)
    given.jobs.states = dict.fromkeys(given.jobs.states, "failed")
    stopped = ask(given, f"/v1/hosts/{host_id}").json()
    assert stopped["state"] == "failed"
    assert "give the file again" in stopped["error"]
    assert give(given, calculation).status_code == 202
    assert len(given.jobs.commands) == 2
    monkeypatch.setattr("datagen.uploaded_hosts.check_atoms", killed)  # not read again
    assert work(given, host_id, tmp_path)["state"] == "ready"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither a CIF"),
        (b"\xff\xfe\x00", "not text"),
        (b"data_x\0", "not text"),
        (b"[" * 10_000_000, "bytes are more than"),
        (b"phonopy:\n" + b"[" * 100_000, "nests"),
        (b"phonopy:\n  a: &a [x,x]\n  b: &b [*a,*a]\n  c: [*b,*b]\n", "anchors"),
        (b"phonopy: !!python/object/apply:os.system ['true']\n", "tag"),
        (b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><x>&b;</x>", "neither a CIF"),
        (cif("nan"), "_cell_length_a is 'nan'"),
        (cif("-4"), "_cell_length_a is '-4'"),
        (cif("1e400"), "_cell_length_a is '1e400'"),
        (cif("0"), "_cell_length_a is '0'"),
        (cif(atoms="Mg1 Mg 0 0 0 1\n" * 10_000), "too many"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_refused_at_the_door_in_one_sentence(given: Client, content: bytes, said: str):
    answer = give(given, content)
    assert said in refused(answer, 422, answer.json()["field"])
    assert given.jobs.commands == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (cif(atoms="Mg1 Mg nan 0 0 1\nO1 O 0.5 0.5 0.5 1\n"), "structure"),
        (cif(atoms="Mg1 Mg 0 0 0 1\nO1 O 0 0 0.01 1\n"), "nearer"),
        (cif(atoms="Mg1 Mg 0 0 0 0.5\nCa1 Ca 0 0 0 0.5\nO1 O 0.5 0.5 0.5 1\n"), "shared"),
        (cif(atoms="Q1 Q 0 0 0 1\n"), "structure"),
        (cif(atoms="\n".join(f"Mg{k} Mg {k / 80:.4f} 0 0 1" for k in range(80))), "not between 1 and 60"),
        (cif(atoms=""), "structure"),
        (b"phonopy:\n  version: '2.0'\nunit_cell:\n  lattice: [nan]\n", "phonopy"),
    ],
    ids=lambda value: str(value)[-24:],
)
def test_refused_by_the_job_in_one_sentence(given: Client, content: bytes, said: str, tmp_path: Path):
    host = work(given, give(given, content).json()["host_id"], tmp_path)
    assert host["state"] == "failed"
    assert said in host["error"]
    assert "\n" not in host["error"]
    assert "/tmp" not in host["error"]


def test_quotas(given: Client):
    assert give(given, cif("4.1")).status_code == 202
    assert give(given, cif("4.2"), "ben").status_code == 202
    busy = give(given, cif("4.3"))
    refused(busy, 429)
    assert int(busy.headers["retry-after"]) > 0
    given.jobs.states = dict.fromkeys(given.jobs.states, "failed")
    assert give(given, cif("4.3")).status_code == 202
    assert give(given, cif("4.4")).status_code == 202
    given.jobs.states = dict.fromkeys(given.jobs.states, "failed")
    assert "has given 3 hosts" in refused(give(given, cif("4.5")), 422, "hosts")
    assert give(given, cif("4.5"), "ben").status_code == 202


def test_who_may_give(backend: LocalBackend, given: Client):
    refused(give(given, cif(), "nobody"), 401, "authorization")
    plain = Client(ServiceSettings(), backend)
    assert "hosts.prepare" in refused(give(plain, cif()), 422, "hosts")
