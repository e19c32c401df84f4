"""The run that prepares hosts: rows, failures as rows, and what is not made twice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from datagen.own_host import host_of_phonons, host_of_structure
from datagen.parents import Parent, from_folder, packaged_folder
from datagen.potentials import Potential
from datagen.preparation import HostWriter, prepare_host, prepare_hosts, prepare_own
from datagen.prepare import pairs_of
from datagen.responses import HostDynamics
from datagen.settings import PrepareSettings
from defectnet.cli.main import app
from defectnet.errors import InputError, SimulationError
from defectnet.host import Host
from defectnet.io.response_library import HostResponses, ResponseLibrary


def settings(**values: Any) -> PrepareSettings:
    return PrepareSettings.model_validate({"fragment_atoms": 54, "workers": 1, **values})


@pytest.fixture
def absurd() -> Parent:
    """Silicon with force constants that a wrong unit would give."""
    parent = from_folder(packaged_folder() / "Si")
    parent.phonons.force_constants = parent.phonons.force_constants * 1000.0
    return replace(parent, parent_id="absurd")


def test_one_host_is_prepared_here_and_once(tmp_path: Path) -> None:
    wanted = settings(parent_ids=("Si",), output=str(tmp_path), dopants=("Ge", "Sn"))
    first = prepare_hosts(wanted)
    assert (first.hosts, first.failed) == (1, 0)
    assert first.substitutions["springs"] == 2
    host = ResponseLibrary.read(tmp_path).host("Si")
    assert {one.element for one in host.responses} == {"Ge", "Sn"}
    again = prepare_hosts(wanted)
    assert (again.hosts, again.skipped) == (0, 1)
    other = prepare_hosts(wanted.model_copy(update={"dopants": ("Ge",)}))
    assert other.hosts == 1
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["hosts"] == 1


def test_a_potential_is_asked_about_the_likeliest(silicon: Parent, potential: Potential) -> None:
    told: list[str] = []
    made = prepare_host(silicon, settings(potential="nep89", potential_dopants=2), potential, tell=told.append)
    host = HostResponses.from_row(made.row)
    asked = {one.element for one in host.responses if one.source == "potential:nep89"}
    assert asked == {element for _, element in pairs_of(silicon.host)[:2]}
    assert made.fragments == 2
    assert made.force_calls > 2
    assert any("force calls" in text for text in told)
    for element in asked:
        curves = {one.source: one for one in host.of(element) if one.concentration < 0.05}
        n = min(one.change.size for one in curves.values())
        smooth = [np.convolve(one.change[:n], np.ones(12), "same") for one in curves.values()]
        # Two ways to the same substitution in silicon: what differs is how well each knows the bonds.
        cosine = smooth[0] @ smooth[1] / np.sqrt((smooth[0] @ smooth[0]) * (smooth[1] @ smooth[1]))
        assert cosine > 0.6


def test_a_host_that_the_potential_fails_on_has_its_other_responses(silicon: Parent) -> None:
    class Ignorant:
        name, fingerprint = "ignorant", "0"

        def knows(self, symbol: str) -> bool:
            return symbol != "Si"

        def evaluate(self, structures: Any) -> Any:
            raise AssertionError("asked about what it does not know")

    made = prepare_host(silicon, settings(potential="ignorant"), Ignorant())
    assert made.failures == ("ignorant does not know Si",)
    assert made.fragments == 0
    assert HostResponses.from_row(made.row).responses


def test_a_host_with_absurd_modes_is_an_error_and_no_crash(absurd: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SimulationError, match="are no crystal's"):
        HostDynamics(absurd)


def test_what_fails_is_a_row_beside_the_others(
    absurd: Parent, silicon: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Parent:
        raise ValueError("a matrix of nothing")

    loaders = {"absurd": lambda: absurd, "Si": lambda: silicon, "broken": broken}
    monkeypatch.setattr("datagen.batches.load_parents", lambda source, names: [(name, loaders[name]) for name in names])
    writer = HostWriter(settings(output=str(tmp_path), dopants=("Ge",), use_endmembers=False).model_dump())
    rows = writer({"tasks": json.dumps([{"parent_id": name} for name in ("absurd", "Si", "broken")])})
    assert [row["failed"] for row in rows] == [1, 0, 1]
    (file,) = tmp_path.glob("*.parquet")
    errors = {row["host_id"]: row["error"] for row in pq.read_table(file, columns=["host_id", "error"]).to_pylist()}
    assert errors["Si"] is None
    assert "check its force constants" in errors["absurd"]
    assert errors["broken"] == "broken: numerical failure (ValueError: a matrix of nothing)"
    assert list(ResponseLibrary.read(tmp_path)) == ["Si"]


def test_a_host_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(packaged_folder() / "Si", folder)
    host, content = host_of_phonons(folder)
    assert (host.parent_id, host.host) == ("mine", Host("Si"))
    wanted = settings(output=str(tmp_path / "library"), dopants=("Ge",))
    assert prepare_own(host, wanted, content).hosts == 1
    assert prepare_own(host, wanted, content).skipped == 1
    assert prepare_own(host, wanted, content + b"changed").hosts == 1
    (file,) = folder.glob("phonopy*")
    assert host_of_phonons(file)[0].parent_id == "Si"  # a name like phonopy.yaml says nothing
    with pytest.raises(InputError, match="there is no"):
        host_of_phonons(tmp_path / "nowhere.yaml")


def test_a_structure_is_named_as_its_file(
    silicon: Parent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, potential: Potential
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "wafer.cif"
    silicon.primitive.write(path)
    host, content = host_of_structure(path, "nep89")
    assert (host.parent_id, host.host) == ("wafer", Host("Si"))
    assert content.endswith(b"nep89")


def test_elements_that_make_no_sense_are_put_somewhere() -> None:
    assert set(pairs_of(Host("GaAs"), ("Al", "Ne"))) == {("Ga", "Al"), ("Ga", "Ne")}


def test_a_dopant_of_another_group_is_put_where_its_size_allows() -> None:
    assert pairs_of(Host("MgB2"), ("Al", "N")) == [("Mg", "Al"), ("B", "N")]


def test_the_verb(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["prepare", "--parent", "Si", "--dopants", "Ge, Sn", "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "1 hosts in" in done.output
    assert "2 by springs" in done.output
    nothing = CliRunner().invoke(app, ["prepare"])
    assert isinstance(nothing.exception, InputError)


@pytest.mark.slow
def test_hosts_over_ray_are_as_those_prepared_here(tmp_path: Path) -> None:
    wanted = settings(parent_ids=("Si", "Ge"), dopants=("Sn",), hosts_per_shard=1)
    report = prepare_hosts(wanted.model_copy(update={"output": str(tmp_path / "ray")}))
    assert (report.hosts, report.failed) == (2, 0)
    for name in ("Si", "Ge"):
        alone = wanted.model_copy(update={"output": str(tmp_path / "here"), "parent_ids": (name,)})
        prepare_hosts(alone)
    read = [ResponseLibrary.read(tmp_path / where) for where in ("ray", "here")]
    for name in ("Si", "Ge"):
        one, other = (library.host(name).responses for library in read)
        assert [x.change.tolist() for x in one] == [x.change.tolist() for x in other]


def test_the_settings_of_the_released_library(repository: Path) -> None:
    released = PrepareSettings.from_yaml(repository / "configs" / "responses.yaml")
    assert released.potential == "nequix"
    moved = released.model_copy(update={"output": "elsewhere", "workers": 64, "hosts_per_shard": 1})
    assert moved.digest() == released.digest()
    assert released.model_copy(update={"fragment_atoms": 100}).digest() != released.digest()
