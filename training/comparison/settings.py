"""Settings of a training run of the network that compares: `configs/compare.yaml`, field by field."""

import hashlib
from pathlib import Path
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from defectnet.model.comparison.comparer import ComparerSettings
from training.comparison.mismatch import MismatchSettings
from training.settings import WorkerSettings

__all__ = ["CompareSettings"]

# A worker standardises what its share of a batch holds, which takes more than one candidate.
_LEAST_SHARE = 2


class CompareSettings(WorkerSettings):
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

    potential_share: float = Field(default=0.3, ge=0.0, le=1.0)
    """Least share of the hard lists that is asked with a potential's own responses, where any host has them."""

    prior_dropout: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the rows that are asked without the chemical prior."""

    presence_weight: PositiveFloat = 3.0
    """Of the loss of presence."""

    concentration_weight: PositiveFloat = 0.5
    """Of the loss of concentration."""

    workers: NonNegativeInt = 0
    """Ray Train workers; 0 trains in this process, without Ray. Each worker draws its own share of a batch, so that
    another number of them draws other rows, and belongs to another run."""

    checkpoint_steps: PositiveInt = 200
    """Steps from one checkpoint to the next, each with its figures."""

    go_on: bool = False
    """Begin with the comparer of the base model, which must be of the same `network`, and not anew."""

    former_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    """With `go_on`: the share of the weights gone on from in those that are kept; between two runs answers are often
    better than at either."""

    most_hosts: NonNegativeInt = 0
    """Train on so many hosts only, drawn by the seed; 0 for all: the learning curve."""

    experiment: str = "defectnet"
    """MLflow experiment that the run is recorded in."""

    network: ComparerSettings = ComparerSettings()
    """Size of the network."""

    mismatch: MismatchSettings = MismatchSettings()
    """How measurement and calculation differ."""

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.batch_size < _LEAST_SHARE * self.workers:
            raise ValueError(f"batch_size: give each of {self.workers} workers {_LEAST_SHARE} spectra at least")
        return self

    def sha256(self, responses: str | Path) -> str:
        """Hash of every setting that can change the weights, and of which responses they are trained on."""
        about_machines = {*WorkerSettings.model_fields, "checkpoint_steps"} - ({"workers"} if self.workers else set())
        return hashlib.sha256(f"{self.model_dump_json(exclude=about_machines)}/{responses}".encode()).hexdigest()
