"""What training minimises: presence of every candidate, concentration and spread of every true dopant, where the
dopants' modes lie, and which host element's atoms move in each band.

The last two are asked of nobody afterwards. They are dense, where presence is a few bits a spectrum; what places a
local mode correctly has understood what mass and bonds do to it, and who moves where decides what a dopant can do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from defectnet.model.network import Answer

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
    modes: Tensor
    owners: Tensor


def answer_loss(
    answer: Answer,
    truth: Tensor,
    partial: Tensor,
    partial_element: Tensor,
    *,
    concentration_weight: float,
    modes_weight: float,
    owners_weight: float,
) -> Loss:
    """Cross-entropy of presence, beta-NLL of log concentration, cross-entropies of the dopants' modes and of owners.

    Args:
        truth: shape (B, V), fractions of all atoms, 0 where absent.
        partial: shape (B, E, N), the modes of each element of the doped crystals by bin, on any scale.
        partial_element: shape (B, E), which element each is, −1 for none.
        concentration_weight, modes_weight, owners_weight: of the other terms beside the first.
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
    lying = partial.to(truth.dtype).unflatten(2, (answer.modes_logit.shape[2], -1)).sum(dim=3)  # (B, E, T)
    modes = _modes_loss(answer, truth, lying, partial_element)
    owners = _owners_loss(answer, truth, lying, partial_element)
    presence, concentration, modes, owners = (term / n_spectra for term in (presence, concentration, modes, owners))
    total = presence + concentration_weight * concentration + modes_weight * modes + owners_weight * owners
    return Loss(total, presence, concentration, modes, owners)


def _modes_loss(answer: Answer, truth: Tensor, lying: Tensor, partial_element: Tensor) -> Tensor:
    """Cross-entropy between the tokens in which a dopant's modes lie and those in which they are said to, summed."""
    index = partial_element.clamp(min=0)
    asked = torch.isfinite(answer.presence_logit)
    dopant = (partial_element >= 0) & (truth > 0).gather(1, index) & asked.gather(1, index)
    weight = lying.sum(dim=2, keepdim=True)
    lying = lying / weight.clamp(min=1e-9)
    said = answer.modes_logit.gather(1, index[..., None].expand_as(lying)).log_softmax(dim=2)
    return -(lying * said).sum(dim=2).mul(dopant & (weight[..., 0] > 0)).sum()


def _owners_loss(answer: Answer, truth: Tensor, lying: Tensor, partial_element: Tensor) -> Tensor:
    """Cross-entropy of which host element's atoms move, over the modes of the host's atoms, summed."""
    index = partial_element.clamp(min=0)
    host = (partial_element >= 0) & (truth <= 0).gather(1, index)
    said = answer.owner_log.gather(1, index[..., None].expand_as(lying))
    return -(lying * said).sum(dim=2).mul(host).sum()
