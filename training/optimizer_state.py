"""What an optimiser knows of a network's parameters, as tensors by name: plain, no pickle."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["load_optimizer", "optimizer_tensors"]

_PREFIX = "optimizer"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def optimizer_tensors(optimizer: torch.optim.AdamW, network: nn.Module) -> dict[str, Tensor]:
    """The moments and the count of steps of each parameter of `network`, by "optimizer.KEY.PARAMETER"."""
    return {
        f"{_PREFIX}.{key}.{name}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(optimizer: torch.optim.AdamW, network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take up what `optimizer_tensors` gave; a parameter that `tensors` knows nothing of begins anew."""
    for name, parameter in network.named_parameters():
        state = {key: tensors.get(f"{_PREFIX}.{key}.{name}") for key in ("step", *_MOMENTS)}
        found = {key: value for key, value in state.items() if value is not None}
        if len(found) == len(state):
            # Where AdamW keeps them: the moments beside the weights, the count of steps on the CPU.
            optimizer.state[parameter] = found | {key: found[key].to(parameter.device) for key in _MOMENTS}
