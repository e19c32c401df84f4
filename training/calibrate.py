"""Fit everything that is fitted after the weights: presence, intervals, and the distance to the training spectra.

Presence and intervals come from the validation hosts, whose spectra the weights never saw; the test hosts stay unseen.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.calibration import THRESHOLD_BOUNDS, Calibration, ModeCalibration, fit_intervals, fit_presence
from defectnet.network import OOD_RANK, DefectNetwork
from training.candidates import everything, guesses
from training.dataset import SpectraArrays
from training.inference import Answers, Asker, ask

__all__ = ["calibrate", "calibrate_answers", "fit_distance"]

# Share of unseen hosts' spectra beyond the distance at which the out-of-distribution score reaches 0.5.
_OOD_QUANTILE = 0.99
# Variances below this share of the largest direction's are noise of the weights; dividing by them would amplify it.
_VARIANCE_FLOOR = 1e-3


def calibrate(
    network: DefectNetwork, train: SpectraArrays, validation: SpectraArrays, known: NDArray[np.bool_], *, seed: int
) -> Calibration:
    """Calibrate `network`: its distance in place, the rest returned; with the references and without them."""

    def asker(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return ask(network, data, asked)

    modes = []
    for with_reference in (False, True):
        near, unseen = (
            data.where(data.has_reference) if with_reference else data.without_reference()
            for data in (train, validation)
        )
        if not len(near) or not len(unseen):  # a table of measured spectra may have no reference at all
            modes.append(ModeCalibration())
            continue
        fit_distance(network, asker(near, everything(near.host, known)).pooled, with_reference=with_reference)
        mode, pooled = calibrate_answers(asker, unseen, known, seed=seed)
        with torch.inference_mode():
            flags = torch.from_numpy(unseen.has_reference)
            distance = network.distance(torch.from_numpy(pooled).float(), flags).double().numpy()
        limit = float(np.quantile(distance, _OOD_QUANTILE)) or 1.0
        modes.append(mode.model_copy(update={"ood_distance": limit}))
    return Calibration(without_reference=modes[0], with_reference=modes[1])


def calibrate_answers(
    asker: Asker,
    validation: SpectraArrays,
    known: NDArray[np.bool_],
    *,
    seed: int,
    threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS,
) -> tuple[ModeCalibration, NDArray[np.float64]]:
    """Presence maps and interval factors of anything that answers, and the pooled tokens of the validation rows."""
    rng = np.random.default_rng(seed)
    truth = validation.truth
    free = asker(validation, everything(validation.host, known))
    listed = asker(validation, guesses(truth, validation.host, known, rng))
    present = truth > 0
    # Known dopants are asked about in both modes and get nearly the same figures; both count, for both will be used.
    pairs = [(answers, present & np.isfinite(answers.presence_logit)) for answers in (free, listed)]
    log_true = np.concatenate([np.log(truth[chosen].astype(np.float64)) for _, chosen in pairs])
    log_mean = np.concatenate([answers.log_concentration[chosen] for answers, chosen in pairs])
    log_spread = np.concatenate([answers.log_spread[chosen] for answers, chosen in pairs])
    calibration = ModeCalibration(
        with_candidates=fit_presence(listed.presence_logit, present, threshold_bounds=threshold_bounds),
        guess_free=fit_presence(free.presence_logit, present, threshold_bounds=threshold_bounds),
        interval_factors=fit_intervals(log_true, log_mean, log_spread),
    )
    return calibration, free.pooled


def fit_distance(network: DefectNetwork, pooled: NDArray[np.float64], *, with_reference: bool) -> None:
    """Set the centre and the whitening of the network's Mahalanobis distance from the training rows' pooled tokens."""
    centre = pooled.mean(axis=0)
    _, singular, directions = np.linalg.svd(pooled - centre, full_matrices=False)
    deviation = singular / np.sqrt(max(len(pooled) - 1, 1))
    rank = min(OOD_RANK, len(deviation), network.ood_whitening.shape[2])
    floor = np.sqrt(_VARIANCE_FLOOR) * max(float(deviation[0]), 1e-12)
    whitening = np.zeros(tuple(network.ood_whitening.shape[1:]))
    whitening[:, :rank] = directions[:rank].T / np.maximum(deviation[:rank], floor)
    mode = int(with_reference)
    network.ood_centre[mode].copy_(torch.from_numpy(centre))
    network.ood_whitening[mode].copy_(torch.from_numpy(whitening))
