import numpy as np
import pytest

from defectnet.model.unmixing import unmix

rng = np.random.default_rng(0)
RESPONSES = rng.standard_normal((8, 120))


def test_a_sum_of_two_is_found_with_its_amounts() -> None:
    found = unmix(0.05 * RESPONSES[2] + 0.02 * RESPONSES[5], RESPONSES)
    assert found.sets[0].members == (2, 5)
    assert found.sets[0].amounts == pytest.approx((0.05, 0.02), rel=1e-3)
    assert found.sets[0].explained == pytest.approx(1.0, abs=1e-4)
    assert set(np.flatnonzero(found.presence > 0.5)) == {2, 5}
    assert found.amount[[2, 5]] == pytest.approx([0.05, 0.02], rel=0.05)


def test_nothing_is_found_in_noise() -> None:
    noise = 1e-3 * np.random.default_rng(1).standard_normal(120)
    found = unmix(noise, RESPONSES, floor=float(noise @ noise))
    assert found.presence.max() < 0.5
    assert found.sets[0].members == ()
    assert found.sets[0].explained == 0.0


def test_two_that_look_alike_share_the_probability() -> None:
    alike = np.concatenate([RESPONSES, RESPONSES[3:4] * 1.0001])
    found = unmix(0.1 * RESPONSES[3], alike)
    assert found.presence[3] == pytest.approx(found.presence[8], abs=0.02)
    assert found.presence[3] + found.presence[8] == pytest.approx(1.0, abs=0.1)


def test_what_is_expected_decides_between_them() -> None:
    alike = np.concatenate([RESPONSES, RESPONSES[3:4] * 1.0001])
    found = unmix(0.1 * RESPONSES[3], alike, log_prior=np.array([0.0] * 8 + [5.0]))
    assert found.presence[8] > 0.9


def test_amounts_are_never_negative() -> None:
    found = unmix(-0.1 * RESPONSES[0], RESPONSES)
    assert all(amount > 0 for one in found.sets for amount in one.amounts)
    assert found.presence[0] < 0.5


def test_noisy_bins_count_less() -> None:
    change, weight = 0.1 * RESPONSES[1], np.ones(120)
    change = change.copy()
    change[:20] += 5.0
    weight[:20] = 1e-6
    assert unmix(change, RESPONSES, weight=weight).sets[0].members == (1,)
