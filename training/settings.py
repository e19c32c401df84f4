"""Settings of a training run: `configs/train.yaml`, field by field."""

import hashlib

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from defectnet.model.features import FrequencyGrid
from defectnet.model.network import NetworkSettings
from defectnet.settings import Settings
from training.augment import AugmentSettings
from training.candidates import MAX_DISTRACTORS

__all__ = ["TrainSettings", "WorkerSettings"]


class WorkerSettings(Settings):
    """How many workers train, and on what."""

    workers: NonNegativeInt = 2
    """Ray Train workers; 0 trains in this process, without Ray."""

    cpus_per_worker: PositiveFloat = 0.5
    """CPUs that each worker claims of the cluster. Less than one, for claiming every CPU starves whatever else runs on
    a small machine."""

    threads_per_worker: PositiveInt = 1
    """Threads of each worker's arithmetic."""

    use_gpu: bool = False
    """Give each worker a GPU, where the network computes in bfloat16."""

    max_failures: NonNegativeInt = 2
    """Worker deaths that are survived from the last checkpoint."""


class TrainSettings(WorkerSettings):
    """How to train; where the data lies and where the result goes are arguments of `training.loop.train`."""

    seed: NonNegativeInt = 0
    """Of the weights, the order of the rows, augmentation and candidate lists."""

    epochs: PositiveInt = 40
    """Passes over the training rows at most; the learning rate falls to zero over them."""

    patience: PositiveInt = 10
    """Epochs without a better validation loss after which training stops."""

    batch_size: PositiveInt = 64
    """Spectra per step, over all workers together: the result does not depend on their number."""

    learning_rate: PositiveFloat = 1e-3
    """Peak of AdamW's."""

    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises."""

    weight_decay: float = Field(default=0.02, ge=0.0)
    """AdamW's, on matrices only."""

    average_decay: float = Field(default=0.995, ge=0.0, lt=1.0)
    """The weights that are kept are an exponential moving average with this decay a step."""

    concentration_weight: PositiveFloat = 1.0
    """Of the loss of concentration, beside presence's."""

    modes_weight: NonNegativeFloat = 0.2
    """Of the loss of where the dopants' modes lie, beside presence's."""

    owners_weight: NonNegativeFloat = 1.0
    """Of the loss of who moves where, beside presence's."""

    guess_free_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the batches in which every element is a candidate; the others carry a list."""

    max_distractors: PositiveInt = MAX_DISTRACTORS
    """A list holds the true dopants and at most this many others."""

    hard_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the lists whose distractors are first of all the other dopants of the same host. A host was simulated
    with a handful of dopants; a network that knows the host by heart rules out all others unseen, and these it
    cannot."""

    reference_dropout: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the rows that are trained on without their reference."""

    prior_dropout: float = Field(default=0.2, ge=0.0, le=1.0)
    """Share of the rows that are trained on without the chemical prior."""

    pristine_share: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of the rows whose sample is the pristine crystal: nothing to be found, instrument and all."""

    mix_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of the rows that are added to another one of the same host, each scaled: changes of dilute dopants add up
    (R² 0.99 below 6 %), so that new mixtures of known dopants cost no simulation."""

    neutron_share: float = Field(default=0.15, ge=0.0, le=1.0)
    """Share of the rows that are seen as neutrons see them."""

    experiment: str = "defectnet"
    """MLflow experiment that the run is recorded in."""

    network: NetworkSettings = NetworkSettings()
    """Size of the network; see `NetworkSettings`."""

    grid: FrequencyGrid = FrequencyGrid()
    """Frequency grid that the network reads; see `FrequencyGrid`."""

    augment: AugmentSettings = AugmentSettings()
    """What instruments do to a spectrum; see `AugmentSettings`."""

    @property
    def sha256(self) -> str:
        """Hash of every setting that can change the weights."""
        about_machines = {*WorkerSettings.model_fields, "experiment"}
        return hashlib.sha256(self.model_dump_json(exclude=about_machines).encode()).hexdigest()
