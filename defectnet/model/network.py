"""The attention network, read from top to bottom.

    sample, reference (mode shares per bin)        host composition      candidate elements, chemical prior
              │ channels                                  │                            │
        convolution, patches                    one token per host element     one query per element
              │                                           │                            │
      spectral tokens + frequencies                       │                            │
              └───────────── encoder (self-attention) ────┘                            │
                                     ├── whose modes lie where ── lattice dynamics ────┤
                                     └────────────── decoder (cross-attention) ────────┘
                                                          │
                 per element: presence logit, log concentration, log spread, where its modes lie

One set of weights answers with and without the reference (a flag and zeros stand in for it), with and without the
chemical prior (likewise), and with and without the user's candidates (an element outside the list is never a query, so
it has no part in the answer).

Shapes: B spectra, N bins, T spectral tokens, H host elements, V = 94 elements of the vocabulary, Q queries, W width.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.elements import VOCABULARY, descriptors
from defectnet.model.channels import N_CHANNELS, absolute_positions, channels, fourier, log_scale, roughness
from defectnet.model.comparison.comparer import Comparer, ComparerSettings
from defectnet.model.features import FrequencyGrid
from defectnet.model.layers import DecoderLayer, EncoderLayer, NetworkSettings
from defectnet.model.mass_defect import CHANGE_FLOOR, N_MOMENTS, Physics, moved_moments
from defectnet.model.prior import EXPECTED_COLUMNS

__all__ = [
    "LOG_CONCENTRATION_BOUNDS",
    "MAX_HOST_ELEMENTS",
    "Answer",
    "DefectNetwork",
    "Inputs",
    "NetworkSettings",
    "compact",
]

# Host elements beyond this number (the least abundant ones) are left out of the host tokens. Of 4,308 DFT parents none
# has more than six elements.
MAX_HOST_ELEMENTS = 6
# Bounds of what the concentration head can say (natural logs of a fraction, and of its spread): beyond the range that
# is trained for, and finite, so that a strange spectrum cannot make an infinity.
LOG_CONCENTRATION_BOUNDS = (-9.0, 0.0)
LOG_SPREAD_BOUNDS = (-4.0, 1.5)
# Most elements are absent from most spectra; starting from this logit saves the first epochs.
_FIRST_PRESENCE_LOGIT = -2.5
_FIRST_LOG_CONCENTRATION = -4.0


class Inputs(NamedTuple):
    """What the network reads of B spectra.

    Attributes:
        sample: shape (B, N), share of the modes in each bin, rows sum to 1.
        reference: shape (B, N), the same of the pristine host; ignored where `has_reference` is false.
        has_reference: shape (B,), bool.
        neutron: shape (B,), bool: both densities are weighted by scattering cross-section over mass.
        host: shape (B, V), fractions of all atoms, rows sum to 1.
        asked: shape (B, V), bool, the elements to weigh; host elements are removed by the network, for an element on
            its own site is no defect.
        expected: shape (B, V, 5), the chemical prior (`defectnet.model.prior.expectations`).
        site: shape (B, V), int64, the host element that each would replace, by the prior.
        has_prior: shape (B,), bool; where false, `expected` and `site` are ignored.
    """

    sample: Tensor
    reference: Tensor
    has_reference: Tensor
    neutron: Tensor
    host: Tensor
    asked: Tensor
    expected: Tensor
    site: Tensor
    has_prior: Tensor


@dataclass
class Answer:
    """What the network says of B spectra; entries of elements that were no candidate are meaningless (logit −inf).

    Attributes:
        presence_logit: shape (B, V), −inf outside the candidates.
        log_concentration: shape (B, V), natural log of the fraction of all atoms, if the element is present.
        log_spread: shape (B, V), natural log of the standard deviation of `log_concentration`.
        modes_logit: shape (B, V, T), logits of where the modes of each candidate's atoms lie, if it is present; 0
            elsewhere. It is trained beside the others, for it tells the network what a dopant does to a crystal.
        owner_log: shape (B, V, T), natural log of each host element's share in the modes of each token; 0 elsewhere.
        pooled: shape (B, members * W), the mean encoded token of every member, for the out-of-distribution score.
        signature: shape (B, S), what an instrument or a mistake would change first, for the same score.
    """

    presence_logit: Tensor
    log_concentration: Tensor
    log_spread: Tensor
    modes_logit: Tensor
    owner_log: Tensor
    pooled: Tensor
    signature: Tensor


class DefectNetwork(nn.Module):
    """Mode shares, host and candidates in; presence and concentration of every candidate out."""

    descriptors: Tensor
    centres: Tensor
    ood_centre: Tensor
    ood_whitening: Tensor
    signature_centre: Tensor
    signature_whitening: Tensor

    def __init__(
        self, settings: NetworkSettings, grid: FrequencyGrid, comparer: ComparerSettings | None = None
    ) -> None:
        """`comparer`: size of the network that compares with responses, where there is one; `forward` is without it."""
        super().__init__()
        if grid.n_bins % settings.patch_bins:
            raise ValueError(f"{grid.n_bins} bins are not a multiple of patch_bins {settings.patch_bins}")
        self.settings, self.grid = settings, grid
        self.members = nn.ModuleList([_Member(settings, grid) for _ in range(settings.members)])
        self.comparer = None if comparer is None else Comparer(comparer)
        self.register_buffer("descriptors", torch.from_numpy(descriptors().copy()), persistent=False)
        self.register_buffer("centres", torch.from_numpy(grid.centres_thz).float(), persistent=False)

        # Filled in after training (training/calibrate.py): distance to the training spectra. The first of each is for
        # spectra without a reference, the second for those with one.
        n_pooled = settings.members * settings.width
        self.register_buffer("ood_centre", torch.zeros(2, n_pooled))
        self.register_buffer("ood_whitening", torch.zeros(2, n_pooled, min(n_pooled, OOD_RANK)))
        self.register_buffer("signature_centre", torch.zeros(2, N_SIGNATURE))
        self.register_buffer("signature_whitening", torch.zeros(2, N_SIGNATURE, N_SIGNATURE))

    def forward(self, *tensors: Tensor) -> Answer:
        """Read B spectra, given as the fields of `Inputs` in order.

        In training each member reads its own share of them; otherwise all read all of them, and their mean answers.
        """
        given = Inputs(*tensors)
        n_members = len(self.members)
        if self.training and n_members > 1 and given.sample.shape[0] >= n_members:
            shares = [Inputs(*parts) for parts in zip(*(t.tensor_split(n_members) for t in given), strict=True)]
            answers = [member(share) for member, share in zip(self.members, shares, strict=True)]
            whole = {field.name: torch.cat([getattr(one, field.name) for one in answers]) for field in fields(Answer)}
            return Answer(**whole)
        answers = [member(given) for member in self.members]
        # Each of shape (members, B, ...).
        said = {field.name: torch.stack([getattr(one, field.name) for one in answers]) for field in fields(Answer)}
        means = said["log_concentration"]
        variance = (2.0 * said["log_spread"]).exp().mean(dim=0) + means.var(dim=0, unbiased=False)
        return Answer(
            presence_logit=said["presence_logit"].mean(dim=0),
            log_concentration=means.mean(dim=0),
            log_spread=0.5 * variance.log(),
            modes_logit=said["modes_logit"].mean(dim=0),
            owner_log=said["owner_log"].mean(dim=0),
            pooled=torch.cat([one.pooled for one in answers], dim=1),
            signature=self._signature(given),
        )

    def distance(self, pooled: Tensor, signature: Tensor, has_reference: Tensor) -> Tensor:
        """How far B spectra lie from the training spectra, in standard deviations, shape (B,).

        The greater of two: the Mahalanobis distance of what the network made of the spectrum, and the greatest
        deviation of its plain signature, which a network that overlooks noise cannot overlook.
        """
        mode = has_reference.long()
        away = (pooled - self.ood_centre[mode])[:, None, :] @ self.ood_whitening[mode]  # (B, 1, rank)
        odd = (signature - self.signature_centre[mode])[:, None, :] @ self.signature_whitening[mode]  # (B, 1, S)
        return torch.maximum(away.square().mean(dim=(1, 2)).sqrt(), SIGNATURE_SHARE * odd.abs().amax(dim=(1, 2)))

    def _signature(self, given: Inputs) -> Tensor:
        """Logs of what sets a spectrum apart, and the host's mean descriptors that go with them, shape (B, 12)."""
        known = given.has_reference.to(given.sample.dtype)[:, None]
        sample, reference = given.sample.clamp(min=0), given.reference.clamp(min=0) * known
        difference = (sample - reference) * known
        squares = self.centres.square()
        scale = log_scale(given.sample, given.reference, given.has_reference, self.centres)
        change = difference.abs().sum(dim=1)
        ends = (self.centres[None] < 0.25 * scale.exp()[:, None], self.centres[None] > 2.0 * scale.exp()[:, None])
        low, high = ((sample * end).sum(dim=1) for end in ends)
        moved = (sample @ squares).clamp(min=1e-9).log() - (reference @ squares).clamp(min=1e-9).log()
        numbers = [
            scale,
            (low + 1e-4).log(),  # the acoustic modes, which light scattering does not show
            (high + 1e-4).log(),  # what lies far above the host's bands
            sample.square().sum(dim=1).clamp(min=1e-9).log(),  # lines, or bands?
            (roughness(sample) + 1e-4).log(),  # noise
            (change + CHANGE_FLOOR).log() * known[:, 0],  # more than any dopant does
            (roughness(difference) / (change + CHANGE_FLOOR) + 1e-4).log() * known[:, 0],
            moved * known[:, 0],  # the axis
        ]
        mean = given.host @ self.descriptors[:, :_N_HOST_SIGNATURE]  # light and stiff, or heavy and soft: which host?
        return torch.cat([torch.stack(numbers, dim=1), mean], dim=1)


class _Member(nn.Module):
    """One network of those that answer together."""

    descriptors: Tensor
    centres: Tensor
    positions: Tensor

    def __init__(self, settings: NetworkSettings, grid: FrequencyGrid) -> None:
        super().__init__()
        self.settings, self.grid = settings, grid
        width = settings.width

        # Elements: physical descriptors let what was learned of one element carry over to its neighbours.
        self.register_buffer("descriptors", torch.from_numpy(descriptors().copy()), persistent=False)
        n_descriptors = self.descriptors.shape[1]
        self.element_learned = nn.Embedding(len(VOCABULARY), width)
        self.element_physical = nn.Linear(n_descriptors, width)
        nn.init.normal_(self.element_learned.weight, std=0.1)

        # Spectrum to tokens. Where a token lies is said twice: on the absolute scale, and beside the host's own mean
        # frequency, on which hosts resemble each other.
        n_stem = settings.stem_channels
        self.stem = nn.Sequential(
            nn.Conv1d(N_CHANNELS, n_stem, kernel_size=7, padding=3),
            nn.GELU(),
            nn.Conv1d(n_stem, width, kernel_size=settings.patch_bins, stride=settings.patch_bins),
        )
        centres = torch.from_numpy(grid.centres_thz).float()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("positions", absolute_positions(grid, settings.patch_bins), persistent=False)
        n_positions = 2 * self.positions.shape[1]
        self.position = nn.Linear(n_positions, width)
        self.about = nn.Linear(_N_ABOUT, width)
        self.host_fraction = nn.Linear(1, width)
        self.encoder = nn.ModuleList([EncoderLayer(settings) for _ in range(settings.encoder_layers)])
        self.encoder_norm = nn.LayerNorm(width)

        # Element queries: who is asked for, what it would replace, what a chemist and what a physicist expects.
        n_contrast = 3 * n_descriptors + 2 + len(EXPECTED_COLUMNS) + _N_ABOUT
        self.owner = nn.Linear(width, width)
        self.physics = Physics(grid, n_contrast, width)
        n_contrast += self.physics.n_features
        self.contrast = nn.Sequential(nn.Linear(n_contrast, width), nn.GELU(), nn.Linear(width, width))
        self.expectation = nn.Linear(len(EXPECTED_COLUMNS) + 1, 1)
        self.decoder = nn.ModuleList([DecoderLayer(settings) for _ in range(settings.decoder_layers)])
        self.decoder_norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))
        self.modes = nn.Linear(width, width)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.02)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([_FIRST_PRESENCE_LOGIT, _FIRST_LOG_CONCENTRATION, 0.0]))
            self.expectation.weight.zero_()
            self.expectation.bias.zero_()

    def forward(self, given: Inputs) -> Answer:
        about = self._about(given)
        tokens, hidden, pooled, hosts = self._encode(given, about)
        owner = self._owners(given, tokens, hidden, hosts)
        asked = given.asked & (given.host <= 0)
        chosen, padding = compact(asked)  # both (B, Q)
        x, prior = self._queries(given, about, chosen, ~padding, hosts, owner)  # (B, Q, W), (B, Q)
        # A row without any candidate must not leave its attention empty: softmax over nothing is NaN.
        visible = ~padding | padding.all(dim=1, keepdim=True)
        for layer in self.decoder:
            x = layer(x, tokens, visible, ~hidden)
        x = self.decoder_norm(x)
        logit, mean, spread = self.head(x).unbind(dim=2)  # each (B, Q)
        # How much there is follows from how far the spectrum has moved: only the factor is left to be learned.
        mean = mean + about[:, :1] * given.has_reference[:, None]
        n_tokens = self.positions.shape[0]
        modes = self.modes(x) @ tokens[:, :n_tokens].transpose(1, 2) / self.settings.width**0.5  # (B, Q, T)

        def scatter(values: Tensor, empty: float) -> Tensor:
            full = values.new_full(asked.shape + values.shape[2:], empty)
            index, outside = chosen, padding
            if values.ndim == 3:
                index, outside = index[..., None].expand_as(values), outside[..., None]
            return full.scatter(1, index, values.masked_fill(outside, empty))

        absent = hidden[:, n_tokens:, None].expand_as(owner)
        places = hosts[..., None].expand_as(owner)
        return Answer(
            presence_logit=scatter((logit + prior).float(), float("-inf")),
            log_concentration=scatter(mean.float().clamp(*LOG_CONCENTRATION_BOUNDS), LOG_CONCENTRATION_BOUNDS[0]),
            log_spread=scatter(spread.float().clamp(*LOG_SPREAD_BOUNDS), 0.0),
            modes_logit=scatter(modes.float(), 0.0),
            # Added, for padding may share its place with an element of the host, and adds nothing.
            owner_log=owner.new_zeros(*asked.shape, n_tokens).scatter_add(1, places, owner.masked_fill(absent, 0.0)),
            pooled=pooled,
            signature=pooled.new_zeros(pooled.shape[0], 0),
        )

    def _about(self, given: Inputs) -> Tensor:
        """Each spectrum in a few numbers, shape (B, 10): log change, log mean frequency, three flags, moments."""
        known = given.has_reference.to(given.sample.dtype)
        difference = (given.sample - given.reference) * known[:, None]
        change = difference.abs().sum(dim=1) + CHANGE_FLOOR
        flags = [known, given.neutron.to(known.dtype), given.has_prior.to(known.dtype)]
        scale = log_scale(given.sample, given.reference, given.has_reference, self.centres)
        moments = moved_moments(difference, self.centres, scale[:, None]) / change[:, None]
        return torch.cat([torch.stack([change.log() * known, scale, *flags], dim=1), moments], dim=1)

    def _encode(self, given: Inputs, about: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens (B, T + H, W), which are padding (B, T + H), the mean spectral token (B, W), host elements (B, H)."""
        shown = channels(given.sample, given.reference, given.has_reference, self.grid.bin_width)
        x = self.stem(shown).transpose(1, 2)  # (B, T, W)
        elements = self.element_learned.weight + self.element_physical(self.descriptors)  # (V, W)
        middle = self.centres.view(-1, self.settings.patch_bins).mean(dim=1).log()  # (T,)
        relative = fourier((middle[None] - about[:, 1:2]) / _RELATIVE_RANGE)  # (B, T, P)
        places = torch.cat([self.positions.expand_as(relative), relative], dim=2)
        x = x + self.position(places) + (given.host @ elements + self.about(about))[:, None, :]

        fraction, index = given.host.topk(MAX_HOST_ELEMENTS, dim=1)  # (B, H)
        host_tokens = elements[index] + self.host_fraction(fraction[..., None])  # (B, H, W)
        hidden = F.pad(fraction <= 0, (x.shape[1], 0))  # (B, T + H)
        n_spectral = x.shape[1]
        x = torch.cat([x, host_tokens], dim=1)
        for layer in self.encoder:
            x = layer(x, ~hidden)
        x = self.encoder_norm(x)
        return x, hidden, x[:, :n_spectral].mean(dim=1), index

    def _owners(self, given: Inputs, tokens: Tensor, hidden: Tensor, hosts: Tensor) -> Tensor:
        """Log of the share that each host element has in the modes of each spectral token, (B, H, T)."""
        n = self.positions.shape[0]
        logit = self.owner(tokens[:, n:]) @ tokens[:, :n].transpose(1, 2) / self.settings.width**0.5
        fraction = given.host.gather(1, hosts).clamp(min=1e-6)  # it is a fair first guess
        logit = logit + fraction.log()[..., None]
        return logit.masked_fill(hidden[:, n:, None], _NO_SHARE).log_softmax(dim=1)

    def _queries(
        self, given: Inputs, about: Tensor, chosen: Tensor, asked: Tensor, hosts: Tensor, owner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A query for each of the `chosen` elements, (B, Q, W), and what the prior adds to its logit, (B, Q)."""
        elements = self.element_learned.weight + self.element_physical(self.descriptors)
        # The site's element: the prior's, or without the prior the host element most like the candidate.
        apart = torch.cdist(self.descriptors, self.descriptors)  # (V, V)
        nearest = torch.where(given.host[:, None, :] > 0, apart[None], torch.inf).argmin(dim=2)  # (B, V)
        site = torch.where(given.has_prior[:, None], given.site, nearest).gather(1, chosen)  # (B, Q)
        expected = given.expected * given.has_prior[:, None, None]
        expected = expected.gather(1, chosen[..., None].expand(-1, -1, expected.shape[2]))  # (B, Q, 5)
        # Mass ratio and misfit in size and electronegativity decide what a dopant does to the bands.
        own, replaced = self.descriptors[chosen], self.descriptors[site]  # (B, Q, D)
        mean = (given.host @ self.descriptors)[:, None]  # (B, 1, D)
        share = given.host.gather(1, site)[..., None]
        n_asked = (given.asked & (given.host <= 0)).sum(dim=1).clamp(min=1).log()[:, None, None].expand_as(share)
        spectrum = about[:, None].expand(-1, chosen.shape[1], -1)
        contrast = torch.cat([own - mean, own - replaced, replaced, share, n_asked, expected, spectrum], dim=2)
        pristine = torch.where(given.has_reference[:, None], given.reference, given.sample).clamp(min=0)
        projected = owner.exp().repeat_interleave(self.settings.patch_bins, dim=2) * pristine[:, None]  # (B, H, N)
        with torch.autocast(contrast.device.type, enabled=False):  # phases and solutions need all of their digits
            features = self.physics(
                given.sample,
                given.reference,
                about[:, 2:3],
                given.host,
                about[:, 1:2],
                (projected / projected.sum(dim=2, keepdim=True).clamp(min=1e-6)).float(),
                (hosts[:, None, :] == site[..., None]).to(torch.int8).argmax(dim=2),
                site,
                chosen,
                asked,
                contrast.float(),
            )
        contrast = torch.cat([contrast, features], dim=2)
        flagged = torch.cat([expected, spectrum[..., 4:5]], dim=2)
        return elements[chosen] + self.contrast(contrast), self.expectation(flagged)[..., 0]


# See `DefectNetwork._signature`: eight numbers of the spectrum, and the host's mean mass, radius, electronegativity and
# group.
_N_HOST_SIGNATURE = 4
N_SIGNATURE = 8 + _N_HOST_SIGNATURE
# The greatest of twelve standard normal deviations is 2.2 times their root mean square in the middle.
SIGNATURE_SHARE = 1 / 2.2
# Numbers that describe a spectrum as a whole: see `DefectNetwork._about`.
_N_ABOUT = 5 + N_MOMENTS
# Log share of a host element that is not there.
_NO_SHARE = -1e4
# Frequencies beside the host's mean, as natural logs: e^±2 is a seventh and seven times.
_RELATIVE_RANGE = 2.0
# Directions kept for the out-of-distribution score: the pooled tokens of some thousand spectra span little more.
OOD_RANK = 24


def compact(asked: Tensor) -> tuple[Tensor, Tensor]:
    """The asked elements first: their places, shape (B, Q), and which of them are padding, for rows that ask less.

    Only candidates become queries: with ten of them the decoder costs a ninth of what 94 do.
    """
    n_queries = max(int(asked.sum(dim=1).max()), 1)
    chosen = asked.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :n_queries]
    return chosen, ~asked.gather(1, chosen)
