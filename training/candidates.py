"""Which elements the model is asked about: everything, or a guess that holds every true dopant and some distractors."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DISTRACTORS", "all_candidates", "candidate_lists"]

# The protocol of the published precursor: the mask holds every true dopant and up to about ten distractors.
MAX_DISTRACTORS = 10


def all_candidates(host: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Guess-free: each known dopant that is not part of the host. host: (n, V); known: (V,); returns (n, V)."""
    return known[None, :] & (host <= 0)


def candidate_lists(
    truth: NDArray[np.float32],
    host: NDArray[np.float32],
    known: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    n_distractors: int | NDArray[np.intp] = MAX_DISTRACTORS,
    first: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Candidate lists: the true dopants, and `n_distractors` other known dopants drawn at random; all (n, V).

    Elements that are `first` are drawn before all others.
    """
    eligible = all_candidates(host, known) & (truth <= 0)
    # A random key orders the eligible elements of each row; the first n of them are its distractors.
    keys = rng.random(truth.shape) + (0.0 if first is None else ~first)
    keys = np.where(eligible, keys, np.inf)
    rank = keys.argsort(axis=1).argsort(axis=1)
    count = np.broadcast_to(np.asarray(n_distractors), (truth.shape[0],))[:, None]
    return (truth > 0) | (eligible & (rank < count))
