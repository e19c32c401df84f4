"""What lattice dynamics says of each candidate before anything is learned: the network reads it beside the spectrum.

An atom of another mass on one site of a harmonic crystal, held by another spring, is solved exactly by the Green's
function of that site (Lifshitz 1943; Maradudin, Montroll and Weiss, *Theory of lattice dynamics in the harmonic
approximation*, chapter VIII). With g(ω), the density projected on the site, λ = ω², and for each direction of motion

    G(λ) = ∫ g(ω') / (λ - ω'²) dω'        f(λ) = 1 - (ε λ + κ Λ) G(λ)        Δρ(λ) = -Im d/dλ ln f(λ) / π

ε = 1 - M'/M is the mass defect, κ the relative change of the spring, and Λ = ∫ g ω² dω the spring over the mass. Sites
are taken as isotropic and dopants as far apart: each adds Δρ in proportion to its number.

Shapes: B spectra, N bins, V elements, H host elements, Q candidates.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.elements import VOCABULARY, atomic_mass
from defectnet.model.features import FrequencyGrid

__all__ = ["CHANGE_FLOOR", "N_MOMENTS", "MassDefect", "Physics", "moved_moments"]

# Least L1 change of a spectrum that counts, so that the logarithm of none is finite: a tenth of the median change at
# 0.5 %, and about the scatter between random configurations.
CHANGE_FLOOR = 0.003
N_MOMENTS = 5
# Poles are broadened by this share of their frequency, about the width of a bin.
_BROADENING = 0.012
_LEAST_BROADENING_THZ = 1e-3
# Points at which the density is thought to sit inside each bin.
_POINTS = 8
# A dopant's spring lies within this factor of the host's, as a natural log.
_MOST_SPRING = 1.0
# Least square of a change for a unit concentration that counts, and the share of it by which joint fits are damped.
_RIDGE, _RIDGE_SHARE = 1e-3, 0.02
_TINY = 1e-8
# Amounts are read on a scale that is linear below this concentration and logarithmic above.
_AMOUNT = 0.01
# Mass ratios nearer to one than this, as natural logs, say nothing about the amount.
_LEAST_LOG_MASS = 0.1
# Where a candidate's view of the spectrum is cut, as multiples of the frequency that its mass gives it.
_VIEW = (0.3, 0.42, 0.54, 0.64, 0.74, 0.84, 0.95, 1.06, 1.18, 1.3, 1.45, 1.6, 1.8, 2.1, 2.6)


@lru_cache(maxsize=2)  # 20 ms, for each member of each model, of which a service loads many
def _kernels(n_bins: int, scale_thz: float, top_thz: float) -> Tensor:
    """What makes λ G, for the mass, and G, for the spring, of mode shares on a grid: shape (2, N, 2 (N + 1)).

    In real numbers, for complex ones are slow: real parts stand before imaginary ones.
    """
    grid = FrequencyGrid(n_bins=n_bins, scale_thz=scale_thz, top_thz=top_thz)
    edges = torch.from_numpy(grid.edges_thz).to(torch.complex128)
    poles = edges * (1 + 1j * _BROADENING) + 1j * _LEAST_BROADENING_THZ
    u = (torch.arange(grid.n_bins * _POINTS, dtype=torch.float64) + 0.5) * (grid.bin_width / _POINTS)
    points = grid.scale_thz * torch.sinh(u)
    kernel = 1.0 / (poles.square()[:, None] - points.square()[None, :])
    kernel = kernel.unflatten(1, (grid.n_bins, _POINTS)).mean(dim=2).T  # (N, N + 1): g @ kernel is G
    both = torch.stack([poles.square() * kernel, kernel])
    return torch.cat([both.real, both.imag], dim=2).float()


class MassDefect(nn.Module):
    """Changes of the mode shares that dopants cause, on one frequency grid."""

    kernels: Tensor
    centres: Tensor

    def __init__(self, grid: FrequencyGrid) -> None:
        super().__init__()
        self.register_buffer("kernels", _kernels(grid.n_bins, grid.scale_thz, grid.top_thz), persistent=False)
        self.register_buffer("centres", torch.from_numpy(grid.centres_thz).float(), persistent=False)

    def forward(self, projected: Tensor, place: Tensor, mass_ratio: Tensor, spring: Tensor) -> Tensor:
        """Changes of the mode shares for a unit concentration of each dopant.

        Args:
            projected: shape (B, H, N), mode shares projected on each host element's sites; rows sum to 1.
            place: shape (B, Q), which of the H each dopant replaces.
            mass_ratio: shape (B, Q), the dopant's mass over the site's.
            spring: shape (B, Q), relative change of the site's spring, above -1.

        Returns:
            shape (B, Q, N), times the fraction of all atoms it is the change of shares that sum to 1.
        """
        n_hosts = projected.shape[1]
        green = torch.cat([projected @ kernel for kernel in self.kernels], dim=1)  # (B, 2 H, 2 (N + 1))
        stiffness = (projected @ self.centres.square()).gather(1, place)  # (B, Q), THz²
        own = F.one_hot(place, n_hosts).to(green.dtype)  # (B, Q, H)
        defect = torch.cat([own * (1.0 - mass_ratio)[..., None], own * (spring * stiffness)[..., None]], dim=2)
        real, imaginary = (defect @ green).chunk(2, dim=2)  # each (B, Q, N + 1)
        real = 1.0 - real  # f, but for the sign of its imaginary part
        across = imaginary[..., 1:] * real[..., :-1] - real[..., 1:] * imaginary[..., :-1]
        along = real[..., 1:] * real[..., :-1] + imaginary[..., 1:] * imaginary[..., :-1]
        return torch.atan2(across, along) / math.pi


class Physics(nn.Module):
    """Each candidate's share in the change of the spectrum, as its mass and a learned spring would have it."""

    centres: Tensor
    log_mass: Tensor
    view: Tensor

    n_features = 2 * len(_VIEW) + 6

    def __init__(self, grid: FrequencyGrid, n_contrast: int, width: int) -> None:
        """`n_contrast` numbers set a candidate apart from the site it would take; from them its spring is learned."""
        super().__init__()
        self.grid = grid
        self.mass_defect = MassDefect(grid)
        self.hidden, self.spring = nn.Linear(n_contrast, width), nn.Linear(width, 1)
        nn.init.zeros_(self.spring.weight)
        nn.init.zeros_(self.spring.bias)
        masses = torch.tensor([atomic_mass(symbol) for symbol in VOCABULARY])
        self.register_buffer("log_mass", masses.log(), persistent=False)
        self.register_buffer("view", torch.tensor(_VIEW).log(), persistent=False)
        self.register_buffer("centres", torch.from_numpy(grid.centres_thz).float(), persistent=False)

    def forward(
        self,
        sample: Tensor,
        reference: Tensor,
        known: Tensor,
        host: Tensor,
        log_scale: Tensor,
        projected: Tensor,
        place: Tensor,
        site: Tensor,
        chosen: Tensor,
        asked: Tensor,
        contrast: Tensor,
    ) -> Tensor:
        """What is expected of each candidate, and how far the spectrum bears it out.

        Args:
            sample, reference: shape (B, N), mode shares; the reference counts where `known`, shape (B, 1), is 1.
            host: shape (B, V), fractions of all atoms.
            log_scale: shape (B, 1), log of the host's root mean square frequency in THz.
            projected: shape (B, H, N), mode shares projected on each host element's sites; rows sum to 1.
            place, site: shape (B, Q), which of the H each candidate replaces, and its place in the vocabulary.
            chosen, asked: shape (B, Q), the candidates' places in the vocabulary, and which are not padding.
            contrast: shape (B, Q, n_contrast).

        Returns:
            shape (B, Q, n_features); all but the sample's view is zero or a constant where there is no reference.
        """
        difference = (sample - reference) * known  # (B, N)
        view = self._aligned(sample, difference, host, log_scale, chosen)
        # The mean log frequency falls by half the log of the mass ratio for each dopant, whatever the crystal: so much
        # of the candidate would be needed.
        falls = 0.5 * (self.log_mass[site] - self.log_mass[chosen])  # (B, Q)
        moved = moved_moments(difference, self.centres, log_scale)[:, 1:2]
        needed = moved * falls / (falls.square() + _LEAST_LOG_MASS**2)

        ratio = (self.log_mass[chosen] - self.log_mass[site]).exp()
        stiffer = self.spring(F.gelu(self.hidden(contrast)))[..., 0]
        spring = (_MOST_SPRING * torch.tanh(stiffer)).exp() - 1.0
        change = self.mass_defect(projected, place, ratio, spring) * asked[..., None]  # (B, Q, N)
        own, overlap = change.square().sum(dim=2), (change @ difference[..., None])[..., 0]  # (B, Q)
        length = (difference.square().sum(dim=1, keepdim=True) + _TINY).sqrt()  # (B, 1)
        # All together: who explains what the others leave?
        damped = change @ change.transpose(1, 2) + torch.diag_embed(_RIDGE + _RIDGE_SHARE * own)  # (B, Q, Q)
        together = torch.linalg.solve(damped, overlap)
        numbers = [
            torch.asinh(needed / _AMOUNT),
            falls,
            spring,
            overlap / ((own + _TINY).sqrt() * length),
            torch.asinh(overlap / (own + _RIDGE) / _AMOUNT),
            torch.asinh(together / _AMOUNT),
        ]
        return torch.cat([view, torch.stack(numbers, dim=2)], dim=2)

    def _aligned(self, sample: Tensor, difference: Tensor, host: Tensor, log_scale: Tensor, chosen: Tensor) -> Tensor:
        """Sample and change between multiples of the frequency that each candidate's mass gives it, (B, Q, 2 views).

        A dopant's own modes scale with the root of its mass: read so, they look alike for every candidate that fits.
        """
        mean_mass = (host @ self.log_mass)[:, None]  # (B, 1)
        own = log_scale + 0.5 * (mean_mass - self.log_mass[chosen])  # (B, Q), log THz
        edges = (own[..., None] + self.view).exp()  # (B, Q, views), THz
        place = (torch.asinh(edges / self.grid.scale_thz) / self.grid.bin_width).clamp(0, self.grid.n_bins - 1e-3)
        left, weight = place.floor().long(), place - place.floor()
        amount = difference.abs().sum(dim=1, keepdim=True) + CHANGE_FLOOR
        parts = []
        for shares in (sample, difference / amount):
            total = F.pad(shares.cumsum(dim=1), (1, 0))[:, None].expand(-1, chosen.shape[1], -1)  # (B, Q, N + 1)
            cut = (1 - weight) * total.gather(2, left) + weight * total.gather(2, left + 1)
            parts.append(torch.cat([cut[..., :1], cut.diff(dim=2)], dim=2))
        return torch.cat(parts, dim=2)


def moved_moments(difference: Tensor, centres: Tensor, log_scale: Tensor) -> Tensor:
    """How far means of 1/x, ln x, x, x² and x⁴ have moved, x being the frequency beside the host's mean; (B, 5).

    Args:
        difference: shape (B, N), change of the mode shares.
        centres: shape (N,), THz.
        log_scale: shape (B, 1), log of the host's root mean square frequency in THz.
    """
    x = (centres[None] / log_scale.exp()).clamp(0.05, 5.0)  # (B, N)
    powers = torch.stack([0.2 / x, x.log(), x, x.square(), x.square().square()], dim=2)  # (B, N, 5)
    return torch.einsum("bn,bnk->bk", difference, powers)
