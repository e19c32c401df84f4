"""The network as it answers on a CPU beside the network as it was trained."""

import numpy as np
import pytest
import torch

from defectnet.model.artifact import load_artifact
from defectnet.model.comparison.axis import N_BINS
from defectnet.model.comparison.batches import most_promising, stacked
from defectnet.model.comparison.candidates import Candidates, sifted, together
from defectnet.model.comparison.comparer import N_FLAGS, Comparer, ComparerInputs, ComparerSettings
from defectnet.model.comparison.features import axis_directions, between, response_at, smoothed
from defectnet.model.comparison.fitting import greedy, least_squares
from defectnet.model.comparison.fused import FusedComparer
from defectnet.model.comparison.hosts import Entry
from defectnet.model.comparison.registration import Registration
from defectnet.released import released_model

AS_COMPUTED = Registration(10.0, (0.0, 0.0, 0.0), 0.0, 0.0, 1.0, 1.0)
SYMBOLS = ("Ca", "Zn", "Ni", "Mn", "Sr", "Al", "Ti", "Fe", "Co", "Cu", "Ga", "Ge")


class Host:
    """What `Candidates.of` asks of a host."""

    def __init__(self, entries):
        self.entries = entries

    def chosen(self, wanted):
        return self.entries


def entries_of(n, rng):
    """Made-up responses: every other one hangs on the amount."""
    axis = np.linspace(0.0, 2.0, N_BINS)
    found = []
    for number in range(n):
        curves = np.zeros((3, N_BINS))
        for weight in (1.0, -1.0, 0.5):
            place, size = rng.uniform(0.1, 1.3), rng.uniform(2.0, 20.0)
            curves += weight * size * np.exp(-0.5 * ((axis - place) / 0.07) ** 2)
        varies = number % 2 == 0
        curves *= (1.0 + rng.uniform(-0.3, 0.3, (3, 1))) if varies else 1.0
        concentrations = np.array([0.01, 0.06, 0.2] if varies else [0.04] * 3, dtype=np.float32)
        source = "endmember" if varies else "springs"
        symbol = SYMBOLS[number % len(SYMBOLS)]
        weight = float(rng.uniform(-6.0, -0.5))
        found.append(Entry(symbol, "Mg", source, curves.astype(np.float32), concentrations, weight, -0.1, False))
    return found


def asked(sizes, seed=0):
    """Lists of these sizes, a change and a density for each, and the flags."""
    rng = np.random.default_rng(seed)
    lists = [entries_of(n, rng) for n in sizes]
    axis = np.linspace(0.0, 2.0, N_BINS)
    density = 3.0 * np.exp(-0.5 * ((axis - 0.6) / 0.2) ** 2) + 0.02
    changes = np.stack([0.06 * one[0].curves[1] + 0.03 * one[-1].curves[1] for one in lists])
    changes += 0.02 * rng.standard_normal(changes.shape)
    flags = np.zeros((len(lists), N_FLAGS), dtype=np.float32)
    flags[::2, 2] = 1.0
    pristine = np.repeat(density[None], len(lists), axis=0)
    return lists, changes.astype(np.float32), pristine.astype(np.float32), flags


def prepared(lists, changes, pristine, flags, most=36):
    made = [Candidates.of(Host(entries), SYMBOLS, AS_COMPUTED) for entries in lists]
    kept = sifted(smoothed_coarsely(changes), made, flags[:, 2] > 0, most)
    directions = axis_directions(torch.from_numpy(pristine)).numpy()
    return together(changes, pristine, directions, made, kept, flags), kept


def smoothed_coarsely(changes):
    return smoothed(torch.from_numpy(changes)[:, None]).numpy()[1, :, 0]


def assert_alike(found, expected, mask):
    assert torch.equal(found.logit[~mask], expected.logit[~mask])
    for one, other in zip(found[:3], expected[:3], strict=True):
        assert one[mask].numpy() == pytest.approx(other[mask].numpy(), abs=2e-4)
    assert found.unexplained.numpy() == pytest.approx(expected.unexplained.numpy(), abs=1e-5)


@pytest.fixture(scope="module", params=["released", "small"])
def network(request):
    torch.manual_seed(1)
    if request.param == "released":
        comparer = load_artifact(released_model())[0].comparer
    else:
        comparer = Comparer(ComparerSettings(width=16, layers=2, heads=2))
        torch.nn.init.normal_(comparer.entry.weight, std=0.3)
    return comparer.eval()


@pytest.mark.parametrize("sizes", [(1,), (4,), (3, 9, 6), (20,) * 12, (36, 2, 36)])
def test_the_answers_are_the_networks(network, sizes):
    given, _ = prepared(*asked(sizes))
    with torch.no_grad():
        expected = network(given)
    assert_alike(FusedComparer(network)(given), expected, given.responses.mask)


def test_what_was_prepared_is_what_is_read_of_curves(network):
    lists, changes, pristine, flags = asked((5, 8))
    given, _ = prepared(lists, changes, pristine, flags)
    with torch.no_grad():
        expected = network(stacked(changes, pristine, lists, flags))
    assert_alike(FusedComparer(network)(given), expected, given.responses.mask)


def test_a_response_read_by_numpy_is_torchs():
    rng = np.random.default_rng(3)
    curves, nodes = rng.standard_normal((6, 3, 7)), np.sort(rng.uniform(0.01, 0.3, (6, 3)))
    nodes[2, 2] = nodes[2, 1]
    amounts = np.array([0.0, 0.05, 0.31, 0.1, 0.2, -0.1])
    expected = response_at(*(torch.from_numpy(x) for x in (curves, nodes, amounts)))
    assert between(curves, nodes, amounts) == pytest.approx(expected.numpy())


@pytest.mark.parametrize("n", [1, 20, 200])
def test_numpy_and_torch_fit_alike(n):
    rng = np.random.default_rng(5)
    curves = rng.standard_normal((2, 3, 8, 20)).astype(np.float32)
    curves /= np.linalg.norm(curves, axis=-1, keepdims=True)
    curves[1, :, 6:] = 0.0
    gram, overlap = curves @ curves.swapaxes(2, 3), rng.uniform(-0.5, 0.9, (2, 3, 8)).astype(np.float32)
    mask = np.ones((2, 8), dtype=bool)
    mask[1, 6:] = False
    overlap *= mask[:, None]
    sides = overlap[:, :, None] * rng.uniform(0.5, 1.5, (n, 1)).astype(np.float32)
    arrays = gram, sides, mask[:, None, None]
    expected = least_squares(*(torch.from_numpy(x) for x in arrays), 25, 0.01).numpy()
    assert expected.max() > 0.1
    assert least_squares(*arrays, 25, 0.01) == pytest.approx(expected, abs=1e-5)
    arrays = gram, overlap, mask, rng.uniform(-2.0, 0.0, (2, 8)).astype(np.float32)
    for one, other in zip(greedy(*arrays), greedy(*(torch.from_numpy(x) for x in arrays)), strict=True):
        assert one == pytest.approx(other.numpy(), abs=1e-5)


def test_the_sieve_keeps_of_many_what_it_keeps_of_each(network):
    lists, changes, pristine, flags = asked((50, 44, 50, 3))
    lists[2] = lists[0]
    made = [Candidates.of(Host(entries), SYMBOLS, AS_COMPUTED) for entries in lists]
    made[2] = made[0]
    without = flags[:, 2] > 0
    kept = sifted(smoothed_coarsely(changes), made, without)
    assert [places.size for places in kept] == [36, 36, 36, 3]
    for row, places in enumerate(kept):
        (alone,) = sifted(smoothed_coarsely(changes[row : row + 1]), [made[row]], without[row : row + 1])
        assert alone.tolist() == places.tolist()
    many = sifted(np.repeat(smoothed_coarsely(changes[:1]), 40, axis=0), [made[0]] * 40, np.repeat(without[:1], 40))
    assert {tuple(places) for places in map(np.ndarray.tolist, many)} == {tuple(kept[0].tolist())}
    given: ComparerInputs = stacked(changes, pristine, lists, flags)
    _, expected = most_promising(given)
    assert [sorted(row) for row in expected[:3].tolist()] == [places.tolist() for places in kept[:3]]
