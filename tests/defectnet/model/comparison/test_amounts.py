"""Amounts fitted to a change: the fit decides where responses explain it, and the network where they do not."""

import numpy as np
import pytest

from defectnet.model.comparison.amount_fits import Fittable, fitted_amounts, weights_at
from defectnet.model.comparison.amounts import completed, exchanged, settled, supported
from defectnet.model.comparison.features import without

CONCENTRATIONS = np.array([0.01, 0.06, 0.2])
N = 40


def _responses(n: int, seed: int = 0) -> np.ndarray:
    """Responses, (n, 3, N), that change with their amount."""
    rng = np.random.default_rng(seed)
    first, trend = rng.normal(size=(2, n, 1, N))
    return np.asarray(first + 4.0 * trend * (CONCENTRATIONS[:, None] - 0.01))


def _change(nodes: np.ndarray, amounts: list[float]) -> np.ndarray:
    weights, _ = weights_at(np.broadcast_to(CONCENTRATIONS, (len(nodes), 3)), np.array(amounts))
    return np.einsum("p,pi,pin->n", amounts, weights, nodes)


def _fitted(change: np.ndarray, nodes: np.ndarray, guessed: list[float], spread: float) -> tuple[np.ndarray, ...]:
    there = np.ones((1, len(nodes)), dtype=bool)
    given = Fittable.of(change[None], nodes[None], np.broadcast_to(CONCENTRATIONS, (1, len(nodes), 3)))
    mean = np.log(guessed)[None]
    return fitted_amounts(given, there, mean, np.full_like(mean, np.log(spread)))[:3]


def _exchanged(given, there, logit, mean, spread):
    return exchanged(given, there, np.array([logit]), fitted_amounts(given, there, mean, spread), mean, spread)


@pytest.mark.parametrize("amounts", [[0.003], [0.03], [0.12], [0.3], [0.08, 0.15], [0.12, 0.06, 0.1]])
def test_where_responses_explain_all_the_amounts_are_found(amounts: list[float]) -> None:
    nodes = _responses(len(amounts))
    mean, spread, explained = _fitted(_change(nodes, amounts), nodes, [0.5 * a for a in amounts], 0.5)
    assert np.exp(mean[0]) == pytest.approx(amounts, rel=0.1)
    assert (spread < np.log(0.25)).all()  # half the network's
    assert explained[0] > 0.99


def test_where_nothing_is_explained_the_network_is_believed() -> None:
    nodes = _responses(1)
    noise = np.random.default_rng(5).normal(size=N) * 3.0
    mean, spread, explained = _fitted(noise + _change(nodes, [0.1]), nodes, [0.03], 0.2)
    assert np.exp(mean[0, 0]) == pytest.approx(0.03, rel=0.1)
    assert np.exp(spread[0, 0]) == pytest.approx(0.2, rel=0.1)
    assert explained[0] < 0.3


def test_a_surer_network_is_believed_more() -> None:
    nodes = _responses(2)
    change = _change(nodes, [0.1, 0.05]) + 0.3 * np.random.default_rng(1).normal(size=N)
    sure, unsure = (_fitted(change, nodes, [0.05, 0.05], spread)[0] for spread in (0.05, 0.8))
    assert np.exp(sure[0, 0]) < np.exp(unsure[0, 0]) < 0.13


def test_spectra_do_not_change_each_other_and_empty_places_count_for_nothing() -> None:
    nodes = _responses(3)
    changes = np.stack([_change(nodes, [0.02, 0.1, 0.05]), _change(nodes[:1], [0.04])])
    both = np.stack([nodes, np.concatenate([nodes[:1], np.zeros((2, 3, N))])])
    there = np.array([[True, True, True], [True, False, False]])
    mean = np.log(np.full((2, 3), 0.03))
    spread = np.log(np.full((2, 3), 0.4))
    concentrations = np.where(there[..., None], CONCENTRATIONS, 0.0)
    together = fitted_amounts(Fittable.of(changes, both, concentrations), there, mean, spread)
    alone = _fitted(changes[1], nodes[:1], [0.03], 0.4)
    assert together[0][1, 0] == pytest.approx(alone[0][0, 0], abs=1e-9)
    assert (together[0][1, 1:] == mean[1, 1:]).all()
    assert (together[1][1, 1:] == spread[1, 1:]).all()
    assert together[2][1] == pytest.approx(alone[2][0], abs=1e-4)


def test_a_response_goes_on_beyond_its_last_concentration_and_is_held_beyond_twice_that() -> None:
    amounts = np.array([0.001, 0.01, 0.035, 0.06, 0.13, 0.2, 0.3, 0.4, 0.9])
    weights, slopes = weights_at(np.broadcast_to(CONCENTRATIONS, (len(amounts), 3)), amounts)
    read = weights @ CONCENTRATIONS  # a response that is the concentration
    assert read == pytest.approx([0.01, 0.01, 0.035, 0.06, 0.13, 0.2, 0.3, 0.4, 0.4])
    assert slopes @ CONCENTRATIONS == pytest.approx([0, 0, 1, 1, 1, 1, 1, 0, 0])
    assert weights.sum(axis=1) == pytest.approx(1.0)


def test_one_response_is_the_same_at_every_amount() -> None:
    weights, slopes = weights_at(np.full((4, 3), 0.05), np.array([0.001, 0.05, 0.1, 0.4]))
    assert weights.sum(axis=1) == pytest.approx(1.0)
    assert (slopes == 0).all()


def test_of_two_that_explain_one_change_alike_the_better_stays() -> None:
    nodes = _responses(1)
    alike = np.concatenate([nodes, nodes + 0.15 * _responses(1, seed=9)])
    change = _change(nodes, [0.1])
    given = Fittable.of(change[None], alike[None], np.broadcast_to(CONCENTRATIONS, (1, 2, 3)))
    both = np.ones((1, 2), dtype=bool)
    mean, spread = np.log([[0.1, 0.1]]), np.log([[0.3, 0.3]])
    stays, logit, fits = supported(given, both, np.array([[0.4, 0.6]]), mean, spread)
    assert stays.tolist() == [[True, False]]
    assert fits.log_mean == pytest.approx(fitted_amounts(given, stays, mean, spread).log_mean)
    assert logit[0, 0] == 0.4
    assert logit[0, 1] < 0
    # An element that the network is sure of stays, and so does one alone, whatever the fit.
    assert supported(given, both, np.array([[9.0, 9.0]]), mean, spread)[0].all()
    second = np.array([[False, True]])
    assert supported(given, second, np.array([[0.4, 0.6]]), mean, spread)[0].tolist() == second.tolist()


def test_two_that_each_explain_a_part_both_stay() -> None:
    nodes = _responses(2)
    given = Fittable.of(_change(nodes, [0.1, 0.08])[None], nodes[None], np.broadcast_to(CONCENTRATIONS, (1, 2, 3)))
    mean, spread = np.log([[0.1, 0.08]]), np.log([[0.3, 0.3]])
    assert supported(given, np.ones((1, 2), dtype=bool), np.array([[0.1, 0.1]]), mean, spread)[0].all()


def test_what_a_wrong_axis_makes_is_taken_out_of_the_fit() -> None:
    nodes = _responses(1)
    way = np.linalg.qr(np.random.default_rng(7).normal(size=(N, 2)))[0].T
    size = np.linalg.norm(_change(nodes, [0.1]))
    change = _change(nodes, [0.1]) + 2.0 * size * way[0] - size * way[1]
    there, mean, spread = np.ones((1, 1), dtype=bool), np.log([[0.06]]), np.log([[0.5]])
    concentrations = np.broadcast_to(CONCENTRATIONS, (1, 1, 3))
    with_it, less = (
        fitted_amounts(Fittable.of(change[None], nodes[None], concentrations, ways), there, mean, spread)
        for ways in (np.zeros((1, 2, N)), way[None])
    )
    assert less[2][0] > 0.99 > with_it[2][0]
    assert np.exp(less[0][0, 0]) == pytest.approx(0.1, rel=0.05)
    assert abs(np.exp(with_it[0][0, 0]) - 0.1) > abs(np.exp(less[0][0, 0]) - 0.1)
    assert way @ without(way[None], nodes)[0].T == pytest.approx(0.0, abs=1e-9)


def test_where_as_good_as_nothing_of_a_small_change_is_explained_nothing_is_found() -> None:
    nodes = _responses(1)
    noise = np.random.default_rng(3).normal(size=N)
    noise *= 0.03 / np.linalg.norm(noise)
    small = _change(nodes, [0.003])
    there, mean, spread = np.ones((3, 1), dtype=bool), np.log(np.full((3, 1), 0.003)), np.log(np.full((3, 1), 0.3))
    changes = np.stack([noise, small, 20.0 * noise])
    given = Fittable.of(changes, np.stack([nodes] * 3), np.broadcast_to(CONCENTRATIONS, (3, 1, 3)))
    found = settled(given, there, np.full((3, 1), 2.0), mean, spread)
    assert found.there.tolist() == [[False], [True], [True]]  # what moves much is no noise
    assert found.logit[0, 0] < 0.0 < found.logit[1, 0]
    assert found.log_mean[0, 0] == mean[0, 0]
    assert found.explained[0] == 0.0
    assert found.explained[1] > 0.9


def test_two_that_leave_much_give_way_to_one_that_leaves_little() -> None:
    nodes = _responses(3)
    change = _change(nodes[2:], [0.15])
    # Each of the first two explains a part of what the third explains alone.
    nodes[:2] = 0.6 * nodes[2] + 1.5 * _responses(2, seed=4)
    given = Fittable.of(change[None], nodes[None], np.broadcast_to(CONCENTRATIONS, (1, 3, 3)))
    there = np.array([[True, True, False]])
    mean, spread = np.log([[0.05, 0.05, 0.05]]), np.log([[0.4, 0.4, 0.6]])
    now, logit, fits = _exchanged(given, there, [0.5, 0.5, -0.2], mean, spread)
    assert now.tolist() == [[False, False, True]]
    assert (logit[0, :2] < 0.0).all()
    assert logit[0, 2] > 0.0
    assert fits.log_mean == pytest.approx(fitted_amounts(given, now, mean, spread).log_mean)
    # Not for one that the network finds improbable, and not where the answer leaves little.
    assert (_exchanged(given, there, [0.5, 0.5, -2.0], mean, spread)[0] == there).all()
    right = np.array([[False, False, True]])
    assert (_exchanged(given, right, [-0.2, -0.2, 0.5], mean, spread)[0] == right).all()


def test_one_that_explains_what_is_left_joins() -> None:
    nodes = _responses(4)
    change = _change(nodes[:2], [0.1, 0.08])
    given = Fittable.of(change[None], nodes[None], np.broadcast_to(CONCENTRATIONS, (1, 4, 3)))
    there = np.array([[True, False, False, False]])
    mean, spread = np.log([[0.1, 0.08, 0.05, 0.05]]), np.log([[0.4, 0.4, 0.4, 0.4]])

    def joined(odds: list[float], before: np.ndarray = there) -> tuple[np.ndarray, ...]:
        fits = fitted_amounts(given, before, mean, spread)
        return completed(given, before, np.array([odds]), fits, mean, spread)

    now, logit, fits = joined([2.0, -0.5, -0.5, -0.5])
    assert now.tolist() == [[True, True, False, False]]
    assert logit[0, 1] > 0.0
    assert logit[0, 2:].tolist() == [-0.5, -0.5]
    assert fits.log_mean == pytest.approx(fitted_amounts(given, now, mean, spread).log_mean)
    assert fits.explained[0] > 0.97
    # Not one that the network finds improbable, none to what is complete, and none where nothing was found.
    assert (joined([2.0, -2.0, -0.5, -0.5])[0] == there).all()
    assert (joined([2.0, 2.0, -0.5, -0.5], now)[0] == now).all()
    assert not joined([-0.5, -0.5, -0.5, -0.5], np.zeros_like(there))[0].any()
