"""Error bars of a measurement: wider intervals, a warning where a verdict hangs on them, nothing else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from defectnet.errors import SpectrumError
from defectnet.host import Host
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.model.error_bars import N_DRAWS, carry_errors
from defectnet.model.predictor import Predictor
from defectnet.prediction import ElementVerdict, Prediction
from defectnet.query import Query
from defectnet.readers import read_spectrum
from defectnet.released import released_model
from defectnet.spectrum import Spectrum

AXIS = np.arange(1, 101) * 0.1


def query(error: float | None = None) -> Query:
    dos = np.exp(-((AXIS - 5.0) ** 2))
    errors = None if error is None else np.full(AXIS.size, error)
    return Query("s", Host("Si"), Spectrum(AXIS, dos), uncertainty=errors)


def answered(concentration: float, present: bool = True) -> Prediction:
    verdict = ElementVerdict("Ge", present, 0.9, concentration, 0.5 * concentration, 2.0 * concentration)
    return Prediction("s", "Si", (verdict,), 0.1, ("as before",), "m", "1")


def test_the_scatter_of_the_draws_joins_the_interval() -> None:
    asked: list[Query] = []

    def answer(queries: list[Query]) -> list[Prediction]:
        asked.extend(queries)
        return [answered(0.05 * np.exp(0.3 * (-1) ** i)) for i in range(len(queries))]

    (carried,) = carry_errors([query(0.1)], [answered(0.05)], answer)
    assert len(asked) == N_DRAWS
    assert all(one.uncertainty is None and (one.spectrum.dos >= 0).all() for one in asked)
    # What was drawn scatters by the error about the measured density.
    drawn = np.array([one.spectrum.dos for one in asked])[:, 40:60] - query().spectrum.dos[40:60]
    assert drawn.std() == pytest.approx(0.1, rel=0.15)
    (verdict,) = carried.elements
    spread = 1.6449 * 0.3 * np.sqrt(N_DRAWS / (N_DRAWS - 1))
    width = np.hypot(np.log(2.0), spread)
    assert (verdict.low, verdict.high) == pytest.approx((0.05 * np.exp(-width), 0.05 * np.exp(width)), rel=1e-6)
    assert (verdict.concentration, verdict.probability) == (0.05, 0.9)
    assert carried.warnings == ("as before",)


def test_a_verdict_that_hangs_on_the_errors_is_said() -> None:
    (carried,) = carry_errors(
        [query(0.1)], [answered(0.05)], lambda queries: [answered(0.05, i % 2 == 0) for i in range(len(queries))]
    )
    assert carried.warnings[1:] == (
        f"of spectra drawn within the error bars, Ge is found in {N_DRAWS // 2} of {N_DRAWS}",
    )


def test_without_errors_nothing_is_asked_again() -> None:
    def fail(_: object) -> list[Prediction]:
        raise AssertionError

    failed = Prediction.failed("s", "Si", "why")
    given = [answered(0.05), failed]
    assert carry_errors([query(), query(0.1)], given, fail) == given


def test_errors_are_checked_and_travel() -> None:
    spectrum = query().spectrum
    for errors, words in ((np.ones(3), "3 errors for 100 densities"), (np.full(100, -1.0), "negative")):
        with pytest.raises(SpectrumError, match=words):
            Query("s", Host("Si"), spectrum, uncertainty=errors)
    assert Query("s", Host("Si"), spectrum, uncertainty=np.zeros(100)).uncertainty is None
    errors = np.where(AXIS < 2, np.nan, 0.1)
    asked = Query("s", Host("Si"), spectrum, uncertainty=errors)
    item = asked.to_json()
    assert item["uncertainty"][:2] == [None, None]
    again = Query.from_json(item).uncertainty
    assert again is not None
    np.testing.assert_array_equal(again, errors)
    # Per unit of the axis, as the densities are.
    in_mev = Query.from_json({**item, "unit": "meV", "uncertainty": [1.0] * 100}).uncertainty
    assert in_mev is not None
    assert in_mev[0] == pytest.approx(4.135667697)
    with pytest.raises(SpectrumError, match="uncertainty: not a list of numbers"):
        Query.from_json({**item, "uncertainty": "much"})


def test_larger_errors_make_wider_intervals(examples: Path) -> None:
    predictor = Predictor.load(released_model())
    plain = Query(
        "Si",
        Host("Si"),
        read_spectrum(examples / "Si.csv"),
        read_spectrum(examples / "Si-pristine.csv"),
        candidates=("Ge",),
    )
    top = plain.spectrum.dos.max()
    widths = []
    for share in (None, 0.002, 0.05):
        errors = None if share is None else np.full(plain.spectrum.dos.size, share * top)
        ((verdict,),) = (one.elements for one in predictor.predict([replace(plain, uncertainty=errors)]))
        widths.append(np.log(verdict.high / verdict.low))
    assert widths[0] <= widths[1] < widths[2]
    assert widths[1] < 1.2 * widths[0]


def test_errors_of_a_table_make_wider_intervals(examples: Path) -> None:
    """As a question's own do, up to the finer bins of the row."""
    predictor = Predictor.load(released_model())
    spectrum, reference = read_spectrum(examples / "Si.csv"), read_spectrum(examples / "Si-pristine.csv")
    errors = np.full(spectrum.dos.size, 0.05 * spectrum.dos.max())
    plain = Query("Si", Host("Si"), spectrum, reference, candidates=("Ge",))
    measured = replace(plain, uncertainty=errors)
    table = pa.Table.from_pylist([plain.to_row(), measured.to_row()], schema=SPECTRA_SCHEMA)
    rows = [row["elements"][0] for row in predictor.predict_table(table).to_pylist()]
    widths = [np.log(row["high"] / row["low"]) for row in rows]
    asked = predictor.predict([measured])[0].elements[0]
    assert widths[0] < widths[1]
    assert widths[1] == pytest.approx(np.log(asked.high / asked.low), rel=0.1)
