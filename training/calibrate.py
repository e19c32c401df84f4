"""Fit everything that is fitted after the weights: presence, intervals, and the distance to the training spectra.

Presence and intervals come from the validation hosts, whose spectra the weights never saw; the test hosts stay unseen.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.model.calibration import THRESHOLD_BOUNDS, Calibration, ModeCalibration, fit_intervals, fit_presence
from defectnet.model.network import DefectNetwork
from training.candidates import all_candidates, candidate_lists
from training.dataset import SpectraArrays
from training.inference import Answerer, Answers, run_network

__all__ = ["calibrate", "calibrate_answers", "distances", "fit_distance"]

# Share of unseen hosts' spectra beyond the distance at which the out-of-distribution score reaches 0.5.
_OOD_QUANTILE = 0.99
# Variances below this share of the largest direction's are noise of the weights; dividing by them would amplify it.
_VARIANCE_FLOOR = 1e-3
# A column that never varies in training (a flag) is not infinitely telling.
_LEAST_DEVIATION = 1e-3


def calibrate(
    network: DefectNetwork, train: SpectraArrays, validation: SpectraArrays, known: NDArray[np.bool_], *, seed: int
) -> Calibration:
    """Calibrate `network`: its distance in place, the rest returned; with the references and without them."""

    def answerer(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return run_network(network, data, asked)

    def without_prior(data: SpectraArrays, asked: NDArray[np.bool_]) -> Answers:
        return run_network(network, data, asked, prior=False)

    modes = []
    for with_reference in (False, True):
        near, unseen = (
            data.where(data.has_reference) if with_reference else data.without_reference()
            for data in (train, validation)
        )
        if not len(near) or not len(unseen):  # a table of measured spectra may have no reference at all
            modes.append(ModeCalibration())
            continue
        fit_distance(network, answerer(near, all_candidates(near.host, known)), with_reference=with_reference)
        mode, free = calibrate_answers(answerer, unseen, known, seed=seed)
        plain, _ = calibrate_answers(without_prior, unseen, known, seed=seed)
        limit = float(np.quantile(distances(network, free, unseen.has_reference), _OOD_QUANTILE)) or 1.0
        changes = {
            "ood_distance": limit,
            "with_candidates_no_prior": plain.with_candidates,
            "guess_free_no_prior": plain.guess_free,
        }
        modes.append(mode.model_copy(update=changes))
    return Calibration(without_reference=modes[0], with_reference=modes[1])


def calibrate_answers(
    answerer: Answerer,
    validation: SpectraArrays,
    known: NDArray[np.bool_],
    *,
    seed: int,
    threshold_bounds: tuple[float, float] = THRESHOLD_BOUNDS,
) -> tuple[ModeCalibration, Answers]:
    """Presence maps and interval factors of anything that answers, and its guess-free answers."""
    rng = np.random.default_rng(seed)
    truth = validation.truth
    free = answerer(validation, all_candidates(validation.host, known))
    listed = answerer(validation, candidate_lists(truth, validation.host, known, rng))
    present = truth > 0
    # Known dopants are asked about in both modes and get nearly the same figures; both count, for both will be used.
    pairs = [(answers, present & np.isfinite(answers.presence_logit)) for answers in (free, listed)]
    log_true = np.concatenate([np.log(truth[chosen].astype(np.float64)) for _, chosen in pairs])
    log_mean = np.concatenate([answers.log_concentration[chosen] for answers, chosen in pairs])
    log_spread = np.concatenate([answers.log_spread[chosen] for answers, chosen in pairs])
    calibration = ModeCalibration(
        with_candidates=fit_presence(
            listed.presence_logit, present, listed.expected, threshold_bounds=threshold_bounds
        ),
        guess_free=fit_presence(free.presence_logit, present, free.expected, threshold_bounds=threshold_bounds),
        interval_factors=fit_intervals(log_true, log_mean, log_spread),
    )
    return calibration, free


def distances(network: DefectNetwork, answers: Answers, has_reference: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The network's distance of each spectrum to the training spectra, shape (n,)."""
    with torch.inference_mode():
        pooled, signature = (torch.from_numpy(array).float() for array in (answers.pooled, answers.signature))
        return network.distance(pooled, signature, torch.from_numpy(has_reference)).double().numpy()


def fit_distance(network: DefectNetwork, answers: Answers, *, with_reference: bool) -> None:
    """Set the centres and whitenings of the network's distance from its answers to the training rows."""
    mode = int(with_reference)
    for values, centre, whitening in (
        (answers.pooled, network.ood_centre, network.ood_whitening),
        (answers.signature, network.signature_centre, network.signature_whitening),
    ):
        mean = values.mean(axis=0)
        # In units of each column's own deviation, so that no column counts for less because its unit is larger.
        deviation = np.maximum(values.std(axis=0), _LEAST_DEVIATION)
        _, singular, directions = np.linalg.svd((values - mean) / deviation, full_matrices=False)
        spread = singular / np.sqrt(max(len(values) - 1, 1))
        rank = min(len(spread), whitening.shape[2])
        floor = np.sqrt(_VARIANCE_FLOOR) * max(float(spread[0]), _LEAST_DEVIATION)
        matrix = np.zeros(tuple(whitening.shape[1:]))
        matrix[:, :rank] = directions[:rank].T / np.maximum(spread[:rank], floor) / deviation[:, None]
        centre[mode].copy_(torch.from_numpy(mean))
        whitening[mode].copy_(torch.from_numpy(matrix))
