"""Why the model said so: the parts of the spectrum that spoke for each element, and the spectra most like it.

- *Occlusion*: the sample is made pristine in one window of the spectrum after the other; the fall of an element's
  log-odds is what that window spoke for it.
- *Attention*: where the element's query looked in the spectrum, averaged over the network's members, decoder layers
  and heads.
- *Nearest*: the simulated spectra whose modes lie most alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defectnet.errors import InputError
from defectnet.model.features import FrequencyGrid, element_index
from defectnet.model.network import DefectNetwork, Inputs, compact
from defectnet.model.predictor import Predictor
from defectnet.prediction import Prediction
from defectnet.query import Query, iterate_rows
from defectnet.spectrum import Spectrum

__all__ = ["Explanation", "Neighbour", "attention_map", "explain", "nearest"]

Array = NDArray[np.float64]

# Windows that are made pristine in turn, and bins in each: wide enough to hold a local mode at usual resolutions.
_WINDOWS = 32
_BINS_PER_WINDOW = 8
# The predictor leaves out what is less likely than this; log-odds do not fall further here.
_LEAST_PROBABILITY = 0.01
_MOST_ELEMENTS = 4


@dataclass(frozen=True, eq=False)
class Explanation:
    """What spoke for each element.

    Attributes:
        window_edges_thz: shape (w + 1,), THz.
        occlusion: element → shape (w,), fall of its log-odds when the window is made pristine; positive speaks for it.
        token_edges_thz: shape (t + 1,), THz.
        attention: element → shape (t,), share of the attention of its query; what is missing to 1 went to the host.
    """

    window_edges_thz: Array
    occlusion: dict[str, Array]
    token_edges_thz: Array
    attention: dict[str, Array]


@dataclass(frozen=True)
class Neighbour:
    """A simulated spectrum, and the share of its modes that lie elsewhere than the sample's."""

    sample_id: str
    host: str
    defects: str
    distance: float


def explain(predictor: Predictor, query: Query, prediction: Prediction) -> Explanation:
    """Explain the verdict on the elements that were called present or came nearest to it, four at most."""
    elements = [verdict.element for verdict in prediction.elements[:_MOST_ELEMENTS]]
    edges, occlusion = _occlude(predictor, query, elements)
    looked = attention_map(predictor.network, predictor.inputs([query]))[0].double().cpu().numpy()
    return Explanation(
        window_edges_thz=edges,
        occlusion=occlusion,
        token_edges_thz=predictor.config.grid.edges_thz[:: predictor.config.network.patch_bins],
        attention={
            element: looked[element_index(element)] for element in elements if element not in query.host.elements
        },
    )


def _occlude(predictor: Predictor, query: Query, elements: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    tops = [query.spectrum.top_thz()] + ([] if query.reference is None else [query.reference.top_thz()])
    n_bins = _WINDOWS * _BINS_PER_WINDOW
    step = 1.02 * max(tops) / n_bins
    sample = query.spectrum.normalised().resampled(step, n_bins).dos
    pristine = None if query.reference is None else query.reference.normalised().resampled(step, n_bins).dos
    occluded = []
    for window in range(_WINDOWS):
        first, last = window * _BINS_PER_WINDOW, (window + 1) * _BINS_PER_WINDOW
        changed = sample.copy()
        if pristine is not None:
            changed[first:last] = pristine[first:last]
        else:  # the best that is known of it: a straight line between its neighbours
            ends = [changed[max(first - 1, 0)], changed[min(last, n_bins - 1)]]
            changed[first:last] = np.interp(np.arange(first, last), [first - 1, last], ends)
        occluded.append(changed)
    reference = None if pristine is None else Spectrum.from_bins(pristine, step)
    queries = [
        replace(query, spectrum=Spectrum.from_bins(dos, step), reference=reference, uncertainty=None)
        for dos in (sample, *occluded)
    ]
    answers = [
        {verdict.element: verdict.probability for verdict in answer.elements} for answer in predictor.predict(queries)
    ]

    def log_odds(answer: dict[str, float], element: str) -> float:
        p = min(max(answer.get(element, 0.0), _LEAST_PROBABILITY), 1 - 1e-6)
        return float(np.log(p / (1 - p)))

    fall = {
        element: np.array([log_odds(answers[0], element) - log_odds(answer, element) for answer in answers[1:]])
        for element in elements
    }
    return np.linspace(0.0, n_bins * step, _WINDOWS + 1), fall


def attention_map(network: DefectNetwork, given: Inputs) -> Tensor:
    """Attention of every asked element to every spectral token, shape (B, V, T): mean over members, layers and heads.

    Rows sum to less than 1: the rest goes to the host's tokens. Elements that were not asked have zeros. The network's
    own attention does not keep its weights; they are made again from what enters each layer.
    """
    asked = given.asked & (given.host <= 0)
    chosen, padding = compact(asked)
    n_tokens = network.grid.n_bins // network.settings.patch_bins
    kept: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert callable(module.weights)
        kept.append(module.weights(*arguments).mean(dim=1))  # (B, Q, T + H)

    readers = [module for name, module in network.named_modules() if name.endswith(".read")]
    handles = [module.register_forward_pre_hook(keep) for module in readers]
    try:
        with torch.inference_mode():
            network(*given)
    finally:
        for handle in handles:
            handle.remove()
    weights = torch.stack(kept).mean(dim=0)[..., :n_tokens].masked_fill(padding[..., None], 0.0)
    full = weights.new_zeros((*asked.shape, n_tokens))
    return full.scatter(1, chosen[..., None].expand_as(weights), weights)


def nearest(query: Query, table: pa.Table, grid: FrequencyGrid, count: int = 5) -> list[Neighbour]:
    """The rows of a spectra table whose modes lie most like the sample's, nearest first.

    Half the L1 distance between the shares of modes in the model's bins: 0 the same … 1 nothing in common.
    """
    own = grid.mode_shares(query.spectrum)
    found: list[Neighbour] = []
    for row in iterate_rows(table, ("sample_id", "host", "defects", "frequency_step_thz", "dos", "error")):
        try:
            other = Query.from_row(row)
            distance = 0.5 * float(np.abs(grid.mode_shares(other.spectrum) - own).sum())
        except InputError:
            continue
        defects = sorted(row["defects"] or [], key=lambda defect: -defect["concentration"])
        text = ", ".join(f"{d['element']} {100 * d['concentration']:.1f} %" for d in defects) or "pristine"
        found.append(Neighbour(other.sample_id, other.host.formula, text, distance))
    return sorted(found, key=lambda neighbour: neighbour.distance)[:count]
