"""Run a network over many labelled spectra: the shared base of validation, calibration and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.metrics import Judged
from defectnet.model.calibration import ModeCalibration, PresenceMap, intervals, probabilities
from defectnet.model.network import DefectNetwork
from training.dataset import SpectraArrays

__all__ = ["Answers", "Answerer", "judge", "run_network"]

_BATCH = 128
_ANSWERED = ("presence_logit", "log_concentration", "log_spread", "pooled", "signature")


@dataclass(frozen=True)
class Answers:
    """`network.Answer` of n spectra in numpy: logits, log means and log spreads (n, V), pooled tokens, signatures; and
    the chemical prior that the answers may be weighed with, (n, V, 5), zeros where it is switched off."""

    presence_logit: NDArray[np.float64]
    log_concentration: NDArray[np.float64]
    log_spread: NDArray[np.float64]
    pooled: NDArray[np.float64]
    signature: NDArray[np.float64]
    expected: NDArray[np.float64]


# Anything that answers for rows and the elements asked of each: the network, or a baseline.
Answerer = Callable[[SpectraArrays, NDArray[np.bool_]], Answers]


def run_network(
    network: DefectNetwork, data: SpectraArrays, asked: NDArray[np.bool_], *, prior: bool = True
) -> Answers:
    """Answer every row of `data` for the elements `asked`, shape (n, V), with the chemical prior or without."""
    parts: list[tuple[NDArray[np.float64], ...]] = []
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(data), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(data)))
            chosen = data.where(rows)
            answer = network(*chosen.inputs(asked[rows], prior=prior))
            parts.append(tuple(getattr(answer, name).double().numpy() for name in _ANSWERED))
    columns = dict(zip(_ANSWERED, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    return Answers(**columns, expected=data.expected.astype(np.float64) * prior)


def judge(answers: Answers, truth: NDArray[np.float32], calibration: ModeCalibration, presence: PresenceMap) -> Judged:
    """Calibrated verdicts beside the truth, as the predictor would give them."""
    concentration, low, high = intervals(answers.log_concentration, answers.log_spread, calibration)
    p = probabilities(answers.presence_logit, presence, answers.expected)
    return Judged(
        asked=np.isfinite(answers.presence_logit),
        truth=truth.astype(np.float64),
        probability=p,
        present=p >= presence.threshold,
        concentration=concentration,
        low=low,
        high=high,
    )
