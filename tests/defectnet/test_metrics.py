import numpy as np
import pytest

from defectnet.metrics import BANDS_PERCENT, Judged, score_answers


def judged(truth: list[list[float]], claimed: list[list[float]], **changes: np.ndarray) -> Judged:
    """Claims with probability 0.9 where the claimed concentration is above 0, intervals of a factor of 1.5."""
    c = np.array(claimed)
    values = {
        "asked": np.ones_like(c, dtype=bool),
        "truth": np.array(truth),
        "probability": np.where(c > 0, 0.9, 0.1),
        "present": c > 0,
        "concentration": c,
        "low": c / 1.5,
        "high": c * 1.5,
    }
    return Judged(**(values | changes))


def test_a_perfect_answer_scores_perfectly() -> None:
    truth = [[0.01, 0.0, 0.05], [0.0, 0.2, 0.0]]
    figures = score_answers(judged(truth, truth))
    for name in ("f1", "precision", "recall", "r2", "coverage_90", "recall_at_3"):
        assert figures[name] == 1.0
    assert figures["mae_pct"] == 0.0
    assert figures["n_dopants"] == 3


def test_misses_and_false_alarms_by_hand() -> None:
    # One hit at half its concentration, one miss of 4 %, one false alarm of 1 %.
    figures = score_answers(judged([[0.02, 0.04, 0.0]], [[0.01, 0.0, 0.01]]))
    assert figures["f1"] == 0.5
    assert figures["mae_pct"] == pytest.approx((1.0 + 4.0) / 2)
    assert figures["coverage_90"] == 0.0
    # Both dopants are of the band 2 to 8 %, and so is the alarm: it claims 1 %, but what is absent has no band.
    assert figures["bands"]["2-8"]["f1"] == 0.5
    assert figures["bands"]["0.5-2"]["f1"] is None


def test_calling_everything_present_is_not_rewarded_in_any_band() -> None:
    truth = np.zeros((4, 10))
    truth[:, 0] = (0.003, 0.01, 0.05, 0.2)
    claimed = np.where(truth > 0, truth, 0.0025)
    figures = score_answers(judged(truth.tolist(), claimed.tolist()))
    assert figures["f1"] == pytest.approx(2 / 11, abs=1e-4)
    for band in (figures["headline"], *figures["bands"].values()):
        assert band["f1"] == pytest.approx(2 / 11, abs=1e-4)


def test_a_dopant_that_was_not_asked_about_is_missed() -> None:
    truth = np.array([[0.05, 0.0]])
    answer = judged(truth.tolist(), [[0.0, 0.0]], asked=np.array([[False, True]]))
    assert score_answers(answer)["recall"] == 0.0


def test_recall_at_k_counts_the_rank() -> None:
    truth = np.zeros((1, 12))
    truth[0, 4] = 0.01
    probability = np.linspace(0.9, 0.1, 12)[None]
    figures = score_answers(judged(truth.tolist(), np.zeros((1, 12)).tolist(), probability=probability))
    assert [figures[f"recall_at_{k}"] for k in (3, 5, 10)] == [0.0, 1.0, 1.0]


def test_printed_edges_belong_to_the_upper_band() -> None:
    figures = score_answers(judged([[0.005, 0.02]], [[0.005, 0.02]]))
    assert figures["headline"]["n_dopants"] == 2
    assert figures["bands"]["0.5-2"]["n_dopants"] == 1
    assert figures["bands"]["2-8"]["n_dopants"] == 1
    assert len(figures["bands"]) == len(BANDS_PERCENT)


def test_nothing_to_stand_on_is_none() -> None:
    figures = score_answers(judged([[0.0, 0.0]], [[0.0, 0.0]]))
    assert figures["f1"] is None
    assert figures["r2"] is None
    assert figures["mae_pct"] is None
