import numpy as np
import pytest

from defectnet.model.calibration import (
    OOD_LIMIT,
    ModeCalibration,
    conformal_quantile,
    expected_calibration_error,
    fit_intervals,
    fit_presence,
    intervals,
    ood_score,
    probabilities,
)


def miscalibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits three times too sure and shifted, of outcomes with known probabilities, and a prior that says nothing."""
    rng = np.random.default_rng(seed)
    true_logit = rng.normal(-1.0, 2.0, n)
    return 3.0 * true_logit + 2.0, rng.random(n) < 1.0 / (1.0 + np.exp(-true_logit)), np.zeros((n, 5))


def test_presence_map_undoes_a_known_distortion() -> None:
    fitted = fit_presence(*miscalibrated(20_000, 0))
    assert fitted.slope == pytest.approx(1 / 3, rel=0.05)
    assert fitted.offset == pytest.approx(-2 / 3, abs=0.06)


def test_calibrated_probabilities_hold_on_new_data() -> None:
    fitted = fit_presence(*miscalibrated(20_000, 0))
    logits, present, expected = miscalibrated(20_000, 1)
    raw = expected_calibration_error(1 / (1 + np.exp(-logits)), present)
    assert raw > 0.1
    assert expected_calibration_error(probabilities(logits, fitted, expected), present) < 0.02


def test_the_prior_counts_for_what_it_is_worth() -> None:
    rng = np.random.default_rng(0)
    expected = np.zeros((20_000, 5))
    expected[:, 0] = rng.normal(size=20_000)
    logits = rng.normal(-1.0, 1.0, 20_000)
    present = rng.random(20_000) < 1.0 / (1.0 + np.exp(-(logits + 0.7 * expected[:, 0])))
    fitted = fit_presence(logits, present, expected)
    assert fitted.prior_weights == pytest.approx((0.7, 0.0, 0.0, 0.0, 0.0), abs=0.06)


def test_what_was_not_asked_has_probability_zero() -> None:
    fitted = fit_presence(*miscalibrated(100, 0))
    assert probabilities(np.array([-np.inf, 0.0]), fitted, np.zeros((2, 5)))[0] == 0.0


def test_one_class_teaches_nothing() -> None:
    fitted = fit_presence(np.array([0.0, 1.0, -np.inf]), np.array([False, False, True]), np.zeros((3, 5)))
    assert (fitted.slope, fitted.offset, fitted.threshold) == (1.0, 0.0, 0.5)


def test_conformal_quantile_is_the_finite_sample_one() -> None:
    assert conformal_quantile(np.arange(1.0, 20.0)) == 18.0  # ceil(20 * 0.9) = 18th of 19
    assert conformal_quantile(np.array([1.0, 2.0])) == 2.0


@pytest.mark.parametrize("spread_error", [0.3, 1.0, 4.0])
def test_intervals_cover_ninety_per_cent_in_every_band(spread_error: float) -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = rng.uniform(np.log(0.002), np.log(0.25), n)
        scatter = np.where(mean < np.log(0.01), 0.5, 0.1)  # small concentrations are harder
        return mean + scatter * rng.standard_t(4, n), mean, np.full(n, np.log(0.2 * spread_error))

    calibration = ModeCalibration(interval_factors=fit_intervals(*draw(8000)))
    truth, mean, spread = draw(8000)
    value, below, above = intervals(mean, spread, calibration)
    np.testing.assert_array_equal(value, np.exp(mean))
    assert ((below < value) & (value < above) & (above <= 1.0)).all()
    covered = (below <= np.exp(truth)) & ((np.exp(truth) <= above) | (above == 1.0))
    for low, high in ((0.002, 0.005), (0.02, 0.08), (0.08, 0.25)):
        band = (mean >= np.log(low)) & (mean < np.log(high))
        assert 0.87 < covered[band].mean() < 0.93


def test_intervals_do_not_depend_on_how_the_outputs_were_kept() -> None:
    """The evaluation keeps them as float64: it must judge the predictor's own figures, to the last digit."""
    rng = np.random.default_rng(0)
    mean, spread = rng.uniform(-6.0, -1.0, 500), rng.uniform(-4.0, 1.0, 500).astype(np.float32)
    for one, other in zip(
        intervals(mean, spread, ModeCalibration()),
        intervals(mean, spread.astype(np.float64), ModeCalibration()),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_few_scores_fall_back_on_all() -> None:
    rng = np.random.default_rng(0)
    mean = np.full(200, np.log(0.03))
    factors = fit_intervals(mean + rng.normal(0, 0.1, 200), mean, np.zeros(200))
    assert len(set(factors)) == 1


def test_ood_score_rises_from_zero_to_one() -> None:
    calibration = ModeCalibration(ood_distance=2.0)
    scores = ood_score(np.array([0.0, 1.0, 2.0, 4.0, 1e9]), calibration)
    assert scores[0] == 0.0
    assert scores[2] == pytest.approx(OOD_LIMIT)
    assert np.all(np.diff(scores) >= 0)
    assert scores[-1] == pytest.approx(1.0)
    assert scores[1] < 0.05
