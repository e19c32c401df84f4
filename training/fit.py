"""The epochs themselves, in plain torch: every worker of a run calls `fit` with its rank and the same arrays.

All randomness is drawn from (seed, epoch, rank), so that a run resumed at an epoch goes on exactly as it would have.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from defectnet.elements import VOCABULARY
from defectnet.model.network import Answer, DefectNetwork, Inputs
from training.augment import Augmenter
from training.candidates import all_candidates, candidate_lists
from training.dataset import SpectraArrays
from training.losses import Loss, answer_loss
from training.mixing import Mixer
from training.optimizer_state import load_optimizer, optimizer_tensors
from training.settings import TrainSettings

__all__ = ["Progress", "Trainer", "fit"]

_STATE, _PROGRESS = "state.safetensors", "progress.json"
_GRADIENT_NORM = 1.0  # steps beyond this norm are cut: one odd spectrum must not undo an epoch
_ADAM_BETAS = (0.9, 0.98)


@dataclass
class Progress:
    """Where a run stands; kept in every checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0
    best_loss: float = math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Weights, their moving average, the optimiser and the progress of one worker."""

    def __init__(
        self,
        settings: TrainSettings,
        data: SpectraArrays,
        *,
        rank: int = 0,
        world: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        """`device` is where the network computes; rows are binned, mixed and made worse on the CPU."""
        torch.manual_seed(settings.seed)  # the same first weights in every worker
        self.settings, self.rank, self.world = settings, rank, world
        self.device = torch.device(device)
        self.network = DefectNetwork(settings.network, settings.grid).to(self.device)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        self.progress = Progress()
        self.train, self.validation = data.of_split("train"), data.of_split("validation")
        self.known = np.isin(VOCABULARY, self.train.dopants)
        self.augment = Augmenter(settings.augment, settings.grid)
        self.mixer = Mixer(self.train)
        self.tried = _tried(self.train)
        self.optimizer = torch.optim.AdamW(
            _weight_decay_groups(self.network, settings.weight_decay), lr=settings.learning_rate, betas=_ADAM_BETAS
        )
        self.steps_per_epoch = math.ceil(len(self.train) / settings.batch_size)

    def run_epoch(self, model: nn.Module) -> dict[str, float]:
        """Train one epoch and validate; returns its metrics. `model` is `self.network`, wrapped or not."""
        started = time.perf_counter()
        epoch = self.progress.epoch
        rng = np.random.default_rng((self.settings.seed, epoch, self.rank))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from the process's own generator
        # One order for all workers, each taking its stripe; the tail is filled up from the front, so that no row is
        # lost and every step has the same number of rows.
        shared = np.random.default_rng((self.settings.seed, epoch))
        order = np.resize(shared.permutation(len(self.train)), self.steps_per_epoch * self.settings.batch_size)
        guess_free = shared.random(self.steps_per_epoch) < self.settings.guess_free_share
        model.train()
        sums = np.zeros(4)
        for step in range(self.steps_per_epoch):
            batch = order[step * self.settings.batch_size : (step + 1) * self.settings.batch_size]
            sums += self._step(model, batch[self.rank :: self.world], bool(guess_free[step]), rng, generator)
        train = sums / self.steps_per_epoch
        validation = self.validate()
        seconds = time.perf_counter() - started
        self.progress.epoch += 1
        self.progress.seconds += seconds
        metrics = {
            "epoch": float(self.progress.epoch),
            "train_loss": float(train[0]),
            "train_presence_loss": float(train[1]),
            "train_concentration_loss": float(train[2]),
            "train_modes_loss": float(train[3]),
            **validation,
            "learning_rate": self._learning_rate(),
            "seconds": seconds,
            "samples_per_second": order.size / seconds,
        }
        if validation["validation_loss"] < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_epoch = validation["validation_loss"], self.progress.epoch
            self.best = {name: value.clone() for name, value in self.average.items()}
        self.progress.history.append(metrics)
        return metrics

    def validate(self) -> dict[str, float]:
        """Loss of the averaged weights on the validation rows, half with candidates and half without.

        Every worker does the same sums: sharing them out would save seconds and cost a collective that can hang.
        """
        network = DefectNetwork(self.settings.network, self.settings.grid).to(self.device)
        network.load_state_dict(self.average)
        network.eval()
        data = self.validation
        rng = np.random.default_rng(self.settings.seed)  # the same candidate lists in every epoch
        free, listed = all_candidates(data.host, self.known), candidate_lists(data.truth, data.host, self.known, rng)
        losses = {}
        with torch.inference_mode():
            for name, asked in (("guess_free", free), ("candidates", listed)):
                sums, size = 0.0, 4 * self.settings.batch_size
                for start in range(0, len(data), size):
                    rows = np.arange(start, min(start + size, len(data)))
                    chosen = data.where(rows)
                    loss = self._loss(network(*self._moved(chosen.inputs(asked[rows]))), chosen, chosen.truth)
                    sums += float(loss.presence + self.settings.concentration_weight * loss.concentration) * len(rows)
                losses[f"validation_loss_{name}"] = sums / len(data)
        # The better of two epochs is the one that tells candidates apart: without a list, most of the loss is the
        # prior's, which is fitted afterwards.
        return {"validation_loss": losses["validation_loss_candidates"], **losses}

    def finished(self) -> bool:
        """Whether all epochs are done or the validation loss has stopped falling."""
        progress = self.progress
        stale = progress.epoch - progress.best_epoch >= self.settings.patience
        return progress.epoch >= self.settings.epochs or stale

    def save(self, folder: Path) -> None:
        """Write everything that going on needs; plain tensors and JSON, no pickle."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= optimizer_tensors(self.optimizer, self.network)
        whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        safetensors.torch.save_file(whole, str(folder / _STATE))
        (folder / _PROGRESS).write_text(json.dumps(asdict(self.progress)), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a folder written by `save`."""
        tensors = safetensors.torch.load_file(str(folder / _STATE))

        def under(prefix: str) -> dict[str, Tensor]:
            chosen = {name: value for name, value in tensors.items() if name.startswith(prefix)}
            return {name.removeprefix(prefix): value.to(self.device) for name, value in chosen.items()}

        self.network.load_state_dict(under("network."))
        self.average, self.best = under("average."), under("best.")
        load_optimizer(self.optimizer, self.network, tensors)
        self.progress = Progress(**json.loads((folder / _PROGRESS).read_text(encoding="utf-8")))

    def _step(
        self,
        model: nn.Module,
        index: NDArray[np.intp],
        guess_free: bool,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> NDArray[np.float64]:
        settings, rows = self.settings, self.train.where(index)
        mixture, truth, mixed = self.mixer.mixed(index, settings.mix_share, rng)
        pristine_ones = (rng.random(len(rows)) < settings.pristine_share) & rows.has_reference
        mixture[pristine_ones], truth[pristine_ones] = rows.reference[pristine_ones], 0.0
        # Whose modes lie where is known of the doped crystal alone.
        untold = np.where(pristine_ones[:, None], -1, rows.partial_element)
        rows = replace(rows, partial_element=untold)
        weighted = (rng.random(len(rows)) < settings.neutron_share) & ~mixed & ~pristine_ones
        seen, pristine, neutron = self.mixer.as_neutrons(index, weighted, mixture)
        if guess_free:
            asked = all_candidates(rows.host, self.known)
        else:
            n = rng.integers(0, settings.max_distractors + 1, size=len(rows))
            hard = self.tried[index] & (rng.random(len(rows)) < settings.hard_share)[:, None]
            asked = candidate_lists(truth, rows.host, self.known, rng, n_distractors=n, first=hard)
        sample, reference = self.augment(torch.from_numpy(seen), torch.from_numpy(pristine), generator)
        given = rows.inputs(asked)._replace(
            sample=sample,
            reference=reference,
            has_reference=torch.from_numpy(rows.has_reference & (rng.random(len(rows)) >= settings.reference_dropout)),
            neutron=torch.from_numpy(rows.neutron | neutron),
            has_prior=torch.from_numpy(rng.random(len(rows)) >= settings.prior_dropout),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            answer = model(*self._moved(given))
        loss = self._loss(answer, rows, truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_NORM)
        self.optimizer.step()
        self.progress.step += 1
        # The average starts young: with a fixed decay it would carry the random first weights through a short run.
        decay = min(self.settings.average_decay, (1 + self.progress.step) / (10 + self.progress.step))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1.0 - decay)
        terms = (loss.total, loss.presence, loss.concentration, loss.modes)
        return np.array([term.item() for term in terms])

    def _moved(self, given: Inputs) -> Inputs:
        return Inputs(*(tensor.to(self.device) for tensor in given))

    def _loss(self, answer: Answer, rows: SpectraArrays, truth: NDArray[np.float32]) -> Loss:
        arrays = (truth, rows.partial, rows.partial_element)
        return answer_loss(
            answer,
            *(torch.from_numpy(array).to(self.device) for array in arrays),
            concentration_weight=self.settings.concentration_weight,
            modes_weight=self.settings.modes_weight,
            owners_weight=self.settings.owners_weight,
        )

    def _learning_rate(self) -> float:
        """Linear rise, then half a cosine down to zero at the last step."""
        s, step = self.settings, self.progress.step
        if step < s.warmup_steps:
            return s.learning_rate * (step + 1) / s.warmup_steps
        whole = max(s.epochs * self.steps_per_epoch - s.warmup_steps, 1)
        return s.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min((step - s.warmup_steps) / whole, 1.0)))


def fit(
    trainer: Trainer,
    *,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    report: Callable[[Trainer, dict[str, float]], None],
) -> None:
    """Run the epochs that are left; `report` is called after each, by every worker."""
    model = wrap(trainer.network)
    while not trainer.finished():
        report(trainer, trainer.run_epoch(model))


def _tried(rows: SpectraArrays) -> NDArray[np.bool_]:
    """Which elements some spectrum of the same host holds, shape (n, 94)."""
    tried = np.zeros(rows.truth.shape, dtype=bool)
    for formula in np.unique(rows.formula):
        members = rows.formula == formula
        tried[members] = (rows.truth[members] > 0).any(axis=0)
    return tried


def _weight_decay_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices only: pulling biases and norms towards zero has no use."""
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    others = [p for p in network.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
