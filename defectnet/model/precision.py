"""In which numbers a network multiplies: 32 bits, or 16 where a device is faster with them."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

__all__ = ["Precision", "multiplying_in"]

Precision = Literal["float32", "bfloat16"]


def multiplying_in(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """A context in which layers on `device` multiply in this precision; sums, norms and weights stay in 32 bits."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
