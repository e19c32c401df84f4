"""Responses of one's own hosts, learned from samples whose doping is known.

The change of a sample is the sum of its dopants' responses, each times its concentration, so that a few labelled
samples of a host tell its responses. What the library knows of each is the first guess R0 with an error of its source's
size; the samples correct it by the Δ that is likeliest then, (CᵀC + Λ)⁻¹ Cᵀ (Y - C R0): ridge regression towards the
guess (Bishop, Pattern Recognition and Machine Learning, section 3.3). Other hosts, and the model, stay as they are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from defectnet.errors import DefectNetError
from defectnet.io.response_library import RESPONSES_SCHEMA, HostResponses, ResponseLibrary, packed
from defectnet.model.comparison.answer import Comparison
from defectnet.model.comparison.axis import EDGES, WIDTHS, top_of
from defectnet.model.comparison.features import between
from defectnet.model.comparison.hosts import MEASURED, Entry, source_class
from defectnet.model.comparison.placing import Placed
from defectnet.model.comparison.registration import smeared
from defectnet.query import Query, iterate_rows
from training.comparison.differences import sizes_of

__all__ = ["Learned", "learn_responses", "write_learned"]

Floats = NDArray[np.float64]

# Errors of a first guess, as a share of its size, by class of sources: such as go with the cosines that `make strain`
# and `make bench-responses` find between sources.
_ERRORS = {"endmember": 0.3, "potential": 0.5, "springs": 0.7, "masses": 1.0}
# What a sample's change differs by beside its dopants' responses: noise, and the chance of one configuration.
_SCATTER = 0.1
# A response is told where the samples leave at most this share of the guess's variance.
_LEAST_CERTAIN = 0.5


@dataclass(frozen=True, eq=False)
class Learned:
    """One learned response.

    Attributes:
        host_id, kind: of the samples.
        guess: of the library, which it corrects.
        curves: shape (3, N_BINS), at the guess's concentrations.
        n_samples: how many hold the dopant.
        correction: size of what was learned, as a share of the guess's.
    """

    host_id: str
    kind: str
    guess: Entry
    curves: Floats
    n_samples: int
    correction: float


def learn_responses(measurements: pa.Table, comparison: Comparison) -> list[Learned]:
    """The responses that labelled samples tell of hosts that `comparison` knows.

    Rows without a reference, of a host that is not known or that is unlike its reference, tell nothing.
    """
    gathered: dict[tuple[str, str], list[tuple[Placed, Mapping[str, float]]]] = defaultdict(list)
    for row in iterate_rows(measurements):
        truth: dict[str, float] = defaultdict(float)
        for one in row["defects"] or ():
            truth[one["element"]] += one["concentration"]
        if row.get("error") or row.get("reference_dos") is None:
            continue
        query = Query.from_row({name: value for name, value in row.items() if name != "candidates"})
        (placed,) = comparison.placing.place([query], [sorted(truth)])
        if isinstance(placed, DefectNetError):
            raise placed
        if placed is not None:
            gathered[placed.host.host_id, query.kind].append((placed, dict(truth)))
    return [one for key, samples in sorted(gathered.items()) for one in _learned(*key, samples)]


def _learned(host_id: str, kind: str, samples: Sequence[tuple[Placed, Mapping[str, float]]]) -> list[Learned]:
    host = samples[0][0].host
    held = sorted({element for _, truth in samples for element in truth})
    likeliest: dict[str, Entry] = {}
    for entry in host.chosen(held):
        former = likeliest.get(entry.element)
        if former is None or entry.log_weight > former.log_weight:
            likeliest[entry.element] = entry
    guesses = list(likeliest.values())
    # A sample with a dopant of which nothing is known would have it explained by the others.
    told = [(placed, truth) for placed, truth in samples if set(truth) <= likeliest.keys() and truth]
    if not told:
        return []
    amounts = np.array([[truth.get(guess.element, 0.0) for guess in guesses] for _, truth in told])
    changes = np.stack([placed.change.astype(np.float64) for placed, _ in told])
    left = changes.copy()
    curves = np.stack([guess.curves for guess in guesses])
    concentrations = np.stack([guess.concentrations for guess in guesses])
    for row, (placed, _) in enumerate(told):
        guessed = between(curves, concentrations, amounts[row]).astype(np.float32)
        left[row] -= amounts[row] @ smeared(guessed, placed.registration)
    noise = (_SCATTER**2) * float(np.mean(np.square(changes) @ WIDTHS))
    sizes = sizes_of(curves[:, 1])[:, 0]
    errors = np.array([_ERRORS[source_class(guess.source)] for guess in guesses]) * np.maximum(
        sizes, sizes.max() * 0.05
    )
    precision = noise / errors**2
    covariance = np.linalg.inv(amounts.T @ amounts + np.diag(precision))
    corrections = covariance @ amounts.T @ left
    remains = precision * np.diag(covariance)
    shares = sizes_of(corrections)[:, 0] / np.maximum(sizes, 1e-9)
    return [
        Learned(
            host_id,
            kind,
            guess,
            guess.curves.astype(np.float64) + correction,
            int(np.count_nonzero(amounts[:, place])),
            float(shares[place]),
        )
        for place, (guess, correction) in enumerate(zip(guesses, corrections, strict=True))
        if remains[place] <= _LEAST_CERTAIN
    ]


def write_learned(learned: Sequence[Learned], known: ResponseLibrary, file: str | Path) -> Path:
    """Write what was learned as a response library of these hosts, to be read beside `known`; returns `file`."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    for row in known.rows_of(sorted({one.host_id for one in learned})).to_pylist():
        own = [one for one in learned if one.host_id == row["host_id"]]
        told = _substitutions(own, known.host(row["host_id"]))
        rows.setdefault(row["host_id"], dict(row) | {"substitutions": told, "springs": None})
    table = pa.Table.from_pylist(list(rows.values()), schema=RESPONSES_SCHEMA)
    pq.write_table(table, file, compression="zstd")
    return file


def _substitutions(learned: Sequence[Learned], host: HostResponses) -> list[dict[str, object]]:
    """What was learned as the library has it; the kind of spectrum that was not measured stays as it was."""
    found = []
    for pair in sorted({(one.guess.element, one.guess.replaces) for one in learned}):
        by_kind = {one.kind: one for one in learned if (one.guess.element, one.guess.replaces) == pair}
        any_of = next(iter(by_kind.values()))
        former = [one for one in host.responses if (one.element, one.replaces) == pair]
        former = [one for one in former if one.source == any_of.guess.source]
        for place, concentration in enumerate(sorted(set(any_of.guess.concentrations.tolist()))):
            nearest = min(former, key=lambda one: abs(one.concentration - concentration))
            changes = {kind: packed(_in_thz(one.curves[place], host)) for kind, one in by_kind.items()}
            found.append(
                {
                    "element": pair[0],
                    "replaces": pair[1],
                    "source": MEASURED,
                    "concentration": concentration,
                    "strain": nearest.strain,
                    "imaginary_weight": 0.0,
                    "change": changes.get("vibrational"),
                    "change_neutron": changes.get("neutron"),
                }
            )
    return found


def _in_thz(curve: NDArray[np.floating], host: HostResponses) -> NDArray[np.float64]:
    """A curve on the host's axis as means over the library's bins, modes per THz."""
    top = top_of(host.dos, host.frequency_step_thz)
    modes = np.concatenate([[0.0], np.cumsum(curve * WIDTHS)])
    n_bins = int(np.ceil(EDGES[-1] * top / host.frequency_step_thz))
    edges = np.arange(n_bins + 1) * host.frequency_step_thz / top
    return np.asarray(np.diff(np.interp(edges, EDGES, modes)) / host.frequency_step_thz)
