"""The attention layers that the network is built of, and how large they are."""

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.settings import Settings

__all__ = ["Attention", "DecoderLayer", "EncoderLayer", "NetworkSettings"]


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
        members: networks that answer together. They are trained side by side, each on its own share of every batch, and
            disagree most where the training hosts say least.
    """

    width: PositiveInt = 128
    heads: PositiveInt = 4
    encoder_layers: PositiveInt = 3
    decoder_layers: PositiveInt = 2
    patch_bins: PositiveInt = 8
    stem_channels: PositiveInt = 48
    feedforward: PositiveInt = 2
    dropout: float = 0.0
    members: PositiveInt = 1

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "NetworkSettings":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Attention(nn.Module):
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

    def weights(self, x: Tensor, memory: Tensor, visible: Tensor) -> Tensor:
        """What `forward` weighs the memory with, shape (B, heads, Q, T); it never forms them."""
        shape = (x.shape[0], -1, self.heads, x.shape[2] // self.heads)
        q = self.query(x).view(shape).transpose(1, 2)
        k = self.key_value(memory).chunk(2, dim=2)[0].reshape(shape).transpose(1, 2)
        return (q @ k.mT / q.shape[3] ** 0.5).masked_fill(~visible[:, None, None, :], float("-inf")).softmax(dim=3)


def feedforward(settings: NetworkSettings) -> nn.Sequential:
    inner = settings.feedforward * settings.width
    return nn.Sequential(
        nn.Linear(settings.width, inner), nn.GELU(), nn.Dropout(settings.dropout), nn.Linear(inner, settings.width)
    )


class EncoderLayer(nn.Module):
    """Tokens read each other (pre-norm)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(settings.width), nn.LayerNorm(settings.width)
        self.attention = Attention(settings.width, settings.heads, settings.dropout)
        self.feedforward = feedforward(settings)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        y = self.norm_1(x)
        x = x + self.attention(y, y, visible)
        out: Tensor = x + self.feedforward(self.norm_2(x))
        return out


class DecoderLayer(nn.Module):
    """Queries read the tokens, then each other: candidates compete for the same change of the spectrum (pre-norm)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(settings.width), nn.LayerNorm(settings.width)
        self.norm_3 = nn.LayerNorm(settings.width)
        self.read = Attention(settings.width, settings.heads, settings.dropout)
        self.compete = Attention(settings.width, settings.heads, settings.dropout)
        self.feedforward = feedforward(settings)

    def forward(self, x: Tensor, tokens: Tensor, visible: Tensor, tokens_visible: Tensor) -> Tensor:
        x = x + self.read(self.norm_1(x), tokens, tokens_visible)
        y = self.norm_2(x)
        x = x + self.compete(y, y, visible)
        out: Tensor = x + self.feedforward(self.norm_3(x))
        return out
