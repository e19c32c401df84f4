"""The network that compares: a measured change beside the computed responses of the candidates, which compete for it.

    change, responses ── decomposed (features) ─┐
    their curves ────── convolutions ───────────┤ one token a candidate ── attention among candidates ── presence,
    source, prior ──────────────────────────────┘        biased by how alike their responses are       amount, spread

It learns to unmix, which is the same task on every host; what a host is made of it never sees.

Shapes: B spectra, K candidates, N bins, W width.
"""

import math
from collections.abc import Callable
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
    Features,
    Responses,
    compute_features,
)
from defectnet.model.precision import multiplying_in
from defectnet.settings import Settings

__all__ = [
    "CURVE_SCALE",
    "FIRST_KERNEL",
    "LEAST_LOGIT",
    "MOST_DEVIATION",
    "N_ABOUT",
    "N_FLAGS",
    "SECOND_KERNEL",
    "SOURCES",
    "SPREAD_BOUNDS",
    "STRIDE",
    "Compared",
    "Comparer",
    "ComparerBlock",
    "ComparerInputs",
    "ComparerSettings",
]

# Where a response comes from, best first.
SOURCES = ("endmember", "potential", "springs", "masses")
# Of a candidate: log prior, log prior beside the element's likeliest site, heterovalent, source, two concentrations.
N_ABOUT = 3 + len(SOURCES) + 2
# Of a spectrum: reference computed or of another instrument, neutron-weighted, no prior; the last is always 0.
N_FLAGS = 4
# Of a candidate's curves: the change, its response, what all leave, its part, what it alone leaves; and the pristine
# density.
_CURVES = 6
FIRST_KERNEL, SECOND_KERNEL, STRIDE = 9, 5, 4
_FIRST_BIAS = (-1.5, 0.0, -1.0)
SPREAD_BOUNDS = (-4.0, 1.0)
# Features are standardised and held within so many standard deviations.
MOST_DEVIATION = 6.0
CURVE_SCALE = 5.0
# Of what is no candidate.
LEAST_LOGIT = -30.0


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
            nn.Conv1d(_CURVES, 24, FIRST_KERNEL, stride=STRIDE, padding=FIRST_KERNEL // 2),
            nn.GELU(),
            nn.Conv1d(24, 32, SECOND_KERNEL, stride=STRIDE, padding=SECOND_KERNEL // 2),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(32 * last, width),
        )
        self.blocks = nn.ModuleList([ComparerBlock(settings) for _ in range(settings.layers)])
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
        there = _there(mask)
        features = torch.cat([seen.entry, seen.whole[:, None].expand(*mask.shape, -1)], dim=-1)
        known = self.standardised(there(features)).clamp(-MOST_DEVIATION, MOST_DEVIATION)
        flags = given.flags[:, None].expand(*mask.shape, -1)
        tokens = self.entry(torch.cat([known, there(given.about), there(flags)], dim=-1))
        tokens = tokens + self._looked_at(seen, given.pristine, there)
        x = tokens.new_zeros(*mask.shape, tokens.shape[-1])
        x[mask] = tokens
        x = self.mixed(x)
        for block in self.blocks:
            x = block(x, seen.likeness, mask)
        logit, shift, spread = self.head(self.norm(x)).unbind(dim=-1)
        return Compared(
            logit.masked_fill(~mask, LEAST_LOGIT),
            seen.log_amount + shift,
            spread.clamp(*SPREAD_BOUNDS),
            seen.whole[:, N_VIEWS + 1],
        )

    def _looked_at(self, seen: Features, pristine: Tensor, there: Callable[[Tensor], Tensor]) -> Tensor:
        """What `curves` makes of the six curves of each of M candidates, those that are `there`, shape (M, W).

        The curves are never drawn for each of them. The first convolution is linear: the change, what all leave and the
        density are convolved once a spectrum, and a candidate's response once, with the sum of the three kernels that
        see it, each times its amount there.
        """
        first, second = self.curves[0], self.curves[2]
        assert isinstance(first, nn.Conv1d)
        assert isinstance(second, nn.Conv1d)
        density = pristine @ self.fine
        density = density / density.norm(dim=1, keepdim=True).clamp(min=1e-6)
        of_change, of_response, of_left, of_part, of_rest, of_density = (CURVE_SCALE * first.weight).unbind(dim=1)
        whole = torch.stack([seen.change, seen.left, density], dim=1)
        kernels = torch.stack([of_change + of_rest, of_left, of_density], dim=1)
        common = F.conv1d(whole, kernels, first.bias, stride=STRIDE, padding=FIRST_KERNEL // 2).transpose(1, 2)
        shape = *seen.part.shape, *common.shape[1:]
        part, alone = (there(x)[:, None, None] for x in (seen.part, seen.alone))
        own = of_response.T + part * of_part.T - alone * of_rest.T  # (M, 9, 24)
        response = F.pad(there(seen.response), (FIRST_KERNEL // 2,) * 2).unfold(1, FIRST_KERNEL, STRIDE)
        x = F.gelu(torch.baddbmm(there(common[:, None].expand(shape)), response.contiguous(), own))  # (M, 44, 24)
        # Side by side, what the second convolution sees at each place is a row of a matrix.
        channels = x.shape[2]
        x = F.pad(x, (0, 0, *(SECOND_KERNEL // 2,) * 2)).flatten(1)
        x = x.unfold(1, SECOND_KERNEL * channels, STRIDE * channels)  # (M, 11, 120)
        x = F.gelu(F.linear(x, second.weight.transpose(1, 2).flatten(1), second.bias))  # (M, 11, 32)
        drawn: Tensor = self.curves[5](x.transpose(1, 2).flatten(1))
        return drawn


def _there(mask: Tensor) -> Callable[[Tensor], Tensor]:
    """What picks those of (B, K, ...) that are within the mask, (M, ...): by their places only where some are not."""
    return (lambda x: x.flatten(0, 1)) if bool(mask.all()) else (lambda x: x[mask])


class ComparerBlock(nn.Module):
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
        bias = self._biased(likeness).masked_fill(~mask[:, None, None], -1e4)
        heard = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).reshape(b, k, width)
        x = x + self.dropout(self.out(heard))
        return x + self.dropout(self.forwards(self.between(x)))

    def _biased(self, likeness: Tensor) -> Tensor:
        """`bias` of every pair, shape (B, heads, K, K), from likeness as it lies in memory, shape (B, V, K, K)."""
        first, second = self.bias[0], self.bias[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        x, b = likeness.flatten(2), likeness.shape[0]
        x = F.gelu(torch.baddbmm(first.bias[:, None], first.weight.expand(b, -1, -1), x))
        x = torch.baddbmm(second.bias[:, None], second.weight.expand(b, -1, -1), x)
        return x.unflatten(2, likeness.shape[2:])
