"""The network that compares: a measured change beside the computed responses of the candidates, which compete for it.

    change, responses ── decomposed (features) ─┐
    their curves ────── convolution ────────────┤ one token a candidate ── attention among candidates ── presence,
    source, prior ──────────────────────────────┘        biased by how alike their responses are       amount, spread

It learns to unmix, which is the same task on every host; what a host is made of it never sees.

Shapes: B spectra, K candidates, N bins, W width.
"""

import math
from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.model.comparison.axis import FINE, N_BINS, weighted_smoothing
from defectnet.model.comparison.features import (
    N_ENTRY_FEATURES,
    N_GLOBAL_FEATURES,
    N_VIEWS,
    Responses,
    compute_features,
)
from defectnet.model.precision import multiplying_in
from defectnet.settings import Settings

__all__ = ["N_ABOUT", "N_FLAGS", "SOURCES", "Comparer", "ComparerInputs", "ComparerSettings", "Compared"]

# Where a response comes from, best first.
SOURCES = ("endmember", "potential", "springs", "masses")
# Of a candidate: log prior, log prior beside the element's likeliest site, heterovalent, source, two concentrations.
N_ABOUT = 3 + len(SOURCES) + 2
# Of a spectrum: reference computed or of another instrument, neutron-weighted, no prior; the last is always 0.
N_FLAGS = 4
_CURVES = 6
_FIRST_BIAS = (-1.5, 0.0, -1.0)
_SPREAD_BOUNDS = (-4.0, 1.0)
# Features are standardised and held within so many standard deviations.
_MOST_DEVIATION = 6.0
_CURVE_SCALE = 5.0


class ComparerSettings(Settings):
    """Size of the network."""

    width: PositiveInt = 64
    layers: PositiveInt = 3
    heads: PositiveInt = 4
    dropout: float = 0.2


class ComparerInputs(NamedTuple):
    """What the network reads of B spectra; see also `Responses`.

    Attributes:
        change: shape (B, N), the sample's density less the reference's, each of 3 modes an atom.
        pristine: shape (B, N), the reference's density.
        about: shape (B, K, N_ABOUT), what is known of each candidate beside its response.
        flags: shape (B, N_FLAGS).
    """

    change: Tensor
    pristine: Tensor
    responses: Responses
    about: Tensor
    flags: Tensor


class Compared(NamedTuple):
    """The network's answer; entries outside the mask are meaningless (logit −30).

    Attributes:
        logit: shape (B, K), of the candidate's presence.
        log_concentration, log_spread: shape (B, K), natural logs of the fraction of all atoms if it is present, and of
            the standard deviation of the former.
        unexplained: shape (B,), share of the change's square that all candidates together leave.
    """

    logit: Tensor
    log_concentration: Tensor
    log_spread: Tensor
    unexplained: Tensor


class Comparer(nn.Module):
    """Changes and responses in; presence and amount of every candidate out."""

    def __init__(self, settings: ComparerSettings) -> None:
        super().__init__()
        width = settings.width
        self.settings = settings
        n_features = N_ENTRY_FEATURES + N_GLOBAL_FEATURES
        self.standardised = nn.BatchNorm1d(n_features, affine=False, momentum=0.02)
        self.entry = nn.Linear(n_features + N_ABOUT + N_FLAGS, width)
        self.mixed = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        last = math.ceil(N_BINS / 16)
        self.curves = nn.Sequential(
            nn.Conv1d(_CURVES, 24, 9, stride=4, padding=4),
            nn.GELU(),
            nn.Conv1d(24, 32, 5, stride=4, padding=2),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(32 * last, width),
        )
        self.blocks = nn.ModuleList([_Block(settings) for _ in range(settings.layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))
        final = self.head[-1]
        assert isinstance(final, nn.Linear)
        with torch.no_grad():
            final.weight.mul_(0.1)
            final.bias.copy_(torch.tensor(_FIRST_BIAS))
        self.register_buffer("fine", weighted_smoothing(FINE), persistent=False)

    fine: Tensor

    def forward(self, given: ComparerInputs) -> Compared:
        """Compare B changes with their candidates' responses."""
        mask = given.responses.mask
        # Least squares need all their digits, whatever the layers multiply in.
        with torch.no_grad(), multiplying_in("float32", mask.device):
            seen = compute_features(given.change, given.pristine, given.responses)
        features = torch.cat([seen.entry, seen.whole[:, None].expand(*mask.shape, -1)], dim=-1)
        known = self.standardised(features[mask]).clamp(-_MOST_DEVIATION, _MOST_DEVIATION)
        density = given.pristine @ self.fine
        density = (density / density.norm(dim=1, keepdim=True).clamp(min=1e-6))[:, None, None]
        drawn = torch.cat([seen.curves, density.expand(*mask.shape, 1, N_BINS)], dim=2)[mask]
        flags = given.flags[:, None].expand(*mask.shape, -1)
        tokens = self.entry(torch.cat([known, given.about[mask], flags[mask]], dim=-1))
        x = tokens.new_zeros(*mask.shape, tokens.shape[-1])
        x[mask] = tokens + self.curves(_CURVE_SCALE * drawn)
        x = self.mixed(x)
        likeness = seen.likeness.permute(0, 2, 3, 1)
        for block in self.blocks:
            x = block(x, likeness, mask)
        logit, shift, spread = self.head(self.norm(x)).unbind(dim=-1)
        return Compared(
            logit.masked_fill(~mask, -30.0),
            seen.log_amount + shift,
            spread.clamp(*_SPREAD_BOUNDS),
            seen.whole[:, N_VIEWS + 1],
        )


class _Block(nn.Module):
    """Attention among candidates, then a feed-forward layer."""

    def __init__(self, settings: ComparerSettings) -> None:
        super().__init__()
        width, self.heads = settings.width, settings.heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attended = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.bias = nn.Sequential(nn.Linear(N_VIEWS, 16), nn.GELU(), nn.Linear(16, settings.heads))
        self.forwards = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x: Tensor, likeness: Tensor, mask: Tensor) -> Tensor:
        b, k, width = x.shape
        query, key, value = (
            self.attended(self.before(x)).view(b, k, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        bias = self.bias(likeness).permute(0, 3, 1, 2).masked_fill(~mask[:, None, None], -1e4)
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).reshape(b, k, width)
        x = x + self.dropout(self.out(heard))
        return x + self.dropout(self.forwards(self.between(x)))
