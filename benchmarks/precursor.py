"""The published precursor of this model, as its authors describe it, to be trained on the same rows.

Written from the description alone: three channels of 100 bins over the pristine crystal's own range (its density; log10
of (doped + 0.01)/(pristine + 0.01); the host's composition, padded to 100), three convolutions, one attention whose
only query is a linear map of the dopant mask, and a multilayer perceptron whose output is multiplied by the mask. No
positions, no reference-free mode: without the pristine crystal it cannot be asked.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defectnet.elements import VOCABULARY
from defectnet.model.features import FrequencyGrid
from training.baselines import from_regression, relative_shares
from training.candidates import candidate_lists
from training.dataset import SpectraArrays, dopant_mask
from training.inference import Answerer

__all__ = ["Precursor", "fit_precursor"]

_BINS = 100
_FLOOR = 0.01
_TARGET_SCALE = 10.0  # it learns ten times the concentration
_LEARNING_RATE, _BATCH = 5e-4, 64
# Published: 25 epochs over 16,000 spectra. A smaller table gets as many steps, and the validation rows choose the best
# epoch, so that it is neither starved nor overfitted.
_STEPS = 25 * 16_000 // _BATCH
_MOST_EPOCHS = 250
_PATIENCE = 25


class Precursor(nn.Module):
    """Masked regression: x of shape (B, 3, 100) and a mask (B, V) to ten times the concentrations, (B, V).

    With the 57 elements of the original it has its 238,841 parameters.
    """

    def __init__(self, v: int = len(VOCABULARY)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *(nn.Conv1d(3, 32, 5, padding=2), nn.ReLU()),
            *(nn.Conv1d(32, 64, 5, padding=2), nn.ReLU()),
            *(nn.Conv1d(64, 128, 5, padding=2), nn.ReLU()),
        )
        self.query = nn.Linear(v, 128)
        self.attention = nn.MultiheadAttention(128, 8, batch_first=True)
        self.head = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, v))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        tokens = self.stem(x).transpose(1, 2)
        read, _ = self.attention(self.query(mask)[:, None], tokens, tokens, need_weights=False)
        out: Tensor = self.head(read[:, 0]) * mask
        return out


def fit_precursor(
    train: SpectraArrays, validation: SpectraArrays, grid: FrequencyGrid, *, most_steps: int = _STEPS
) -> Answerer:
    """Train it by its own protocol: a mask of the true dopants and up to ten distractors, masked squared error."""
    train, validation = train.where(train.has_reference), validation.where(validation.has_reference)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    known = dopant_mask(train)
    network = Precursor()
    optimizer = torch.optim.Adam(network.parameters(), lr=_LEARNING_RATE)
    x, target = _inputs(train, grid), _TARGET_SCALE * torch.from_numpy(train.truth)
    held_x, held_target = _inputs(validation, grid), _TARGET_SCALE * torch.from_numpy(validation.truth)
    held_mask = torch.from_numpy(candidate_lists(validation.truth, validation.host, known, rng)).float()
    best, best_loss, best_epoch, epoch, steps = copy.deepcopy(network.state_dict()), np.inf, 0, 0, 0
    while steps < most_steps and epoch < _MOST_EPOCHS and epoch - best_epoch <= _PATIENCE:
        network.train()
        n = rng.integers(0, 11, size=len(train))
        mask = torch.from_numpy(candidate_lists(train.truth, train.host, known, rng, n_distractors=n)).float()
        for rows in torch.from_numpy(rng.permutation(len(train))).split(_BATCH):
            loss = _masked_error(network(x[rows], mask[rows]), target[rows], mask[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        epoch += 1
        network.eval()
        with torch.inference_mode():
            held = float(_masked_error(network(held_x, held_mask), held_target, held_mask))
        if held < best_loss:
            best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), held, epoch
    network.load_state_dict(best)
    network.eval()

    def predict(data: SpectraArrays, asked: NDArray[np.bool_]) -> NDArray[np.float64]:
        mask = torch.from_numpy(asked & (data.host <= 0)).float()
        with torch.inference_mode():
            found = network(_inputs(data, grid), mask).double().numpy() / _TARGET_SCALE
        return np.asarray(found)

    return from_regression(predict, train)


def _masked_error(found: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return ((found - target).square() * mask).sum() / mask.sum().clamp(min=1)


def _inputs(data: SpectraArrays, grid: FrequencyGrid) -> Tensor:
    """Its three channels, shape (n, 3, 100)."""
    pristine = relative_shares(data.reference, data.reference, grid, _BINS) * _BINS
    doped = relative_shares(data.sample, data.reference, grid, _BINS) * _BINS
    composition = np.zeros((len(data), _BINS))
    composition[:, : len(VOCABULARY)] = data.host
    ratio = np.log10((doped + _FLOOR) / (pristine + _FLOOR))
    return torch.from_numpy(np.stack([pristine, ratio, composition], axis=1)).float()
