"""Fine-tuning on a few labelled measurements: low-rank changes of a frozen base, as many epochs as leave-one-out bears.

Every linear map of the encoder, the decoder and the head keeps its weights W; what is trained is a change B·A of rank
`rank` (Hu et al., arXiv:2106.09685), a few per cent of the parameters. How long is decided by cross-validation: each
measurement is left out once (in at most ten groups), the others are trained on, and the number of epochs is the one at
which the loss on what was left out, averaged, is lowest. Zero is a possible answer: then the base is kept as it is.
Where there are several hosts, whole hosts are left out: learning each of a few by heart is no gain for the next.
All groups are trained side by side, so that they stop together once that loss has not fallen for some epochs.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from defectnet.elements import VOCABULARY
from defectnet.errors import TableError
from defectnet.model.artifact import ModelConfig, load_artifact, read_card, save_artifact
from defectnet.model.comparison.answer import Comparison
from defectnet.model.network import DefectNetwork
from defectnet.responses import response_library
from defectnet.settings import Settings
from training.augment import Augmenter, AugmentSettings
from training.candidates import all_candidates, candidate_lists
from training.comparison.measured import Learned, learn_responses, write_learned
from training.dataset import SpectraArrays, require_rows
from training.evaluate import network_answerer, score_modes
from training.losses import answer_loss
from training.tracking import git_revision

__all__ = ["FinetuneSettings", "Finetuned", "finetune", "folds"]

logger = logging.getLogger(__name__)

_MAX_FOLDS = 10
# With fewer hosts than this there are too few to leave one out: then single measurements are.
_LEAST_HOSTS = 3
# Parts of the network whose linear maps are changed; how elements and frequencies are embedded stays as it was learned.
_TUNED = frozenset({"encoder", "decoder", "head"})
_BATCH = 32


class FinetuneSettings(Settings):
    """How to fine-tune."""

    epochs: PositiveInt = 24
    """Passes over the measurements at most."""

    patience: PositiveInt = 6
    """Passes without a lower loss on what was left out, after which no more are tried."""

    rank: PositiveInt = 4
    """Rank of the change of every linear map."""

    learning_rate: PositiveFloat = 2e-3
    """AdamW's."""

    weight_decay: float = Field(default=0.1, ge=0.0)
    """Pulls the changes back to zero: the base is the best guess where the measurements say nothing."""

    draws: PositiveInt = 4
    """Candidate lists drawn for each measurement in an epoch."""

    seed: NonNegativeInt = 0
    """Of the changes, the lists and the noise."""

    augment: AugmentSettings = AugmentSettings()
    """What is done to a measurement each time that it is seen; light, for it is a measurement already."""


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning did.

    Attributes:
        artifact: the new artifact's folder.
        epochs: passes that cross-validation chose; 0 kept the base.
        held_out_loss: mean loss on what was left out after 0, 1, … epochs.
        forgetting: figures of base and result on the base's benchmark; None where none was given.
        learned: responses of the measurements' hosts.
    """

    artifact: Path
    epochs: int
    held_out_loss: tuple[float, ...]
    forgetting: dict[str, Any] | None
    learned: tuple[Learned, ...] = ()


class _LowRank(nn.Module):
    """W + B·A, with B zero at first."""

    def __init__(self, shape: torch.Size, rank: int) -> None:
        super().__init__()
        rank = min(rank, *shape)
        self.down = nn.Parameter(torch.randn(rank, shape[1]) / shape[1] ** 0.5)
        self.up = nn.Parameter(torch.zeros(shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def finetune(
    base: str | Path,
    measurements: pa.Table,
    output: str | Path,
    settings: FinetuneSettings | None = None,
    *,
    benchmark: pa.Table | None = None,
    responses: str | None = None,
) -> Finetuned:
    """Fine-tune an artifact on labelled spectra; writes `output`/model and `output`/finetune.json.

    A base that compares also learns responses of the hosts that `responses` knows; they go into
    `output`/responses.parquet.

    Args:
        base: folder of the base artifact.
        measurements: a spectra table with known defects, 5 to 50 rows.
        output: a folder.
        settings: see `FinetuneSettings`.
        benchmark: labelled spectra of the base's own kind; base and result are compared on its test hosts.
        responses: as in `defectnet.responses.response_library`; None learns no responses.

    Raises:
        ArtifactError: the base cannot be read.
        TableError: fewer than three labelled spectra.
    """
    settings = settings or FinetuneSettings()
    network, config = load_artifact(base)
    data = SpectraArrays.from_table(measurements, config.grid)
    if len(data) < 3:
        raise TableError(f"{len(data)} labelled spectra are too few", fix="give at least three", field="data")
    known = np.isin(VOCABULARY, (*config.trained_on.dopants, *data.dopants))
    losses = _cross_validate(base, data, known, settings)
    epochs = int(np.argmin(losses))
    logger.info("%d epochs: loss on what was left out %.3f, base %.3f", epochs, losses[epochs], losses[0])
    for _ in _epochs(network, data, known, settings, epochs):
        pass
    _merge(network)
    network.eval()

    tuned = _described(config, data, known)
    forgetting = None
    if benchmark is not None:
        forgetting = _forgetting(base, network, tuned, SpectraArrays.from_table(benchmark, config.grid))
    output = Path(output)
    card = _card(read_card(base), len(data), epochs, losses, forgetting)
    save_artifact(output / "model", network=network, config=tuned, card=card)
    learned = _learned(network, tuned, measurements, responses, output / "responses.parquet")
    result = Finetuned(output / "model", epochs, tuple(float(loss) for loss in losses), forgetting, learned)
    report = {
        "measurements": len(data),
        "hosts": sorted(set(data.formula.tolist())),
        "epochs": epochs,
        "held_out_loss": [round(loss, 4) for loss in result.held_out_loss],
        "forgetting": forgetting,
        "responses": [
            {
                "host_id": one.host_id,
                "kind": one.kind,
                "element": one.guess.element,
                "replaces": one.guess.replaces,
                "guess": one.guess.source,
                "samples": one.n_samples,
                "correction": round(one.correction, 3),
            }
            for one in learned
        ],
        "settings": settings.model_dump(),
    }
    (output / "finetune.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return result


def _learned(
    network: DefectNetwork, config: ModelConfig, measurements: pa.Table, responses: str | None, file: Path
) -> tuple[Learned, ...]:
    library = response_library(responses)
    if network.comparer is None or library is None:
        return ()
    learned = learn_responses(measurements, Comparison(network.comparer, config.comparison, library))
    if learned:
        write_learned(learned, library, file)
    return tuple(learned)


def _described(config: ModelConfig, data: SpectraArrays, known: NDArray[np.bool_]) -> ModelConfig:
    """The base's config, with the measurements among what it was trained on."""
    hosts = {*config.trained_on.host_elements, *data.host_elements}
    described = config.trained_on.model_copy(
        update={
            "dopants": tuple(symbol for symbol, one in zip(VOCABULARY, known, strict=True) if one),
            "host_elements": tuple(symbol for symbol in VOCABULARY if symbol in hosts),
            "n_spectra": config.trained_on.n_spectra + len(data),
            "git_revision": git_revision(),
        }
    )
    return config.model_copy(update={"trained_on": described})


def folds(formula: NDArray[np.str_], seed: int) -> NDArray[np.intp]:
    """The group with which each measurement is left out, shape (n,): by itself, or by host where there are several."""
    hosts, host = np.unique(formula, return_inverse=True)
    group = host if len(hosts) >= _LEAST_HOSTS else np.arange(len(formula))
    n_groups = int(group.max()) + 1
    return np.asarray((np.random.default_rng(seed).permutation(n_groups) % _MAX_FOLDS)[group])


def _cross_validate(
    base: str | Path, data: SpectraArrays, known: NDArray[np.bool_], settings: FinetuneSettings
) -> NDArray[np.float64]:
    """Mean loss on what was left out after 0, 1, … epochs, until it has not fallen for `settings.patience` of them."""
    fold = folds(data.formula, settings.seed)
    n_folds = int(fold.max()) + 1
    networks = [load_artifact(base)[0] for _ in range(n_folds)]
    held = [data.where(fold == number) for number in range(n_folds)]
    runs = [
        _epochs(network, data.where(fold != number), known, settings, settings.epochs)
        for number, network in enumerate(networks)
    ]

    def left_out() -> float:
        parts = [_held_out(*pair, known, settings) for pair in zip(networks, held, strict=True)]
        return sum(parts) / len(data)

    losses = [left_out()]
    for epoch in range(1, settings.epochs + 1):
        for run in runs:
            next(run)
        losses.append(left_out())
        logger.info("epoch %d of at most %d: loss on what was left out %.3f", epoch, settings.epochs, losses[-1])
        if epoch - int(np.argmin(losses)) >= settings.patience:
            break
    return np.array(losses)


def _epochs(
    network: DefectNetwork, data: SpectraArrays, known: NDArray[np.bool_], settings: FinetuneSettings, epochs: int
) -> Iterator[None]:
    """Train in place; yields after each epoch."""
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    augment = Augmenter(settings.augment, network.grid)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear) and _TUNED.intersection(name.split(".")):
            parametrize.register_parametrization(module, "weight", _LowRank(module.weight.shape, settings.rank))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    network.eval()  # no dropout: with a handful of spectra its noise outweighs what they say
    for _ in range(epochs):
        order = np.concatenate([rng.permutation(len(data)) for _ in range(settings.draws)])
        for start in range(0, len(order), _BATCH):
            rows = data.where(order[start : start + _BATCH])
            loss = _loss(network, rows, known, rng, augment, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        yield


def _merge(network: DefectNetwork) -> None:
    """Add the low-rank changes into the weights, so that the artifact is an ordinary one."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def _loss(
    network: DefectNetwork,
    rows: SpectraArrays,
    known: NDArray[np.bool_],
    rng: np.random.Generator,
    augment: Augmenter | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The training's loss, half of the rows with a candidate list and half without."""
    listed = candidate_lists(rows.truth, rows.host, known, rng)
    asked = np.where(rng.random(len(rows))[:, None] < 0.5, listed, all_candidates(rows.host, known))
    inputs = rows.inputs(asked)
    if augment is not None and generator is not None:
        sample, reference = augment(inputs.sample, inputs.reference, generator)
        inputs = inputs._replace(sample=sample, reference=reference)
    return answer_loss(
        network(*inputs),
        torch.from_numpy(rows.truth),
        torch.from_numpy(rows.partial),
        torch.from_numpy(rows.partial_element),
        concentration_weight=1.0,
        modes_weight=0.0,
        owners_weight=0.0,
    ).total


def _held_out(
    network: DefectNetwork, rows: SpectraArrays, known: NDArray[np.bool_], settings: FinetuneSettings
) -> float:
    """Summed loss over rows that were left out, on several candidate lists that are the same in every epoch."""
    rng = np.random.default_rng(settings.seed + 1)
    with torch.inference_mode():
        losses = [float(_loss(network, rows, known, rng)) for _ in range(settings.draws)]
    return float(np.mean(losses)) * len(rows)


def _forgetting(
    base: str | Path, network: DefectNetwork, config: ModelConfig, data: SpectraArrays
) -> dict[str, dict[str, float]]:
    """Headline F1 of base and result on the benchmark's test hosts, by mode."""
    rows = require_rows(data, "test")

    def headlines(model: DefectNetwork, its: ModelConfig) -> dict[str, Any]:
        known = np.isin(VOCABULARY, its.trained_on.dopants)
        modes = score_modes(network_answerer(model), rows, known, its.calibration)
        return {mode: figures["headline"] for mode, figures in modes.items()}

    before, after = headlines(*load_artifact(base)), headlines(network, config)
    return {mode: {"base": before[mode]["f1"], "finetuned": after[mode]["f1"]} for mode in before}


def _card(
    card: str, n: int, epochs: int, losses: NDArray[np.float64], forgetting: dict[str, dict[str, float]] | None
) -> str:
    lines = [
        "# DefectNet model, fine-tuned",
        "",
        f"Fine-tuned on {n} labelled measurements: {epochs} epochs, chosen by leaving measurements out (loss on them "
        f"{losses[0]:.3f} before, {losses[epochs]:.3f} after).",
        "Presence and intervals keep the base's calibration, which was made on simulated spectra.",
    ]
    if forgetting is not None:
        lines += ["", "F1 on the base's benchmark, hosts of its test split:", "", "| mode | base | fine-tuned |"]
        lines += ["|---|---|---|"]
        lines += [f"| {mode} | {f1['base']} | {f1['finetuned']} |" for mode, f1 in forgetting.items()]
    return "\n".join([*lines, "", "What follows is the card of the base.", "", card])
