"""Fit the network that compares: steps on batches of mixed kinds, averaged weights, a checkpoint now and then.

In one process the draws are of (seed, step); a worker of several draws its share by (seed, step, rank), and the
gradient is the mean over the shares. Either way a run that goes on from a checkpoint ends at the weights that it would
have had.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defectnet.model.comparison.batches import on_device
from defectnet.model.comparison.comparer import Compared, Comparer
from training.comparison.batches import Batch, BatchMaker
from training.comparison.mismatch import Mismatch
from training.comparison.pools import Pools
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings
from training.optimizer_state import load_optimizer, optimizer_tensors

__all__ = ["ComparerTrainer", "Share", "averaged", "comparison_loss", "fit_comparer", "run_steps"]

logger = logging.getLogger(__name__)

_STATE, _PROGRESS = "comparer-state.safetensors", "comparer-progress.json"
# Errors of log c beyond so many standard deviations count linearly.
_ROBUST = 3.0
# A dopant of less than this matters less: it hides in the scatter of configurations.
_FULL_WEIGHT = 0.005
_LEAST_WEIGHT = 0.3
_GRADIENT_NORM = 2.0


def comparison_loss(compared: Compared, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of presence and the robust likelihood of the log concentrations of those that are present."""
    asked = batch.inputs.responses.mask & (batch.present >= 0)
    there = batch.inputs.responses.mask & (batch.present > 0)
    matters = (batch.concentration / _FULL_WEIGHT).clamp(max=1.0) * (1 - _LEAST_WEIGHT) + _LEAST_WEIGHT
    weight = torch.where(batch.present > 0, matters, torch.ones_like(matters))
    entropy = F.binary_cross_entropy_with_logits(compared.logit, batch.present.clamp(min=0), reduction="none")
    presence = (entropy * weight)[asked].sum() / asked.sum().clamp(min=1)
    if not there.any():
        return presence, presence.new_zeros(())
    away = batch.concentration[there].clamp(min=1e-4).log() - compared.log_concentration[there]
    spread = compared.log_spread[there]
    score = (away / spread.exp()).abs()
    robust = torch.where(score < _ROBUST, 0.5 * score.square(), _ROBUST * score - 0.5 * _ROBUST**2)
    return presence, ((robust + spread) * weight[there]).mean()


@dataclass(frozen=True)
class Share:
    """Which worker of how many this is."""

    rank: int
    world: int

    def of(self, n: int) -> int:
        """How many of `n` rows are this worker's."""
        return len(range(self.rank, n, self.world))


class ComparerTrainer:
    """Weights, their moving average, the optimiser and the step of one process.

    Attributes:
        network, average: the weights, and their moving average by name, which is what is kept in the end.
        step: steps done.
    """

    def __init__(
        self,
        rows: ComparisonRows,
        settings: CompareSettings,
        *,
        start: Comparer | None = None,
        share: Share | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Begin anew, or with the weights of `start`, which is trained itself.

        Args:
            share: of a batch, where several workers train; None for all of it.
            device: where the network computes; batches are drawn on the CPU.
        """
        torch.manual_seed(settings.seed)  # the same first weights in every worker
        self.settings, self.share, self.device = settings, share, torch.device(device)
        self.network = (Comparer(settings.network) if start is None else start).to(self.device)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.step = 0
        self._maker = BatchMaker(
            rows,
            Mismatch(settings.mismatch),
            mixtures=settings.mixture_share,
            pristine=settings.pristine_share,
            made_up=settings.made_up_share,
        )
        self._pools = Pools(rows, settings)

    def run_step(self, model: nn.Module) -> tuple[float, float]:
        """One step; returns its losses of presence and concentration. `model` is `self.network`, wrapped or not."""
        settings = self.settings
        batch = self._drawn()
        present, concentration = batch.present.to(self.device), batch.concentration.to(self.device)
        batch = Batch(on_device(batch.inputs, self.device), present, concentration)
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(self.step, settings)
        presence_loss, concentration_loss = comparison_loss(model(batch.inputs), batch)
        loss = settings.presence_weight * presence_loss + settings.concentration_weight * concentration_loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_NORM)
        self.optimizer.step()
        if self.share is not None and self.share.world > 1:
            self._bring_together()
        decay = min(settings.average_decay, (self.step + 1) / (self.step + 10))
        _average(self.average, self.network, decay)
        self.step += 1
        return float(presence_loss.detach()), float(concentration_loss.detach())

    def save(self, folder: Path) -> None:
        """Write everything that going on needs; plain tensors and JSON, no pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= optimizer_tensors(self.optimizer, self.network)
        # Dropout draws from the process's own generator.
        tensors |= {"random": torch.get_rng_state(), "step": torch.tensor(self.step)}
        whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        safetensors.torch.save_file(whole, str(folder / (_STATE + ".new")))
        (folder / (_STATE + ".new")).replace(folder / _STATE)
        (folder / _PROGRESS).write_text(json.dumps({"step": self.step}), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Go on from a folder written by `save`, or by a release that kept neither the optimiser nor the draws."""
        tensors = safetensors.torch.load_file(str(folder / _STATE))
        self.network.load_state_dict(_under("network.", tensors))
        for name, value in _under("average.", tensors).items():
            self.average[name].copy_(value)
        load_optimizer(self.optimizer, self.network, tensors)
        if "random" in tensors:
            torch.set_rng_state(tensors["random"])
        known = tensors.get("step")
        self.step = _progress(folder) if known is None else int(known)

    def _drawn(self) -> Batch:
        """The batch of this step. Each step's draws are its own, so that a run that goes on draws as it would have."""
        seed, share = self.settings.seed, self.share
        common = np.random.default_rng([seed, self.step])
        if share is None:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + self.step)
            return self._pools.draw(self._maker, common, common, generator, self.settings.batch_size)
        # From 1, for a zero at the end of a seed changes nothing.
        own = np.random.default_rng([seed, self.step, 1 + share.rank])
        generator = torch.Generator().manual_seed(int(own.integers(2**62)))
        torch.manual_seed(int(own.integers(2**62)))  # dropout
        return self._pools.draw(self._maker, common, own, generator, share.of(self.settings.batch_size))

    @torch.no_grad()
    def _bring_together(self) -> None:
        """Make what each worker counted of its own shares, the statistics of the features, their mean."""
        assert self.share is not None
        standardised = self.network.standardised
        for value in (standardised.running_mean, standardised.running_var):
            assert value is not None  # it tracks them
            torch.distributed.all_reduce(value)
            value.div_(self.share.world)


def run_steps(
    trainer: ComparerTrainer,
    *,
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network,
    report: Callable[[ComparerTrainer, dict[str, float]], None],
) -> None:
    """Take the steps that are left; `report` is called at each checkpoint and at the end, by every worker.

    Its figures are `step`, and the means of `presence_loss` and `concentration_loss` since the last report.
    """
    settings = trainer.settings
    model = wrap(trainer.network)
    model.train()
    losses: list[tuple[float, float]] = []
    began, first = time.monotonic(), trainer.step
    while trainer.step < settings.steps:
        losses.append(trainer.run_step(model))
        if trainer.step % settings.checkpoint_steps and trainer.step < settings.steps:
            continue
        presence, concentration = (float(mean) for mean in np.mean(losses, axis=0))
        losses.clear()
        if trainer.share is None or trainer.share.rank == 0:
            left = (time.monotonic() - began) / (trainer.step - first) * (settings.steps - trainer.step)
            logger.info(
                "step %d/%d: presence %.4f, concentration %.3f, %.0f min left",
                trainer.step,
                settings.steps,
                presence,
                concentration,
                left / 60,
            )
        metrics = {"step": float(trainer.step), "presence_loss": presence, "concentration_loss": concentration}
        report(trainer, metrics)


def fit_comparer(
    rows: ComparisonRows,
    settings: CompareSettings,
    folder: Path,
    *,
    report: Callable[[Mapping[str, float]], None] | None = None,
    start: Comparer | None = None,
) -> Comparer:
    """Train on the training rows, in this process; a run that was killed goes on from its checkpoint in `folder`.

    Args:
        report: called after each checkpoint with the figures of `run_steps`.
        start: weights to begin with.
    """
    trainer = ComparerTrainer(rows, settings, start=start)
    if (folder / _PROGRESS).exists():
        trainer.load(folder)

    def keep(trainer: ComparerTrainer, metrics: dict[str, float]) -> None:
        trainer.save(folder)
        if report is not None:
            report(metrics)

    run_steps(trainer, report=keep)
    trainer.network.load_state_dict(trainer.average)
    return trainer.network.eval()


def averaged(folder: Path, settings: CompareSettings) -> Comparer:
    """The averaged weights of a checkpoint."""
    network = Comparer(settings.network)
    network.load_state_dict(_under("average.", safetensors.torch.load_file(str(folder / _STATE))))
    return network.eval()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _progress(folder: Path) -> int:
    return int(json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))["step"])


def _learning_rate(step: int, settings: CompareSettings) -> float:
    risen = min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    return settings.learning_rate * risen * 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))


@torch.no_grad()
def _average(average: dict[str, Tensor], network: Comparer, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1.0 - decay)
        else:
            average[name].copy_(value)
