"""The attention network, read from top to bottom.

    sample, reference (mode shares per bin)        host composition            candidate elements
              │ channels                                  │                            │
        convolution, patches                    one token per host element     one query per element
              │                                           │                            │
      spectral tokens + Fourier features                  │                            │
              └───────────── encoder (self-attention) ────┘                            │
                                     └────────────── decoder (cross-attention) ────────┘
                                                          │
                         per element: presence logit, log concentration, log spread

One set of weights answers with and without the reference (a flag and zeros stand in for it) and with and without the
user's candidates (an element outside the list is never a query, so it has no part in the answer).

Shapes: B spectra, N bins, T tokens, H host elements, V = 94 elements of the vocabulary, Q queries, W width.
"""

from dataclasses import dataclass

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.elements import VOCABULARY, descriptors
from defectnet.features import FrequencyGrid
from defectnet.settings import Settings

__all__ = ["Answer", "DefectNetwork", "NetworkSettings"]

# Host elements beyond this number (the least abundant ones) are left out of the host tokens. Of 4,308 DFT parents none
# has more than six elements.
MAX_HOST_ELEMENTS = 6
# The signal of 1 % of a dopant is an L1 distance of about 0.04 between densities normalised to 1: differences are
# scaled up so that they reach the convolution at order one.
DIFFERENCE_SCALE = 10.0
# A second, steeper view of the difference for dopants far below 1 %, squashed so that strong ones do not saturate.
SMALL_DIFFERENCE_SCALE = 200.0
# Floor of the density inside the log ratio: lower, and bins that hold numerical dust would outweigh the bands.
RATIO_FLOOR = 0.01
N_CHANNELS = 6
# Bounds of what the concentration head can say (natural logs of a fraction, and of its spread): beyond the range that
# is trained for, and finite, so that a strange spectrum cannot make an infinity.
LOG_CONCENTRATION_BOUNDS = (-9.0, 0.0)
LOG_SPREAD_BOUNDS = (-4.0, 1.5)
# Most elements are absent from most spectra; starting from this logit saves the first epochs.
_FIRST_PRESENCE_LOGIT = -2.5
_FIRST_LOG_CONCENTRATION = -4.0
_FOURIER_OCTAVES = 6


class NetworkSettings(Settings):
    """Size of the network; the defaults train in minutes on two CPU cores.

    Attributes:
        width: length of every token; a multiple of `heads`.
        heads: attention heads.
        encoder_layers: self-attention layers over the spectral and host tokens.
        decoder_layers: layers in which the element queries read the tokens and each other.
        patch_bins: bins merged into one token.
        stem_channels: channels of the convolutions before the patches.
        feedforward: width of the feed-forward layers as a multiple of `width`.
        dropout: share of activations dropped in training.
    """

    width: PositiveInt = 128
    heads: PositiveInt = 4
    encoder_layers: PositiveInt = 3
    decoder_layers: PositiveInt = 2
    patch_bins: PositiveInt = 8
    stem_channels: PositiveInt = 48
    feedforward: PositiveInt = 2
    dropout: float = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "NetworkSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


@dataclass
class Answer:
    """What the network says of B spectra; entries of elements that were no candidate are meaningless (logit −inf).

    Attributes:
        presence_logit: shape (B, V), −inf outside the candidates.
        log_concentration: shape (B, V), natural log of the fraction of all atoms, if the element is present.
        log_spread: shape (B, V), natural log of the standard deviation of `log_concentration`.
        pooled: shape (B, W), the mean of the encoded spectral tokens, for the out-of-distribution score.
    """

    presence_logit: Tensor
    log_concentration: Tensor
    log_spread: Tensor
    pooled: Tensor


class DefectNetwork(nn.Module):
    """Mode shares, host and candidates in; presence and concentration of every candidate out."""

    descriptors: Tensor
    positions: Tensor
    ood_centre: Tensor
    ood_whitening: Tensor

    def __init__(self, settings: NetworkSettings, grid: FrequencyGrid) -> None:
        super().__init__()
        if grid.n_bins % settings.patch_bins:
            raise ValueError(f"{grid.n_bins} bins are not a multiple of patch_bins {settings.patch_bins}")
        self.settings, self.grid = settings, grid
        width = settings.width

        # Elements: physical descriptors let what was learned of one element carry over to its neighbours.
        self.register_buffer("descriptors", torch.from_numpy(descriptors().copy()), persistent=False)
        n_descriptors = self.descriptors.shape[1]
        self.element_learned = nn.Embedding(len(VOCABULARY), width)
        self.element_physical = nn.Linear(n_descriptors, width)
        nn.init.normal_(self.element_learned.weight, std=0.1)

        # Spectrum to tokens.
        channels = settings.stem_channels
        self.stem = nn.Sequential(
            nn.Conv1d(N_CHANNELS, channels, kernel_size=7, padding=3),
            nn.GELU(),
            nn.Conv1d(channels, width, kernel_size=settings.patch_bins, stride=settings.patch_bins),
        )
        self.register_buffer("positions", _fourier_positions(grid, settings.patch_bins), persistent=False)
        self.position = nn.Linear(self.positions.shape[1], width)
        self.reference_absent = nn.Parameter(torch.zeros(width))
        self.host_fraction = nn.Linear(1, width)
        self.encoder = nn.ModuleList([_EncoderLayer(settings) for _ in range(settings.encoder_layers)])
        self.encoder_norm = nn.LayerNorm(width)

        # Element queries: who is asked for, how it differs from the host, and how many others are asked for.
        self.contrast = nn.Linear(2 * n_descriptors + 1, width)
        self.decoder = nn.ModuleList([_DecoderLayer(settings) for _ in range(settings.decoder_layers)])
        self.decoder_norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.02)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([_FIRST_PRESENCE_LOGIT, _FIRST_LOG_CONCENTRATION, 0.0]))

        # Filled in after training (training/calibrate.py): distance of `pooled` to the training spectra.
        # The first of each is for spectra without a reference, the second for those with one.
        self.register_buffer("ood_centre", torch.zeros(2, width))
        self.register_buffer("ood_whitening", torch.zeros(2, width, min(width, OOD_RANK)))

    def forward(self, sample: Tensor, reference: Tensor, has_reference: Tensor, host: Tensor, asked: Tensor) -> Answer:
        """Read B spectra.

        Args:
            sample: shape (B, N), share of the modes in each bin, rows sum to 1.
            reference: shape (B, N), the same of the pristine host; ignored where `has_reference` is false.
            has_reference: shape (B,), bool.
            host: shape (B, V), fractions of all atoms, rows sum to 1.
            asked: shape (B, V), bool, the elements to weigh; host elements are removed here, for an element on its own
                site is no defect.
        """
        tokens, hidden, pooled = self._encode(sample, reference, has_reference, host)
        asked = asked & (host <= 0)
        # Only candidates become queries: with ten candidates the decoder costs a ninth of what 94 elements do.
        n_queries = max(int(asked.sum(dim=1).max()), 1)
        chosen = asked.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_queries]  # (B, Q)
        padding = ~asked.gather(1, chosen)  # (B, Q)

        queries = self._queries(host, asked)  # (B, V, W)
        x = queries.gather(1, chosen[..., None].expand(-1, -1, queries.shape[2]))  # (B, Q, W)
        # A row without any candidate must not leave its attention empty: softmax over nothing is NaN.
        visible = ~padding | padding.all(dim=1, keepdim=True)
        for layer in self.decoder:
            x = layer(x, tokens, visible, ~hidden)
        logit, mean, spread = self.head(self.decoder_norm(x)).unbind(dim=2)  # each (B, Q)

        def scatter(values: Tensor, empty: float) -> Tensor:
            full = values.new_full(asked.shape, empty)
            return full.scatter(1, chosen, values.masked_fill(padding, empty))

        return Answer(
            presence_logit=scatter(logit.float(), float("-inf")),
            log_concentration=scatter(mean.float().clamp(*LOG_CONCENTRATION_BOUNDS), LOG_CONCENTRATION_BOUNDS[0]),
            log_spread=scatter(spread.float().clamp(*LOG_SPREAD_BOUNDS), 0.0),
            pooled=pooled,
        )

    def distance(self, pooled: Tensor, has_reference: Tensor) -> Tensor:
        """Mahalanobis distance of `pooled`, shape (B, W), to the training spectra in their leading directions, (B,)."""
        mode = has_reference.long()
        away = (pooled - self.ood_centre[mode])[:, None, :] @ self.ood_whitening[mode]  # (B, 1, rank)
        return away.square().mean(dim=(1, 2)).sqrt()

    def _encode(
        self, sample: Tensor, reference: Tensor, has_reference: Tensor, host: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, T + H, W), which of them are padding (B, T + H), and the mean spectral token (B, W)."""
        x = self.stem(_channels(sample, reference, has_reference, self.grid.bin_width)).transpose(1, 2)  # (B, T, W)
        elements = self.element_learned.weight + self.element_physical(self.descriptors)  # (V, W)
        x = x + self.position(self.positions) + (host @ elements)[:, None, :]
        x = x + (~has_reference)[:, None, None] * self.reference_absent

        fraction, index = host.topk(MAX_HOST_ELEMENTS, dim=1)  # (B, H)
        host_tokens = elements[index] + self.host_fraction(fraction[..., None])  # (B, H, W)
        hidden = F.pad(fraction <= 0, (x.shape[1], 0))  # (B, T + H)
        n_spectral = x.shape[1]
        x = torch.cat([x, host_tokens], dim=1)
        for layer in self.encoder:
            x = layer(x, ~hidden)
        x = self.encoder_norm(x)
        return x, hidden, x[:, :n_spectral].mean(dim=1)

    def _queries(self, host: Tensor, asked: Tensor) -> Tensor:
        """A query for every element of the vocabulary, shape (B, V, W)."""
        elements = self.element_learned.weight + self.element_physical(self.descriptors)
        # How the element differs from the host's mean, and from the host element most like it, whose site it most
        # likely takes: mass ratio and misfit in size and electronegativity decide what a dopant does to the bands.
        mean = host @ self.descriptors  # (B, D)
        from_mean = self.descriptors[None] - mean[:, None]  # (B, V, D)
        apart = torch.cdist(self.descriptors, self.descriptors)  # (V, V)
        nearest = torch.where(host[:, None, :] > 0, apart[None], torch.inf).argmin(dim=2)  # (B, V)
        from_nearest = self.descriptors[None] - self.descriptors[nearest]
        n_asked = asked.sum(dim=1).clamp(min=1).log()[:, None, None].expand(-1, len(VOCABULARY), 1)
        return elements + self.contrast(torch.cat([from_mean, from_nearest, n_asked], dim=2))


# Directions kept for the out-of-distribution score: the pooled tokens of some thousand spectra span little more.
OOD_RANK = 24


def _channels(sample: Tensor, reference: Tensor, has_reference: Tensor, bin_width: float) -> Tensor:
    """Input channels of the convolution, shape (B, 6, N); all that needs the reference is zero where it is absent."""
    known = has_reference[:, None].to(sample.dtype)  # (B, 1)
    density = sample / bin_width  # per u, integrates to 1
    pristine = reference * known / bin_width
    difference = (density - pristine) * known
    ratio = torch.log((density + RATIO_FLOOR) / (pristine + RATIO_FLOOR)) * known
    return torch.stack(
        [
            density.clamp(min=0).sqrt(),
            pristine.clamp(min=0).sqrt(),
            DIFFERENCE_SCALE * difference,
            torch.asinh(SMALL_DIFFERENCE_SCALE * difference),
            ratio,
            known.expand_as(sample),
        ],
        dim=1,
    )


def _fourier_positions(grid: FrequencyGrid, patch_bins: int) -> Tensor:
    """Sines and cosines of the absolute log-frequency of each patch, shape (T, 2 * octaves + 1)."""
    centres = torch.from_numpy(grid.centres_thz).reshape(-1, patch_bins).mean(dim=1)
    x = torch.log1p(centres / grid.scale_thz) / torch.log1p(torch.tensor(grid.top_thz / grid.scale_thz))
    angles = x[:, None] * torch.pi * 2.0 ** torch.arange(_FOURIER_OCTAVES)
    return torch.cat([x[:, None], angles.sin(), angles.cos()], dim=1).float()


class _Attention(nn.Module):
    """Multi-head attention of x, shape (B, Q, W), to `memory`, shape (B, T, W); `visible` is (B, T), bool."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        batch, n_queries, width = x.shape
        shape = (batch, -1, self.heads, width // self.heads)
        q = self.query(x).view(shape).transpose(1, 2)  # (B, heads, Q, W / heads)
        k, v = (part.reshape(shape).transpose(1, 2) for part in self.key_value(memory).chunk(2, dim=2))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible[:, None, None, :], dropout_p=dropout)
        out: Tensor = self.out(y.transpose(1, 2).reshape(batch, n_queries, width))
        return out


def _feedforward(settings: NetworkSettings) -> nn.Sequential:
    inner = settings.feedforward * settings.width
    return nn.Sequential(
        nn.Linear(settings.width, inner), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(inner, settings.width)
    )


class _EncoderLayer(nn.Module):
    """Tokens read each other (pre-norm)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(settings.width), nn.LayerNorm(settings.width)
        self.attention = _Attention(settings.width, settings.heads, settings.dropout)
        self.feedforward = _feedforward(settings)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attention(y, y, visible)
        out: Tensor = x + self.feedforward(self.norm_2(x))
        return out


class _DecoderLayer(nn.Module):
    """Queries read the tokens, then each other: candidates compete for the same change of the spectrum (pre-norm)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(settings.width), nn.LayerNorm(settings.width)
        self.norm_3 = nn.LayerNorm(settings.width)
        self.read = _Attention(settings.width, settings.heads, settings.dropout)
        self.compete = _Attention(settings.width, settings.heads, settings.dropout)
        self.feedforward = _feedforward(settings)

    def forward(self, x: Tensor, tokens: Tensor, visible: Tensor, tokens_visible: Tensor) -> Tensor:
        x = x + self.read(self.norm_1(x), tokens, tokens_visible)
        y = self.norm_2(x)
        x = x + self.compete(y, y, visible)
        out: Tensor = x + self.feedforward(self.norm_3(x))
        return out
