"""What the network is shown of a spectrum: its channels, its scale, and where each token lies.

Shapes as in `defectnet.model.network`: B spectra, N bins, T spectral tokens.
"""

import torch
from torch import Tensor

from defectnet.model.features import FrequencyGrid
from defectnet.model.mass_defect import CHANGE_FLOOR

__all__ = ["N_CHANNELS", "absolute_positions", "channels", "fourier", "log_scale", "roughness"]

# 1 % of a dopant is an L1 distance of about 0.04 between densities normalised to 1: scaled up to order one.
DIFFERENCE_SCALE = 10.0
# A second, steeper view of the difference for dopants far below 1 %, squashed so that strong ones do not saturate.
SMALL_DIFFERENCE_SCALE = 200.0
# Floor of the density inside the log ratio: lower, and bins that hold numerical dust would outweigh the bands.
RATIO_FLOOR = 0.01
FORM_LIMIT = 10.0
N_CHANNELS = 8
_FOURIER_OCTAVES = 6


def channels(sample: Tensor, reference: Tensor, has_reference: Tensor, bin_width: float) -> Tensor:
    """Input channels of the convolution, shape (B, 8, N); all that needs the reference is zero where it is absent."""
    known = has_reference[:, None].to(sample.dtype)  # (B, 1)
    density = sample / bin_width  # per u, integrates to 1
    pristine = reference * known / bin_width
    difference = (density - pristine) * known
    # The change's form alone, the same for 1 % and 2 % of one dopant.
    form = difference / (difference.abs().sum(dim=1, keepdim=True) * bin_width + CHANGE_FLOOR)
    ratio = torch.log((density + RATIO_FLOOR) / (pristine + RATIO_FLOOR)) * known
    return torch.stack(
        [
            density.clamp(min=0).sqrt(),
            pristine.clamp(min=0).sqrt(),
            DIFFERENCE_SCALE * difference,
            torch.asinh(SMALL_DIFFERENCE_SCALE * difference),
            form,
            (form / pristine.clamp(min=RATIO_FLOOR)).clamp(-FORM_LIMIT, FORM_LIMIT),
            ratio,
            known.expand_as(sample),
        ],
        dim=1,
    )


def log_scale(sample: Tensor, reference: Tensor, has_reference: Tensor, centres: Tensor) -> Tensor:
    """Log of the root mean square frequency of the host where it is known, else of the sample; shape (B,).

    Args:
        sample, reference, has_reference: as in `defectnet.model.network.Inputs`.
        centres: shape (N,), THz.
    """
    pristine = torch.where(has_reference[:, None], reference, sample).clamp(min=0)
    return 0.5 * (pristine @ centres.square() / pristine.sum(dim=1).clamp(min=1e-9)).clamp(min=1e-6).log()


def roughness(shares: Tensor) -> Tensor:
    """How much each bin differs from the mean of its neighbours, summed over the spectrum; shape (B,)."""
    return (shares[:, 1:-1] - 0.5 * (shares[:, 2:] + shares[:, :-2])).abs().sum(dim=1)


def absolute_positions(grid: FrequencyGrid, patch_bins: int) -> Tensor:
    """Sines and cosines of the absolute log-frequency of each patch, shape (T, 2 * octaves + 1)."""
    centres = torch.from_numpy(grid.centres_thz).reshape(-1, patch_bins).mean(dim=1)
    return fourier(torch.log1p(centres / grid.scale_thz) / torch.log1p(torch.tensor(grid.top_thz / grid.scale_thz)))


def fourier(x: Tensor) -> Tensor:
    """x itself, and its sines and cosines, in a new last dimension of 2 * octaves + 1."""
    angles = x[..., None] * torch.pi * 2.0 ** torch.arange(_FOURIER_OCTAVES, device=x.device)
    return torch.cat([x[..., None], angles.sin(), angles.cos()], dim=-1).float()
