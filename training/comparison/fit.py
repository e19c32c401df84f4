"""Fit the network that compares: steps on batches of mixed kinds, averaged weights, a checkpoint now and then."""

import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from defectnet.model.comparison.comparer import Compared, Comparer, ComparerSettings
from defectnet.model.comparison.hosts import HostOnAxis
from defectnet.settings import Settings
from training.comparison.batches import Batch, BatchMaker
from training.comparison.lists import LISTS, ListKind
from training.comparison.mismatch import Mismatch, MismatchSettings
from training.comparison.rows import ComparisonRows

__all__ = ["CompareSettings", "comparison_loss", "fit_comparer"]

logger = logging.getLogger(__name__)

_STATE, _PROGRESS = "comparer-state.safetensors", "comparer-progress.json"
_SOURCES = ("endmember", "potential")
# Errors of log c beyond so many standard deviations count linearly.
_ROBUST = 3.0
# A dopant of less than this matters less: it hides in the scatter of configurations.
_FULL_WEIGHT = 0.005
_LEAST_WEIGHT = 0.3


class CompareSettings(Settings):
    """How to train the network that compares; data, responses and output are arguments."""

    seed: NonNegativeInt = 0
    """Of the weights, the rows, their mixtures and mismatches."""

    steps: PositiveInt = 20_000
    """Batches; the learning rate falls to zero over them."""

    batch_size: PositiveInt = 48
    """Spectra of a batch."""

    learning_rate: PositiveFloat = 2e-3
    """Peak of AdamW's."""

    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises."""

    weight_decay: float = Field(default=0.02, ge=0.0)
    """AdamW's."""

    average_decay: float = Field(default=0.998, ge=0.0, lt=1.0)
    """The weights that are kept are an exponential moving average with this decay a step."""

    list_shares: dict[str, float] = Field(
        default={"hard": 0.3, "likely": 0.2, "random": 0.1, "near": 0.05, "all": 0.15, "mixed": 0.1, "all_mixed": 0.1}
    )
    """Shares of the batches by kind of candidate list (`training.comparison.lists`)."""

    most_distractors: PositiveInt = 14
    """A list has between three and this many."""

    mixture_share: float = Field(default=0.35, ge=0.0, le=1.0)
    """Share of the rows that are mixed with another of their host."""

    made_up_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the rows whose sample is made of candidates' responses, whichever they are, as wrong as their source."""

    pristine_share: float = Field(default=0.08, ge=0.0, le=1.0)
    """Share of the rows whose sample is the pristine crystal."""

    neutron_share: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of the rows that are seen as neutrons see them."""

    distorted_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the rows whose end members are made as wrong as a potential's responses."""

    prior_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the rows that are asked without the chemical prior."""

    presence_weight: PositiveFloat = 3.0
    """Of the loss of presence."""

    concentration_weight: PositiveFloat = 0.5
    """Of the loss of concentration."""

    go_on: bool = False
    """Begin with the comparer of the base model, which must be of the same `network`, and not anew."""

    most_hosts: NonNegativeInt = 0
    """Train on so many hosts only, drawn by the seed; 0 for all: the learning curve."""

    experiment: str = "defectnet"
    """MLflow experiment that the run is recorded in."""

    network: ComparerSettings = ComparerSettings()
    """Size of the network."""

    mismatch: MismatchSettings = MismatchSettings()
    """How measurement and calculation differ."""


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


def fit_comparer(
    rows: ComparisonRows,
    settings: CompareSettings,
    folder: Path,
    *,
    report: Callable[[int, float, float], None] | None = None,
    every: int = 200,
    start: Comparer | None = None,
) -> Comparer:
    """Train on the training rows; a run that was killed goes on from its last checkpoint in `folder`.

    Args:
        report: called each `every` steps with the step and the mean losses of presence and concentration.
        start: weights to begin with.
    """
    torch.manual_seed(settings.seed)
    network = Comparer(settings.network) if start is None else start
    average = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    maker = BatchMaker(
        rows,
        Mismatch(settings.mismatch),
        mixtures=settings.mixture_share,
        pristine=settings.pristine_share,
        made_up=settings.made_up_share,
    )
    pools = _Pools(rows, settings)
    first = _restore(folder, network, average)
    losses: list[tuple[float, float]] = []
    network.train()
    began = time.monotonic()
    for step in range(first, settings.steps):
        # Each step's draws are its own, so that a run that goes on draws what it would have drawn.
        rng = np.random.default_rng([settings.seed, step])
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = pools.draw(maker, rng, generator)
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, settings)
        presence, concentration = comparison_loss(network(batch.inputs), batch)
        loss = settings.presence_weight * presence + settings.concentration_weight * concentration
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimizer.step()
        _average(average, network, min(settings.average_decay, (step + 1) / (step + 10)))
        losses.append((float(presence.detach()), float(concentration.detach())))
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            means = np.mean(losses[-every:], axis=0)
            _keep(folder, network, average, step + 1)
            left = (time.monotonic() - began) / (step + 1 - first) * (settings.steps - step - 1)
            logger.info(
                "step %d/%d: presence %.4f, concentration %.3f, %.0f min left",
                step + 1,
                settings.steps,
                *means,
                left / 60,
            )
            if report is not None:
                report(step + 1, *map(float, means))
    network.load_state_dict(average)
    return network.eval()


class _Pools:
    """Which rows each kind of list can be made of."""

    def __init__(self, rows: ComparisonRows, settings: CompareSettings) -> None:
        train = rows.of_split("train")
        if settings.most_hosts:
            names = sorted({rows.host[row] for row in train})
            kept = np.random.default_rng(settings.seed).permutation(names)[: settings.most_hosts]
            train = [row for row in train if rows.host[row] in set(kept.tolist())]
        self._rows, self._settings = rows, settings
        self._hard = {
            source: [row for row in train if len(self._host(row).chosen(self._host(row).elements, source)) >= 2]
            for source in _SOURCES
        }
        self._springs = [row for row in train if self._host(row).chosen(self._host(row).elements, "springs")]
        logger.info(
            "training rows: %d, with springs %d, for hard lists %s",
            len(train),
            len(self._springs),
            {source: len(pool) for source, pool in self._hard.items()},
        )

    def _host(self, row: int) -> HostOnAxis:
        return self._rows.hosts[self._rows.host[row]].vibrational

    def draw(self, maker: BatchMaker, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        settings = self._settings
        shares = np.array([settings.list_shares.get(kind, 0.0) for kind in LISTS])
        kind: ListKind = str(rng.choice(LISTS, p=shares / shares.sum()))  # type: ignore[assignment]
        source = _SOURCES[0]
        if kind == "hard" and rng.random() < len(self._hard["potential"]) / max(len(self._hard["endmember"]), 1):
            source = "potential"
        pool = self._hard[source] if kind == "hard" else self._springs
        chosen = [pool[place] for place in rng.integers(0, len(pool), settings.batch_size)]
        questions = [
            maker.question(
                row,
                kind,
                rng,
                neutron=bool(rng.random() < settings.neutron_share),
                source=source,
                n_distractors=int(rng.integers(3, settings.most_distractors + 1)),
            )
            for row in chosen
        ]
        distorted = settings.distorted_share if kind in ("hard", "mixed", "all_mixed") else 0.0
        return maker.batch(questions, rng, generator, distorted=distorted, without_prior=settings.prior_dropout)


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


def _keep(folder: Path, network: Comparer, average: dict[str, Tensor], step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    safetensors.torch.save_file(whole, str(folder / (_STATE + ".new")))
    (folder / (_STATE + ".new")).replace(folder / _STATE)
    (folder / _PROGRESS).write_text(json.dumps({"step": step}), encoding="utf-8")


def _restore(folder: Path, network: Comparer, average: dict[str, Tensor]) -> int:
    """Take up a checkpoint; returns the step to go on with. The optimiser begins anew, which some steps mend."""
    if not (folder / _PROGRESS).exists():
        return 0
    tensors = safetensors.torch.load_file(str(folder / _STATE))
    network.load_state_dict({n.removeprefix("network."): v for n, v in tensors.items() if n.startswith("network.")})
    for name in average:
        average[name].copy_(tensors[f"average.{name}"])
    return int(json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))["step"])
