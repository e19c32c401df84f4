"""How a fleet of up to a thousand replicas follows a load, by Ray Serve's own autoscaling decision, in simulated time.

Each replica computes batches whose time is a first cost and a cost a spectrum, both from `results/serve.json`; requests
arrive at random and go to the replica with the least to do. Every tenth of a second, as in Serve, the policy is asked
how many replicas there should be, by what they had to do on average of the last half minute, as they last told; a new
one is ready after its start, and after its node's where that has to come, too.
The load is a step to ten times as much, or a file of one's own with lines of `seconds,requests_per_s` (a recorded one).

It is a model: routing is ideal, the proxies and the controller are never the limit, and a replica never fails. It is
held against three real nodes by `tests/cluster/test_fleet_model.py` (`make bench-cluster`).

    make capacity-fleet
    python benchmarks/fleet.py my_load.csv
"""

import csv
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig
from writing import RESULTS, write_result

from serving.settings import ServiceSettings

# The policy is asked in each step, as Serve does; requests come and batches end in parts of it, each below a batch.
STEP_S, PARTS = 0.1, 25
MOST_REPLICAS, FIRST_REPLICAS = 1000, 100
# Of what the first replicas can do: the load before the step.
SHARE_BEFORE = 0.6
BEFORE_S, STEP_UP_S, AFTER_S = 30, 600, 60
TENFOLD = 10
# Seconds until a replica answers: imports and loading on a node that is there; and of a node that has to come.
REPLICA_START_S, NODE_START_S = 12.0, 120.0
# A replica tells the controller every ten seconds what it has had to do, which is known half as late in the mean.
TOLD_AFTER_S = 5.0
# What Serve is told to aim at, requests waiting or running in a replica: a batch's worth, and less.
TARGETS = (32, 8, 2)
RANDOM_SEED = 7


@dataclass(frozen=True)
class Replica:
    """What one replica needs for a batch of n requests of a spectrum: `first_s` + n · `each_s`."""

    first_s: float
    each_s: float
    most: int

    def takes(self, requests: NDArray[np.float64]) -> NDArray[np.float64]:
        """Seconds that so many requests take, one full batch after another."""
        return np.ceil(requests / self.most) * self.first_s + requests * self.each_s

    @property
    def most_per_s(self) -> float:
        """Requests/s in full batches."""
        return self.most / (self.first_s + self.most * self.each_s)


class Fleet:
    """Replicas that answer, and those that start.

    Args:
        replica: what each can do.
        first: how many there are.

    Attributes:
        waiting, computing: requests in each replica that answers.
        left_s: of its batch.
        coming: when each replica that starts will answer, s.
        target: replicas that the policy wants.
        answered: requests so far.
    """

    def __init__(self, replica: Replica, first: int) -> None:
        self._replica = replica
        self.waiting, self.computing, self.left_s = np.zeros((3, first))
        self.coming: list[float] = []
        self.target, self.answered = first, 0.0
        self._memory: dict[str, Any] = {}
        # Requests in all replicas in each step so far, and the steps in which a replica began to answer.
        self._had: list[float] = []
        self._newest = [0]

    @property
    def ongoing(self) -> NDArray[np.float64]:
        return self.waiting + self.computing

    def decide(self, now: float, config: AutoscalingConfig, start_s: float) -> None:
        """Ask Serve's policy (`replica_queue_length_autoscaling_policy`: ongoing requests over their target)."""
        self._had.append(float(self.ongoing.sum()))
        wished = math.ceil(self._told(config.look_back_period_s) / config.get_target_ongoing_requests())
        wished = min(max(wished, config.min_replicas), config.max_replicas)
        target, self._memory = _apply_delay_logic(wished, self.target, config, self._memory, _now=now)
        if target > self.target:
            self.coming += [now + start_s] * (target - self.target)
        elif target < self.target:
            idle = len(self.waiting) + len(self.coming) - target
            kept = len(self.coming) - min(idle, len(self.coming))
            idle -= len(self.coming) - kept
            self.coming = self.coming[:kept]
            order = np.argsort(self.ongoing, kind="stable")  # those with the least to do go, and finish it
            self.answered += float(self.ongoing[order[:idle]].sum())
            for name in ("waiting", "computing", "left_s"):
                setattr(self, name, getattr(self, name)[order[idle:]])
        self.target = target

    def _told(self, period_s: float) -> float:
        """The requests that the controller believes in: the mean since `period_s` before they were last told of.

        It goes no further back than to the first word of the newest replica, and takes the last word as lasting.
        """
        told = max(len(self._had) - 1 - round(TOLD_AFTER_S / STEP_S), 0)
        newest = max(step for step in self._newest if step <= told)
        heard = self._had[max(newest, told - round(period_s / STEP_S), 0) : told + 1]
        lasting = len(self._had) - 1 - told
        return (sum(heard) + lasting * heard[-1]) / (len(heard) + lasting)

    def arrive(self, now: float) -> None:
        """Let those answer that have started."""
        ready = sum(at <= now for at in self.coming)
        if not ready:
            return
        self._newest.append(len(self._had))
        self.coming = [at for at in self.coming if at > now]
        self.waiting, self.computing, self.left_s = (
            np.concatenate([of, np.zeros(ready)]) for of in (self.waiting, self.computing, self.left_s)
        )

    def take(self, requests: int, most_waiting: int) -> int:
        """Give requests to the replicas with the least to do; returns how many find no room."""
        room = np.maximum(most_waiting - self.waiting, 0.0)
        taken = min(requests, int(room.sum()))
        ongoing = self.ongoing
        level = math.floor(_water_level(np.sort(ongoing), taken))
        added = np.minimum(np.maximum(level - ongoing, 0.0), room)
        while (rest := taken - int(added.sum())) > 0:  # one more each
            free = np.flatnonzero(added < room)
            added[free[np.argsort((ongoing + added)[free], kind="stable")[:rest]]] += 1
        self.waiting = self.waiting + added
        return requests - taken

    def compute(self, seconds: float) -> None:
        """End the batches that have been computed by then, and begin others."""
        self.left_s = self.left_s - seconds
        ended = self.left_s <= 0.0
        self.answered += float(self.computing[ended].sum())
        batch = np.where(ended, np.minimum(self.waiting, self._replica.most), 0.0)
        self.waiting = self.waiting - batch
        self.computing = np.where(ended, batch, self.computing)
        # A batch begins where the one before it has ended, within the part; one that nothing came before, now.
        begun = np.where(self.left_s > -seconds, self.left_s, 0.0) + self._replica.takes(batch)
        self.left_s = np.where(ended, np.where(batch > 0, begun, -seconds), self.left_s)


def _water_level(waiting: NDArray[np.float64], requests: float) -> float:
    """How far `requests` fill up the sorted queues, when each goes to the shortest."""
    needed = np.arange(1, len(waiting) + 1) * waiting - np.cumsum(waiting)
    filled = int(np.searchsorted(needed, requests, side="right"))
    return float((requests + waiting[:filled].sum()) / filled)


@dataclass(frozen=True)
class Followed:
    """How a load was followed, step by step.

    Attributes:
        replicas: that answer.
        refused: requests.
        longest_s: what a request takes, at the 99th percentile of the replicas.
        answered: requests in all, those in the replicas at the end among them.
    """

    replicas: NDArray[np.int64]
    refused: NDArray[np.int64]
    longest_s: NDArray[np.float64]
    answered: float


def follow(
    load: NDArray[np.float64], replica: Replica, config: AutoscalingConfig, start_s: float, most_waiting: int
) -> Followed:
    """Follow a load.

    Args:
        load: requests/s in each step of `STEP_S`.
        replica: what one can do.
        config: as Serve has it.
        start_s: seconds until a new replica answers.
        most_waiting: requests that a replica lets wait; the next is refused.
    """
    random = np.random.default_rng(RANDOM_SEED)
    fleet = Fleet(replica, config.min_replicas)
    sizes, refused, seconds = [], [], []
    for number, rate in enumerate(load):
        now = number * STEP_S
        fleet.arrive(now)
        turned_away = 0
        for arrived in random.poisson(rate * STEP_S / PARTS, PARTS):
            turned_away += fleet.take(int(arrived), most_waiting)
            fleet.compute(STEP_S / PARTS)
        longest = np.maximum(fleet.left_s, 0.0) + replica.takes(fleet.waiting + 1)
        seconds.append(float(np.percentile(longest, 99)))
        refused.append(turned_away)
        sizes.append(len(fleet.waiting))
        fleet.decide(now, config, start_s)
    return Followed(np.array(sizes), np.array(refused), np.array(seconds), fleet.answered + fleet.ongoing.sum())


def simulate(load: NDArray[np.float64], replica: Replica, config: AutoscalingConfig, start_s: float) -> dict[str, Any]:
    """Follow a load with the service's own limit of what waits, and sum it up; arguments as in `follow`."""
    told = follow(load, replica, config, start_s, ServiceSettings().max_queued_requests)
    refused = int(told.refused.sum())
    return {
        "requests": round(told.answered + refused),
        "refused": refused,
        "replicas_most": int(told.replicas.max()),
        "replica_hours": round(float(told.replicas.sum()) * STEP_S / 3600, 1),
        "replicas_at_the_end": int(told.replicas[-1]),
        "p99_s_worst": round(float(told.longest_s.max()), 2),
        "seconds_refusing": round(int(np.count_nonzero(told.refused)) * STEP_S, 1),
    }


def measured_replica() -> Replica:
    """The costs from the benchmark of the service: the predictor alone, and in batches."""
    serve = json.loads((RESULTS / "serve.json").read_text(encoding="utf-8"))
    each_s = 1.0 / float(np.mean(serve["limit_spectra_per_s"]))
    lone_s = float(np.mean(serve["predictor_ms"])) / 1e3
    return Replica(max(lone_s - each_s, 0.0), each_s, ServiceSettings().max_batch_size)


def policy(target: float) -> AutoscalingConfig:
    """What the service tells Serve, but for the number of replicas and the target."""
    replicas = ServiceSettings().replicas
    return AutoscalingConfig(
        min_replicas=FIRST_REPLICAS,
        max_replicas=MOST_REPLICAS,
        target_ongoing_requests=target,
        upscale_delay_s=replicas.upscale_delay_s,
        downscale_delay_s=replicas.downscale_delay_s,
    )


def step_load(replica: Replica) -> NDArray[np.float64]:
    """A steady load, ten times as much, and the first again."""
    before = SHARE_BEFORE * FIRST_REPLICAS * replica.most_per_s
    parts = ((before, BEFORE_S), (TENFOLD * before, STEP_UP_S), (before, AFTER_S))
    return np.concatenate([np.full(round(length / STEP_S), rate) for rate, length in parts])


def recorded_load(path: Path) -> NDArray[np.float64]:
    """Lines of `seconds,requests_per_s`; between them the load goes straight."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = np.array([[float(value) for value in row] for row in csv.reader(file) if row])
    times = np.arange(0.0, rows[-1, 0], STEP_S)
    return np.interp(times, rows[:, 0], rows[:, 1])


def main() -> None:
    """Simulate, print, and write `results/fleet.json`."""
    replica = measured_replica()
    own = len(sys.argv) > 1
    load = recorded_load(Path(sys.argv[1])) if own else step_load(replica)
    result = {
        "replica": {"first_ms": round(replica.first_s * 1e3, 2), "each_ms": round(replica.each_s * 1e3, 2)},
        "requests_per_s_of_a_replica": round(replica.most_per_s, 1),
        "load": {"from": round(float(load[0]), 1), "most": round(float(load.max()), 1)},
        "nodes_are_there": {
            str(target): simulate(load, replica, policy(target), REPLICA_START_S) for target in TARGETS
        },
        "nodes_come": simulate(load, replica, policy(TARGETS[-1]), REPLICA_START_S + NODE_START_S),
    }
    if not own:
        write_result("fleet", result)
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
