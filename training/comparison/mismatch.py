"""How a measurement and a calculation differ, done to rows as they are trained on, a batch at once."""

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defectnet.model.comparison.axis import CENTRES, EVEN_TO, WIDTHS, smearing
from defectnet.model.comparison.warping import WIDTHS_TRIED
from defectnet.settings import Settings
from defectnet.spectrum import MODES_PER_ATOM

__all__ = ["Mismatch", "MismatchSettings", "bent"]

_CENTRES = torch.tensor(CENTRES, dtype=torch.float32)
_WIDTHS = torch.tensor(WIDTHS, dtype=torch.float32)
_WITHIN = _CENTRES.clamp(max=EVEN_TO)
_KNOTS = 16  # of a smooth factor along the axis


class MismatchSettings(Settings):
    """How often, and how strongly."""

    warp_probability: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the rows whose axis differs from the computed host's, by what registration leaves."""

    warp_sigma: float = Field(default=0.003, ge=0.0, lt=0.1)
    """Relative, standard deviation; bends have two thirds and half of it."""

    drift_probability: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of the rows whose sample and reference, though measured alike, differ by a little of the axis."""

    drift_sigma: float = Field(default=0.002, ge=0.0, lt=0.1)
    """Relative, standard deviation, of that difference."""

    other_reference_probability: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of the rows whose reference is computed: another axis, width and heights of the peaks than the sample's."""

    other_reference_sigma: float = Field(default=0.006, ge=0.0, lt=0.1)
    """Relative, standard deviation, of what registration leaves of that axis."""

    other_heights_sigma: float = Field(default=0.04, ge=0.0, lt=1.0)
    """Relative, standard deviation, by which the heights differ, smoothly along the axis."""

    resolution_probability: float = Field(default=0.25, ge=0.0, le=1.0)
    """Share of the rows that are smeared, sample, reference and responses alike."""

    noise_probability: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of the rows with counting noise, sample and reference each on its own."""

    counts_range: tuple[float, float] = (1e5, 1e8)
    """Counts of the whole spectrum, drawn log-uniformly."""

    cut_probability: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the rows without their lowest part."""

    cut_range: tuple[float, float] = (0.03, 0.15)
    """Where that part ends, in units of the host's top, drawn log-uniformly."""


class Mismatch:
    """Applies `MismatchSettings` to batches."""

    def __init__(self, settings: MismatchSettings) -> None:
        self.settings = settings
        self._smearing = torch.stack([smearing(width) for width in WIDTHS_TRIED[1:]])

    def __call__(
        self, sample: Tensor, reference: Tensor, curves: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Densities (B, N), responses (B, K, 3, N); returns them changed, and which references are not like the sample.

        Shapes are kept; the last is (B,), bool.
        """
        s, b = self.settings, sample.shape[0]

        def draw(probability: float) -> Tensor:
            return torch.rand(b, generator=generator) < probability

        axis = self._bends(b, s.warp_sigma, (1.0, 0.67, 0.5), generator) * draw(s.warp_probability)[:, None]
        sample, reference = bent(sample, axis), bent(reference, axis)
        other = draw(s.other_reference_probability)
        axis = self._bends(b, s.other_reference_sigma, (1.0, 0.7, 0.5), generator)
        axis = torch.where(other[:, None], axis, self._bends(b, s.drift_sigma, (1.0, 0.3, 0.3), generator))
        apart = other | draw(s.drift_probability)
        sample = torch.where(apart[:, None], bent(sample, axis), sample)
        sample = torch.where(other[:, None], self._uneven(sample, generator), sample)
        width = torch.randint(1, len(WIDTHS_TRIED), (b,), generator=generator) * draw(s.resolution_probability)
        # A computed reference is smeared by the width that was found, which may be the next one.
        beside = (width + torch.randint(-1, 2, (b,), generator=generator)).clamp(0, len(WIDTHS_TRIED) - 1)
        found = torch.where(other, beside, width)
        sample, reference, curves = sample.clone(), reference.clone(), curves.clone()
        for place, smear in enumerate(self._smearing, 1):
            rows, registered = width == place, found == place
            sample[rows] = sample[rows] @ smear
            reference[registered] = reference[registered] @ smear
            curves[registered] = curves[registered] @ smear
        noisy = draw(s.noise_probability)[:, None]
        counts = self._between(b, s.counts_range, generator)
        sample, reference = (torch.where(noisy, _with_noise(x, counts, generator), x) for x in (sample, reference))
        cut = self._between(b, s.cut_range, generator)[:, None] * draw(s.cut_probability)[:, None]
        shown = _CENTRES[None] > cut
        return sample * shown, reference * shown, curves * shown[:, None, None], other

    def _bends(self, b: int, sigma: float, shares: tuple[float, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(b, 3, generator=generator) * sigma * torch.tensor(shares)

    def _uneven(self, density: Tensor, generator: torch.Generator) -> Tensor:
        """Densities (B, N) whose heights are off by a smooth factor; 3 modes are kept."""
        knots = torch.randn(len(density), 1, _KNOTS, generator=generator)
        along = functional.interpolate(knots, size=density.shape[1], mode="linear", align_corners=True)[:, 0]
        return _of_three_modes(density * (1 + self.settings.other_heights_sigma * along))

    def _between(self, b: int, ends: tuple[float, float], generator: torch.Generator) -> Tensor:
        low, high = np.log(ends)
        return torch.exp(torch.rand(b, generator=generator) * (high - low) + low)


def bent(density: Tensor, bend: Tensor) -> Tensor:
    """Densities (B, N) seen on an axis that is stretched and bent by `bend`, (B, 3); 3 modes are kept."""
    factor = 1 + bend[:, :1] + bend[:, 1:2] * (math.pi * _WITHIN).sin() + bend[:, 2:] * (2 * math.pi * _WITHIN).sin()
    return _of_three_modes(_moved(density, _CENTRES * factor))


def _of_three_modes(density: Tensor) -> Tensor:
    return density * (MODES_PER_ATOM / (density * _WIDTHS).sum(dim=1, keepdim=True).clamp(min=1e-3))


def _moved(curves: Tensor, places: Tensor) -> Tensor:
    """Curves (B, N) read at `places` (B, N) of their axis, linearly."""
    upper = torch.searchsorted(_CENTRES, places.contiguous()).clamp(1, len(_CENTRES) - 1)
    low, high = _CENTRES[upper - 1], _CENTRES[upper]
    part = ((places - low) / (high - low)).clamp(0, 1)
    return curves.gather(1, upper - 1) * (1 - part) + curves.gather(1, upper) * part


def _with_noise(density: Tensor, counts: Tensor, generator: torch.Generator) -> Tensor:
    share = (density * _WIDTHS / MODES_PER_ATOM).clamp(min=0)
    noise = torch.randn(density.shape, generator=generator) * (share / counts[:, None]).sqrt()
    return density + MODES_PER_ATOM * noise / _WIDTHS
