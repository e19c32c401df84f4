"""What instruments do to a spectrum, done to binned spectra as they are trained on.

Everything works on shares of modes per bin of a `FrequencyGrid`, a whole batch at once. A real sample and its reference
are usually measured on the same instrument, so axis error and resolution strike both alike, noise each on its own.
"""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from defectnet.model.features import FrequencyGrid
from defectnet.settings import Settings

__all__ = ["OFF", "AugmentSettings", "Augmenter"]


class AugmentSettings(Settings):
    """How often, and how strongly. The defaults are light: most rows stay as simulated."""

    energy_scale_probability: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the rows whose energy axis is stretched, sample and reference alike."""

    energy_scale_sigma: float = Field(default=0.005, ge=0.0, lt=0.2)
    """Relative error of the energy axis, standard deviation; 0.5 % is usual for time-of-flight spectrometers."""

    resolution_probability: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the rows that are smeared, sample and reference alike."""

    resolution_range: tuple[float, float] = (0.002, 0.02)
    """Gaussian width (sigma) as a fraction of the energy, drawn log-uniformly; 1 % to 4 % of the energy transfer spans
    today's chopper and crystal-analyser instruments."""

    noise_probability: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the spectra with counting noise, sample and reference each on its own."""

    counts_range: tuple[float, float] = (1e5, 1e8)
    """Counts of the whole spectrum, whose Poisson noise it gets, drawn log-uniformly."""

    background_probability: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the spectra with a background, sample and reference each on its own."""

    background_range: tuple[float, float] = (0.001, 0.02)
    """Share of all counts that a background, flat in energy up to the top of the band, has; drawn log-uniformly."""

    mismatch_probability: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of the rows whose reference is another crystal's, or computed: it gets an energy scale and a resolution of
    its own."""

    mismatch_scale_sigma: float = Field(default=0.01, ge=0.0, lt=0.2)
    """Relative error of such a reference's energy axis, standard deviation."""

    low_cut_probability: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the rows without their lowest part, in sample and reference alike: the elastic line hides it."""

    low_cut_range: tuple[float, float] = (0.03, 0.15)
    """Where that part ends, as a share of the band's top, drawn log-uniformly."""


# Every one of the effects switched off.
OFF = {name: 0.0 for name in AugmentSettings.model_fields if name.endswith("_probability")}
# Widths for which a smearing matrix is kept; a drawn width takes the nearest, which is within 15 %.
_N_WIDTHS = 8


class Augmenter:
    """Applies `AugmentSettings` to batches of one grid."""

    def __init__(self, settings: AugmentSettings, grid: FrequencyGrid) -> None:
        self.settings, self.grid = settings, grid
        self._edges_u = torch.arange(grid.n_bins + 1) * grid.bin_width
        low, high = settings.resolution_range
        self._widths = torch.logspace(np.log10(low), np.log10(high), _N_WIDTHS)
        self._smearing = torch.stack([smearing_matrix(grid, float(width)) for width in self._widths])
        self._centres = torch.from_numpy(grid.centres_thz).float()
        self._bin_thz = torch.from_numpy(np.diff(grid.edges_thz)).float()

    def __call__(self, sample: Tensor, reference: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return changed copies of (B, N) shares; rows of zeros (no reference) stay zero."""
        s = self.settings
        n = sample.shape[0]
        both = torch.stack([sample, reference], dim=1)  # (B, 2, N)

        chosen = torch.rand(n, generator=generator) < s.energy_scale_probability
        error = torch.randn(n, generator=generator) * s.energy_scale_sigma * chosen
        if chosen.any():
            both = self._scaled(both, error)
        chosen = torch.rand(n, generator=generator) < s.resolution_probability
        width = torch.randint(_N_WIDTHS, (n,), generator=generator)
        if chosen.any():
            rows = chosen.nonzero()[:, 0]
            both[rows] = torch.bmm(both[rows], self._smearing[width[rows]])
        chosen = torch.rand(n, generator=generator) < s.mismatch_probability
        error = torch.randn(n, generator=generator) * s.mismatch_scale_sigma * chosen
        width = torch.randint(_N_WIDTHS, (n,), generator=generator)
        if chosen.any():
            rows = chosen.nonzero()[:, 0]
            own = self._scaled(both[rows, 1:], error[rows])
            both[rows, 1:] = torch.bmm(own, self._smearing[width[rows]])
        chosen = torch.rand((n, 2, 1), generator=generator) < s.background_probability
        if chosen.any():
            share = _log_uniform(s.background_range, (n, 2, 1), generator) * chosen
            both = (1 - share) * both + share * self._flat(both) * (both.sum(dim=2, keepdim=True) > 0)
        chosen = torch.rand((n, 2, 1), generator=generator) < s.noise_probability
        if chosen.any():
            counts = _log_uniform(s.counts_range, (n, 2, 1), generator)
            noisy = torch.poisson(both.clamp(min=0) * counts, generator=generator) / counts
            both = torch.where(chosen, noisy, both)
        chosen = torch.rand(n, generator=generator) < s.low_cut_probability
        if chosen.any():
            share = _log_uniform(s.low_cut_range, (n,), generator) * chosen
            both = both * (self._centres >= share[:, None] * self._top(sample)[:, None])[:, None]
        both = both / both.sum(dim=2, keepdim=True).clamp(min=1e-9)
        return both[:, 0].contiguous(), both[:, 1].contiguous()

    def _scaled(self, both: Tensor, error: Tensor) -> Tensor:
        """Stretch the energy axis by 1 + error, keeping every mode: new bins are cut out of the cumulative sum."""
        n, n_spectra, n_bins = both.shape
        total = torch.nn.functional.pad(both.cumsum(dim=2), (1, 0))  # (B, spectra, N + 1)
        u = torch.asinh(torch.sinh(self._edges_u)[None] / (1 + error)[:, None])  # (B, N + 1)
        place = (u / self.grid.bin_width).clamp(max=n_bins)
        left = place.floor().clamp(max=n_bins - 1).long()
        weight = (place - left)[:, None]
        index = left[:, None].expand(n, n_spectra, -1)
        cut = (1 - weight) * total.gather(2, index) + weight * total.gather(2, index + 1)
        return cut.diff(dim=2)

    def _top(self, shares: Tensor) -> Tensor:
        """Frequency below which 99 % of each row's modes lie, THz, shape (B,)."""
        above = (shares.cumsum(dim=1) < 0.99 * shares.sum(dim=1, keepdim=True)).sum(dim=1)
        return self._centres[above.clamp(max=self.grid.n_bins - 1)]

    def _flat(self, both: Tensor) -> Tensor:
        """Shares of a density that is constant up to the highest filled bin of each spectrum."""
        reach = both.flip(2).cumsum(dim=2).flip(2) > 1e-4
        flat = self._bin_thz * reach
        return flat / flat.sum(dim=2, keepdim=True).clamp(min=1e-9)


def smearing_matrix(grid: FrequencyGrid, relative_sigma: float) -> Tensor:
    """Where the modes of each bin go under a Gaussian of sigma = `relative_sigma` * energy: (N, N), rows sum to 1."""
    centre = torch.from_numpy(grid.centres_thz)
    edges = torch.from_numpy(grid.edges_thz)
    sigma = (relative_sigma * centre).clamp(min=1e-6)[:, None]
    below = 0.5 * (1 + torch.erf((edges[None] - centre[:, None]) / (sigma * 2**0.5)))
    matrix = below.diff(dim=1)
    return (matrix / matrix.sum(dim=1, keepdim=True)).float()


def _log_uniform(bounds: tuple[float, float], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    low, high = np.log(bounds[0]), np.log(bounds[1])
    return (low + (high - low) * torch.rand(shape, generator=generator)).exp()
