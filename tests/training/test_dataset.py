from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.synthetic import DOPANTS, STEP_THZ, hosts, synthetic_table

from defectnet.errors import TableError
from defectnet.host import Host
from defectnet.io.tables import write_table
from defectnet.model.features import FrequencyGrid, element_index
from training.candidates import all_candidates, candidate_lists
from training.dataset import SPLITS, SpectraArrays, dataset_sha256, require_rows, split_of

GRID = FrequencyGrid()


def test_no_formula_is_in_two_splits() -> None:
    data = SpectraArrays.from_table(synthetic_table(240), GRID)
    by_split = [set(data.of_split(split).formula) for split in SPLITS]
    assert set.union(*by_split) == set(data.formula)
    assert sum(map(len, by_split)) == len(set(data.formula))


def test_the_split_knows_formulas_by_composition_and_is_stable() -> None:
    assert split_of(Host("GaAs")) == split_of(Host("As2Ga2"))
    # Written down: a change of the hash would put test hosts of released models into training.
    assert [split_of(Host(f)) for f in ("Si", "GaAs", "MgO", "AlAs")] == ["train"] * 3 + ["test"]


def test_splits_have_about_their_shares() -> None:
    shares = [split_of(host) for host in hosts(132)]
    assert 0.65 < shares.count("train") / len(shares) < 0.95


def test_labels_and_bins_are_those_of_the_table() -> None:
    table = synthetic_table(20)
    data = SpectraArrays.from_table(table, GRID)
    for index, defects in enumerate(table["defects"].to_pylist()):
        found = {defect["element"]: data.truth[index, element_index(defect["element"])] for defect in defects}
        assert found == pytest.approx({defect["element"]: defect["concentration"] for defect in defects})
        assert np.count_nonzero(data.truth[index]) == len(defects)
    np.testing.assert_allclose(data.sample.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(data.host.sum(axis=1), 1.0, atol=1e-5)
    assert set(data.dopants) <= set(DOPANTS)


def test_rows_without_a_spectrum_or_label_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    rows = synthetic_table(6).to_pylist()
    rows[0] |= {"error": "unstable", "dos": None}
    rows[1]["dos"] = [float("nan")] * 50
    rows[2]["defects"] = [{"element": Host(rows[2]["host"]).elements[0], "replaces": "O", "concentration": 0.1}]
    rows[3]["defects"] = None
    rows[4]["reference_dos"] = None
    data = SpectraArrays.from_table(pa.Table.from_pylist(rows, schema=synthetic_table(1).schema), GRID)
    assert list(data.sample_id) == ["row-0-4", "row-0-5"]
    assert list(data.has_reference) == [False, True]
    assert "belongs to the host itself" in caplog.text


def test_float16_densities_are_read() -> None:
    table = synthetic_table(4)
    half = table.set_column(
        table.column_names.index("dos"), "dos", table["dos"].combine_chunks().cast(pa.list_(pa.float16()))
    )
    np.testing.assert_allclose(
        SpectraArrays.from_table(half, GRID).sample, SpectraArrays.from_table(table, GRID).sample, atol=1e-4
    )


def test_a_table_of_failures_is_refused() -> None:
    rows = [row | {"error": "no"} for row in synthetic_table(2).to_pylist()]
    with pytest.raises(TableError, match="no row has a spectrum"):
        SpectraArrays.from_table(pa.Table.from_pylist(rows, schema=synthetic_table(1).schema), GRID)


def test_an_empty_split_is_refused() -> None:
    data = SpectraArrays.from_table(synthetic_table(4, n_hosts=1), GRID)
    empty = next(split for split in SPLITS if split != data.split[0])
    with pytest.raises(TableError, match="falls into"):
        require_rows(data, empty)


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    write_table(synthetic_table(3), tmp_path / "a.parquet")
    first = dataset_sha256(tmp_path)
    assert first == dataset_sha256(tmp_path)
    write_table(synthetic_table(3, seed=1), tmp_path / "a.parquet")
    assert dataset_sha256(tmp_path) != first


def test_the_hash_is_the_same_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    write_table(synthetic_table(3), tmp_path / "a.parquet")
    write_table(synthetic_table(3), f"{bucket}/hashed/a.parquet")
    assert dataset_sha256(f"{bucket}/hashed") == dataset_sha256(tmp_path)


def test_guesses_hold_the_truth_and_so_many_distractors() -> None:
    data = SpectraArrays.from_table(synthetic_table(50), GRID)
    known = data.truth.any(axis=0)
    asked = candidate_lists(data.truth, data.host, known, np.random.default_rng(0), n_distractors=4)
    present = data.truth > 0
    assert asked[present].all()
    assert ((asked & ~present).sum(axis=1) == 4).all()
    assert not (asked & (data.host > 0)).any()
    assert not (asked & ~known[None]).any()
    assert (all_candidates(data.host, known) | ~asked).all()


def test_step_of_the_toy_is_coarser_than_the_grid_at_low_frequency() -> None:
    # Keeps the toy honest about binning: its bins are cut, not copied.
    assert np.diff(GRID.edges_thz)[0] < STEP_THZ
