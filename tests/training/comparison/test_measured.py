"""Responses learned from samples whose doping is known."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.responses import made_up_hosts, made_up_library, made_up_rows

from defectnet.errors import InputError
from defectnet.io.response_library import RESPONSES_SCHEMA, ResponseLibrary
from defectnet.model.artifact import ModelConfig, save_artifact
from defectnet.model.comparison.answer import Comparison
from defectnet.model.comparison.axis import WIDTHS
from defectnet.model.comparison.calibration import ComparisonCalibration
from defectnet.model.comparison.comparer import Comparer, ComparerSettings
from defectnet.model.comparison.hosts import MEASURED, HostOnAxis
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.responses import response_library
from training.comparison.measured import Learned, learn_responses, write_learned
from training.finetune import FinetuneSettings, finetune


def springs_alone() -> ResponseLibrary:
    return made_up_library(sources=("springs",))


def learned_from(rows: pa.Table) -> list[Learned]:
    comparer = Comparer(ComparerSettings(width=16, layers=1, heads=2))
    return learn_responses(rows, Comparison(comparer, ComparisonCalibration(), springs_alone()))


def away(curve: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.square(curve - wanted) @ WIDTHS / (np.square(wanted) @ WIDTHS)))


@pytest.fixture(scope="module")
def learned() -> list[Learned]:
    return learned_from(made_up_rows())


def test_samples_correct_the_first_guess(learned: list[Learned]) -> None:
    known = {name: HostOnAxis(made_up_library().host(name)) for name in made_up_library()}
    assert {one.host_id for one in learned} == set(known)
    before, after = [], []
    for one in learned:
        (true,) = known[one.host_id].chosen([one.guess.element], "endmember")
        before.append(away(one.guess.curves[1], true.curves[1]))
        after.append(away(one.curves[1], true.curves[1]))
        assert after[-1] < before[-1]
        assert one.n_samples > 2
        assert one.correction > 0.05
    assert np.mean(after) < 0.5 * np.mean(before)


def test_what_was_learned_stands_beside_what_was_known(learned: list[Learned], tmp_path: Path) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(made_up_hosts(), schema=RESPONSES_SCHEMA), tmp_path / "known.parquet")
    file = write_learned(learned, springs_alone(), tmp_path / "learned.parquet")
    both = response_library(f"{tmp_path / 'known.parquet'},{file}")
    assert both is not None
    host = HostOnAxis(both.host("made-up-MgO"))
    told = {one.guess.element: one for one in learned if one.host_id == "made-up-MgO"}
    sources = {entry.element: entry.source for entry in host.chosen(host.elements)}
    assert {element for element, source in sources.items() if source == MEASURED} == set(told)
    assert sources["Al"] == "springs"
    for element, one in told.items():
        (entry,) = host.chosen([element])
        assert away(entry.curves[1], one.curves[1]) < 0.05  # it was laid onto the library's bins
    # Neutrons were not measured.
    neutrons = HostOnAxis(both.host("made-up-MgO"), "neutron")
    assert {entry.source for entry in neutrons.chosen(neutrons.elements)} == {"endmember", "springs"}
    assert both.host("made-up-MgO").responses != both.host("made-up-NaCl").responses


def test_too_few_or_unusable_samples_tell_nothing() -> None:
    rows = made_up_rows()
    assert not learned_from(rows.slice(0, 0))
    without = rows.set_column(
        rows.schema.get_field_index("reference_dos"),
        "reference_dos",
        pa.nulls(len(rows), rows.schema.field("reference_dos").type),
    )
    assert not learned_from(without)
    other = rows.set_column(rows.schema.get_field_index("host"), "host", pa.array(["KBr"] * len(rows)))
    assert not learned_from(other)


def test_a_library_that_is_joined_keeps_its_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        response_library(f"packaged,{tmp_path / 'nowhere.parquet'}")


def test_finetune_writes_what_it_learned(tmp_path: Path) -> None:
    settings, compares = (
        NetworkSettings(width=32, heads=2, encoder_layers=1, decoder_layers=1, stem_channels=8),
        ComparerSettings(width=16, layers=1, heads=2),
    )
    config = ModelConfig(network=settings, comparer=compares)
    network = DefectNetwork(settings, config.grid, compares)
    save_artifact(tmp_path / "base", network=network, config=config, card="# Base")
    library = tmp_path / "library.parquet"
    springs = made_up_hosts(sources=("springs",))
    pa.parquet.write_table(pa.Table.from_pylist(springs, schema=RESPONSES_SCHEMA), library)
    short = FinetuneSettings(epochs=1, draws=1)
    done = finetune(tmp_path / "base", made_up_rows(4), tmp_path / "own", short, responses=str(library))
    told = json.loads((tmp_path / "own" / "finetune.json").read_text(encoding="utf-8"))["responses"]
    assert (
        {one["host_id"] for one in told} == {one.host_id for one in done.learned} == {row["host_id"] for row in springs}
    )
    both = response_library(f"{library},{tmp_path / 'own' / 'responses.parquet'}")
    assert both is not None
    assert MEASURED in {one.source for one in both.host("made-up-MgO").responses}
    alone = finetune(tmp_path / "base", made_up_rows(4), tmp_path / "none", short)
    assert not alone.learned
    assert not (tmp_path / "none" / "responses.parquet").exists()
