"""The model of a fleet: queues fill evenly, nothing is lost, and a load that one replica cannot bear brings others."""

import numpy as np
import pytest
from fleet import Fleet, Replica, _water_level, policy, simulate

REPLICA = Replica(first_s=0.005, each_s=0.004, most=64)


@pytest.mark.parametrize(
    ("waiting", "requests", "level"), [([0, 2, 5], 4, 3.0), ([0, 0], 1, 0.5), ([1, 1, 1], 3, 2.0), ([0, 9], 2, 2.0)]
)
def test_requests_go_to_the_shortest_queues(waiting: list[float], requests: float, level: float):
    assert _water_level(np.array(waiting, dtype=float), requests) == pytest.approx(level)


def test_what_finds_no_room_is_refused_and_the_rest_is_kept():
    fleet = Fleet(REPLICA, 2)
    assert fleet.take(25, 10) == 5
    assert fleet.waiting.sum() == pytest.approx(20)


def test_a_replica_answers_as_batches_take():
    assert REPLICA.takes(np.array([1.0, 65.0])).tolist() == pytest.approx([0.009, 2 * 0.005 + 65 * 0.004])
    assert REPLICA.most_per_s == pytest.approx(64 / (0.005 + 64 * 0.004))


def test_what_arrives_meanwhile_makes_the_next_batch():
    fleet = Fleet(REPLICA, 1)
    fleet.take(1, 10)
    fleet.compute(0.004)  # begins
    fleet.take(3, 10)
    fleet.compute(0.004)
    assert (fleet.answered, fleet.computing[0], fleet.waiting[0]) == (0, 1, 3)
    for _ in range(2):
        fleet.compute(0.004)
    assert (fleet.answered, fleet.computing[0], fleet.waiting[0]) == (1, 3, 0)


def test_the_controller_believes_the_mean_of_its_window():
    fleet = Fleet(REPLICA, 1)
    fleet._had = [0.0] * 100 + [30.0] * 151  # fifteen seconds of 30, of which it was told ten
    assert fleet._told(20.0) == pytest.approx(30 * 15 / 25, rel=0.01)
    fleet._newest.append(150)  # no further back than to the newest replica
    assert fleet._told(20.0) == pytest.approx(30)


def test_a_load_that_the_first_replicas_cannot_bear_brings_others():
    config = policy(2).model_copy(update={"min_replicas": 2, "max_replicas": 20})
    calm = simulate(np.full(200, 100.0), REPLICA, config, 5.0)
    assert calm["refused"] == 0
    assert calm["replicas_most"] == 2
    rush = simulate(np.full(600, 2000.0), REPLICA, config, 5.0)
    assert rush["refused"] > 0
    assert 8 < rush["replicas_most"] <= 20
    assert rush["requests"] == pytest.approx(2000 * 60, rel=0.02)
