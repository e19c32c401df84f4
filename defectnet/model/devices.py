"""Where a network computes: a device by the name that torch has for it."""

import torch

from defectnet.errors import SettingsError

__all__ = ["device_named"]


def device_named(name: str) -> torch.device:
    """The device of this name, such as "cuda:1".

    Raises:
        SettingsError: this machine has none.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # a torch without CUDA asserts
        said = (str(error).splitlines() or [""])[0][:120]
        raise SettingsError(
            f"cannot compute on {name!r} ({said}); give a device of this machine, such as cpu"
        ) from None
    return device
