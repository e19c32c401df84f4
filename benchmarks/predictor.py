"""Speed of the predictor: one spectrum at a time, and many without a list, on one core.

Test hosts' spectra with their references, known to the predictor before the clock starts (a host's first question also
unpacks its responses and registers its reference). The peak is what one core reaches in a matrix product of single
precision; the operations are those of the network's layers, counted by torch in the network as it was trained.

    make bench-predictor
"""

import json
import time
from dataclasses import replace

import numpy as np
import torch
from asking import questions
from torch.utils.flop_counter import FlopCounterMode
from writing import say, write_result

from defectnet.model.predictor import Predictor
from defectnet.released import released_model

ROWS, REPEATS = 192, 5


def main() -> None:
    """Ask, print, and write `results/predictor.json`."""
    torch.set_num_threads(1)
    predictor = Predictor.load(released_model(), version="released")
    listed, _, lists = questions("test", ROWS)
    free = [replace(query, candidates=None) for query in listed]
    short = [replace(query, candidates=one[:5]) for query, one in zip(listed, lists, strict=True)]
    predictor.predict(free)
    alone = []
    for query in short[:64] * 3:
        started = time.perf_counter()
        predictor.predict([query])
        alone.append(time.perf_counter() - started)
    rates = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predictor.predict(free)
        rates.append(len(free) / (time.perf_counter() - started))
    # On a CPU layers are put together for single precision, half of them as numpy's products, which nothing counts.
    predictor = Predictor.load(released_model(), version="released", precision="bfloat16")
    with FlopCounterMode(display=False) as counter:
        predictor.predict(free)
    result = {
        "ms_batch_1": round(1000 * float(np.median(alone)), 2),
        "spectra_per_s_core_guess_free": round(float(np.median(rates)), 1),
        "share_of_peak": round(counter.get_total_flops() / len(free) * float(np.median(rates)) / _peak(), 4),
        "spectra": len(free),
    }
    write_result("predictor", result)
    say(json.dumps(result))


def _peak() -> float:
    """Operations a second of a large matrix product on this core."""
    a = torch.rand(1024, 1024)
    best = float("inf")
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best


if __name__ == "__main__":
    main()
