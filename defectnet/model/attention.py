"""Where in the spectrum each element's query looks: the weights of the last reading layer, for pictures."""

import torch
from torch import Tensor

from defectnet.model.network import DefectNetwork, Inputs, compact

__all__ = ["attention_map"]


def attention_map(network: DefectNetwork, given: Inputs) -> Tensor:
    """Attention of every asked element to every spectral token, shape (B, V, T), mean over members and heads.

    Rows sum to less than 1: the rest goes to the host's tokens. Elements that were not asked have zeros.
    """
    asked = given.asked & (given.host <= 0)
    chosen, padding = compact(asked)
    n_tokens = network.grid.n_bins // network.settings.patch_bins
    maps = []
    for member in network.members:
        read = member.decoder[-1].read  # type: ignore[union-attr, index]
        caught: list[tuple[Tensor, Tensor, Tensor]] = []
        handle = read.register_forward_pre_hook(lambda _, arguments, caught=caught: caught.append(arguments))
        try:
            with torch.inference_mode():
                member(given)
                weights = read.weights(*caught[0]).mean(dim=1)  # (B, Q, T + H)
        finally:
            handle.remove()
        weights = weights[..., :n_tokens].masked_fill(padding[..., None], 0.0)
        full = weights.new_zeros((*asked.shape, n_tokens))
        maps.append(full.scatter(1, chosen[..., None].expand_as(weights), weights))
    return torch.stack(maps).mean(dim=0)
