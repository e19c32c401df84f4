"""What training minimises: presence of every candidate, and the concentration of every true dopant with its spread."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from defectnet.network import Answer

__all__ = ["Loss", "answer_loss"]

# Weight of each sample's Gaussian likelihood by its variance to this power (beta-NLL, Seitzer et al.,
# arXiv:2203.09168): without it the spread grows first and the mean of hard samples is never learned.
_BETA = 0.5


@dataclass
class Loss:
    """Mean over the spectra of a batch, each term summed over its elements."""

    total: Tensor
    presence: Tensor
    concentration: Tensor


def answer_loss(answer: Answer, truth: Tensor, *, concentration_weight: float) -> Loss:
    """Binary cross-entropy of presence plus `concentration_weight` times the beta-NLL of log concentration.

    Args:
        truth: shape (B, V), fractions of all atoms, 0 where absent.
    """
    n_spectra = truth.shape[0]
    asked = torch.isfinite(answer.presence_logit)
    present = (truth > 0) & asked
    presence = F.binary_cross_entropy_with_logits(
        answer.presence_logit[asked], present[asked].to(truth.dtype), reduction="sum"
    )
    residual = truth[present].log() - answer.log_concentration[present]
    log_spread = answer.log_spread[present]
    nll = 0.5 * (residual / log_spread.exp()).square() + log_spread
    concentration = (nll * (2 * _BETA * log_spread.detach()).exp()).sum()
    presence, concentration = presence / n_spectra, concentration / n_spectra
    return Loss(presence + concentration_weight * concentration, presence, concentration)
