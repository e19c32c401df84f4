import numpy as np
import pyarrow as pa
import pytest
from support.synthetic import STEP_THZ, band, pristine, synthetic_table

from defectnet.host import Host
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.model.features import FrequencyGrid, element_index
from defectnet.neutron import neutron_weight
from defectnet.spectrum import Spectrum
from training.dataset import SpectraArrays
from training.mixing import Mixer

GRID = FrequencyGrid(n_bins=256)
HOST = Host("GaN")


def row(index: int, defects: dict[str, float]) -> dict[str, object]:
    """A crystal whose every element has a band of its own: partial densities that add up exactly."""
    left = 1.0 - sum(defects.values())
    parts = {symbol: left * share * band(symbol, 1.5) for symbol, share in HOST.fractions.items()}
    parts |= {symbol: share * band(symbol, 0.4) for symbol, share in defects.items()}
    return {
        "sample_id": str(index),
        "host": HOST.formula,
        "defects": [{"element": e, "replaces": "Ga", "concentration": c} for e, c in defects.items()],
        "frequency_step_thz": STEP_THZ,
        "dos": sum(parts.values()),
        "reference_dos": pristine(HOST),
        "partial_dos": [{"element": e, "dos": d} for e, d in parts.items()],
    }


@pytest.fixture(scope="module")
def rows() -> SpectraArrays:
    made = [row(0, {}), row(1, {"Al": 0.03}), row(2, {"In": 0.02}), row(3, {"Al": 0.02, "P": 0.01})]
    return SpectraArrays.from_table(pa.Table.from_pylist(made, schema=SPECTRA_SCHEMA), GRID)


def test_a_mixture_is_what_its_label_says(rows: SpectraArrays) -> None:
    mixer, rng = Mixer(rows), np.random.default_rng(0)
    index = np.repeat(np.arange(4), 40)
    sample, truth, mixed = mixer.mixed(index, 1.0, rng)
    assert mixed.mean() > 0.5
    assert len({tuple(np.flatnonzero(t)) for t in truth}) > 4  # mixtures that no row has
    width = np.diff(GRID.edges_thz)
    for one, label in zip(sample[mixed], truth[mixed], strict=True):
        defects = {s: float(label[element_index(s)]) for s in ("Al", "In", "P") if label[element_index(s)] > 0}
        assert all(0.002 <= c <= 0.08 for c in defects.values())
        made = Spectrum.from_bins(np.asarray(row(0, defects)["dos"]), STEP_THZ)
        np.testing.assert_allclose(one / width, GRID.mode_shares(made) / width, atol=2e-4)


def test_nothing_is_mixed_across_hosts() -> None:
    data = SpectraArrays.from_table(synthetic_table(60, n_hosts=60), GRID)
    mixer = Mixer(data)
    sample, truth, _ = mixer.mixed(np.arange(60), 1.0, np.random.default_rng(0))
    # One row a host: it is scaled, and no element joins it.
    assert ((truth > 0) <= (data.truth > 0)).all()
    np.testing.assert_allclose(sample.sum(axis=1), 1.0, atol=1e-5)


def test_neutrons_weigh_each_element(rows: SpectraArrays) -> None:
    index = np.arange(4)
    sample, reference, done = Mixer(rows).as_neutrons(index, np.array([False, True, True, True]), rows.sample)
    assert done.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(sample[0], rows.sample[0])
    parts = {symbol: share * band(symbol, 1.5) for symbol, share in HOST.fractions.items()}
    seen = sum(neutron_weight(symbol) * part for symbol, part in parts.items())
    np.testing.assert_allclose(reference[1], GRID.mode_shares(Spectrum.from_bins(seen, STEP_THZ)), atol=2e-4)


def test_rows_without_partial_densities_stay_as_they_are() -> None:
    data = SpectraArrays.from_table(synthetic_table(10), GRID)
    sample, reference, done = Mixer(data).as_neutrons(np.arange(10), np.ones(10, dtype=bool), data.sample)
    assert not done.any()
    np.testing.assert_array_equal(sample, data.sample)
    np.testing.assert_array_equal(reference, data.reference)
