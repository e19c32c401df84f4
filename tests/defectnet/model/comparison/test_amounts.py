"""Amounts fitted to a change: the fit decides where responses explain it, and the network where they do not."""

import numpy as np
import pytest

from defectnet.model.comparison import amounts
from defectnet.model.comparison.amount_fits import Fits, Fittable, fitted_amounts, weights_at
from defectnet.model.comparison.amounts import Settled, settled
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


def _fittable(changes: np.ndarray, nodes: np.ndarray, ways: np.ndarray | None = None, apart: bool = False) -> Fittable:
    """Of changes, (B, N), and the same responses to all, (n, 3, N), or each one's own; `ways`, (M, N)."""
    b = len(changes)
    nodes = np.broadcast_to(nodes, (b, *nodes.shape[-3:]))
    concentrations = np.where(nodes.any(axis=-1), CONCENTRATIONS, 0.0)
    ways = np.zeros((0, N)) if ways is None else ways
    return Fittable.of(changes, nodes, concentrations, np.stack([ways] * b), np.full(b, apart))


def _fitted(change: np.ndarray, nodes: np.ndarray, guessed: list[float], spread: float) -> tuple[np.ndarray, ...]:
    there = np.ones((1, len(nodes)), dtype=bool)
    given = _fittable(change[None], nodes)
    mean = np.log(guessed)[None]
    return fitted_amounts(given, there, mean, np.full_like(mean, np.log(spread)))[:3]


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
    together = fitted_amounts(_fittable(changes, both), there, mean, spread)
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


def _settled(change: np.ndarray, nodes: np.ndarray, odds: list[float], amounts: list[float]) -> Settled:
    given = _fittable(change[None], nodes)
    return settled(given, np.array([odds]), np.log([amounts]), np.log(np.full((1, len(nodes)), 0.4)))


def test_of_two_that_explain_one_change_alike_one_is_found() -> None:
    nodes = _responses(1)
    alike = np.concatenate([nodes, nodes + 0.15 * _responses(1, seed=9)])
    found = _settled(_change(nodes, [0.1]), alike, [0.4, 0.6], [0.1, 0.1])
    assert found.there.tolist() == [[True, False]]
    assert found.logit[0, 0] > 0.4
    assert found.logit[0, 1] < 0.0
    assert np.exp(found.log_mean[0, 0]) == pytest.approx(0.1, rel=0.05)
    # What the network is sure of stays, whatever the fit.
    assert _settled(_change(nodes, [0.1]), alike, [9.0, 9.0], [0.1, 0.1]).there.all()


def test_where_the_fit_says_nothing_the_networks_odds_stand() -> None:
    nodes = _responses(1)
    same = np.concatenate([nodes, nodes])
    found = _settled(_change(nodes, [0.1]), same, [0.5, 1.0], [0.1, 0.1])
    # One of the two is there, and by how much more probably the second is the network alone can say.
    assert found.there.tolist() == [[False, True]]
    assert found.logit[0, 1] == pytest.approx(-found.logit[0, 0], abs=0.5)
    assert 0.0 < found.logit[0, 1] < 1.0


def test_two_that_each_explain_a_part_both_stay() -> None:
    nodes = _responses(2)
    assert _settled(_change(nodes, [0.1, 0.08]), nodes, [0.1, 0.1], [0.1, 0.08]).there.all()


def _ways() -> np.ndarray:
    return np.asarray(np.linalg.qr(np.random.default_rng(7).normal(size=(N, 2)))[0].T)


def test_what_a_wrong_axis_makes_is_taken_out_of_the_fit() -> None:
    nodes, way = _responses(1), _ways()
    size = np.linalg.norm(_change(nodes, [0.1]))
    change = _change(nodes, [0.1]) + 2.0 * size * way[0] - size * way[1]
    there, mean, spread = np.ones((1, 1), dtype=bool), np.log([[0.06]]), np.log([[0.5]])
    given = _fittable(change[None], nodes, way)
    with_it, less = (fitted_amounts(one, there, mean, spread) for one in (given, given.off_axis()))
    assert less.explained[0] > 0.99 > with_it.explained[0]
    assert np.exp(less.log_mean[0, 0]) == pytest.approx(0.1, rel=0.05)
    assert abs(np.exp(with_it.log_mean[0, 0]) - 0.1) > abs(np.exp(less.log_mean[0, 0]) - 0.1)
    # What is left is as if change and responses never had that part.
    bare = _fittable(without(way[None], change[None, None])[0], without(way[None], nodes))
    for name in ("size", "overlap", "gram"):
        assert getattr(given.off_axis(), name) == pytest.approx(getattr(bare, name), abs=1e-9)
    assert way @ without(way[None], nodes)[0].T == pytest.approx(0.0, abs=1e-9)
    # Of a sample that has an axis of its own in any case it is the whole of what is to be explained, and else a part.
    assert given.off_axis().whole == pytest.approx(given.size)
    assert _fittable(change[None], nodes, way, apart=True).off_axis().whole == pytest.approx(bare.size)


@pytest.mark.parametrize("amount", [0.0, 0.1])
def test_a_sample_off_its_references_axis_is_weighed_too(amount: float) -> None:
    nodes, way = _responses(2), _ways()
    size = np.linalg.norm(_change(nodes[:1], [0.1]))
    # The second response imitates a wrong axis, by half.
    nodes[1] = size * (8.0 * way[0] + 8.0 * nodes[1] / np.linalg.norm(nodes[1], axis=-1, keepdims=True))
    change = _change(nodes[:1], [amount]) + size * way[0] if amount else size * way[0]
    odds, mean, spread = np.zeros((1, 2)), np.log([[0.1, 0.1]]), np.log([[0.4, 0.4]])
    blind = settled(_fittable(change[None], nodes), odds, mean, spread)
    found = settled(_fittable(change[None], nodes, way), odds, mean, spread)
    assert blind.there[0, 1]
    assert found.there.tolist() == [[amount > 0.0, False]]
    assert found.off_axis[0] > 0.5 > blind.off_axis[0]
    if amount:
        assert np.exp(found.log_mean[0, 0]) == pytest.approx(amount, rel=0.1)
        assert found.explained[0] > 0.97


def test_on_its_references_axis_a_sample_stays_where_that_explains_it() -> None:
    nodes = _responses(2)
    given = _fittable(_change(nodes[:1], [0.1])[None], nodes, _ways())
    found = settled(given, np.zeros((1, 2)), *np.log([[[0.1] * 2], [[0.4] * 2]]))
    assert found.there.tolist() == [[True, False]]
    assert found.off_axis[0] < 0.05


def test_by_a_computed_reference_what_explains_as_good_as_nothing_is_not_found() -> None:
    nodes = _responses(1)
    noise = np.random.default_rng(3).normal(size=N)
    change = 20.0 * noise / np.linalg.norm(noise)
    measured, computed = (
        settled(_fittable(change[None], nodes, _ways(), apart), np.full((1, 1), 4.0), *np.log([[[0.1]], [[0.3]]]))
        for apart in (False, True)
    )
    assert measured.there[0, 0]
    assert not computed.there[0, 0]
    assert measured.explained[0] < 0.25


def test_where_as_good_as_nothing_of_a_small_change_is_explained_nothing_is_found() -> None:
    nodes = _responses(1)
    noise = np.random.default_rng(3).normal(size=N)
    noise *= 0.03 / np.linalg.norm(noise)
    small = _change(nodes, [0.003])
    mean, spread = np.log(np.full((3, 1), 0.003)), np.log(np.full((3, 1), 0.3))
    changes = np.stack([noise, small, 20.0 * noise])
    found = settled(_fittable(changes, nodes), np.full((3, 1), 2.0), mean, spread)
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
    found = _settled(change, nodes, [-0.2, -0.2, -0.2], [0.05, 0.05, 0.12])
    assert found.there.tolist() == [[False, False, True]]
    assert (found.logit[0, :2] < 0.0).all()
    assert found.explained[0] > 0.97
    # One that the network finds improbable is in no set.
    assert not _settled(change, nodes, [-0.2, -0.2, -2.5], [0.05, 0.05, 0.05]).there[0, 2]


def test_one_that_explains_what_is_left_joins() -> None:
    nodes = _responses(4)
    change = _change(nodes[:2], [0.1, 0.08])
    found = _settled(change, nodes, [2.0, -0.5, -0.5, -0.5], [0.1, 0.08, 0.05, 0.05])
    assert found.there.tolist() == [[True, True, False, False]]
    assert (found.logit[0, 2:] < 0.0).all()
    assert found.explained[0] > 0.97


def test_of_more_than_can_be_weighed_the_most_probable_are(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = _responses(8)
    weighed: list[np.ndarray] = []

    def noted(given: Fittable, sets: np.ndarray, *network: np.ndarray) -> Fits:
        weighed.append(sets)
        assert (given.least_cost < fitted_amounts(given, sets, *network).cost).all()
        return fitted_amounts(given, sets, *network)

    monkeypatch.setattr(amounts, "fitted_amounts", noted)
    odds = [4.0, 0.3, -0.3, -0.4, -0.5, -0.6, -0.7, -3.0]
    found = _settled(_change(nodes[:2], [0.1, 0.08]), nodes, odds, [0.05] * 8)
    sets, off_axis = weighed
    assert len(sets) == 32  # any of five, with the one that is sure
    assert not len(off_axis)  # the true ones explain all of it on the axis
    assert sets[:, 0].all()
    assert not sets[:, 6:].any()
    assert found.logit[0, 6:].tolist() == odds[6:]
    assert found.there[0].tolist() == [True, True] + [False] * 6
