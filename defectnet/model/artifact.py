"""The model artifact: a folder with everything a prediction needs, and nothing that runs code when it is read.

weights.safetensors   tensors of the network
config.json           vocabulary, input transform, network, calibration, what it was trained on
card.md               data, figures, limits, for people
SHA256SUMS            sums of the three, checked before anything else is read
"""

import hashlib
import json
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
from pydantic import ValidationError

from defectnet.elements import VOCABULARY
from defectnet.errors import ArtifactError
from defectnet.model.calibration import Calibration
from defectnet.model.comparison.calibration import ComparisonCalibration
from defectnet.model.comparison.comparer import ComparerSettings
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork, NetworkSettings
from defectnet.settings import Settings

__all__ = [
    "ARTIFACT_FILES",
    "SUMS",
    "ModelConfig",
    "TrainedOn",
    "WEIGHTS",
    "load_artifact",
    "read_card",
    "read_sums",
    "save_artifact",
    "verify_sums",
]

WEIGHTS, CONFIG, CARD, SUMS = "weights.safetensors", "config.json", "card.md", "SHA256SUMS"
ARTIFACT_FILES = (WEIGHTS, CONFIG, CARD)
FORMAT_VERSION: Literal[1] = 1


class TrainedOn(Settings):
    """What the training rows held, so that a prediction outside of it can say so.

    Attributes:
        dopants: elements that were a dopant in some training row; only these are weighed without a candidate list.
        host_elements: elements that were part of some training host.
        kinds: kinds of spectrum.
        n_spectra, n_hosts: rows and distinct host formulas of the training split.
        dataset_sha256, config_sha256, git_revision: where the weights come from.
    """

    dopants: tuple[str, ...] = VOCABULARY
    host_elements: tuple[str, ...] = VOCABULARY
    kinds: tuple[str, ...] = ("vibrational",)
    n_spectra: int = 0
    n_hosts: int = 0
    dataset_sha256: str = ""
    config_sha256: str = ""
    git_revision: str = ""


class ModelConfig(Settings):
    """`config.json`, field by field."""

    format_version: Literal[1] = FORMAT_VERSION
    vocabulary: tuple[str, ...] = VOCABULARY
    grid: FrequencyGrid = FrequencyGrid()
    network: NetworkSettings = NetworkSettings()
    calibration: Calibration = Calibration()
    comparer: ComparerSettings | None = None
    comparison: ComparisonCalibration = ComparisonCalibration()
    trained_on: TrainedOn = TrainedOn()


def save_artifact(folder: str | Path, *, network: DefectNetwork, config: ModelConfig, card: str) -> None:
    """Write the artifact into `folder`, making it if needed; the sums are written last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMS).unlink(missing_ok=True)  # an interrupted rewrite must not pass for whole
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    safetensors.torch.save_file(tensors, str(folder / WEIGHTS))
    (folder / CONFIG).write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(card.rstrip() + "\n", encoding="utf-8")
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in ARTIFACT_FILES]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def read_sums(folder: str | Path) -> dict[str, str]:
    """SHA256SUMS: file name → SHA-256 in hex, of the three files at least.

    Raises:
        ArtifactError: there is none, or it does not name each of the three.
    """
    folder = Path(folder)
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ArtifactError(f"{folder} is not a model artifact: it has no readable {SUMS}; check the path") from None
    sums = {name.strip().lstrip("*"): digest for digest, _, name in (line.partition(" ") for line in lines)}
    for name in ARTIFACT_FILES:
        if name not in sums:
            raise ArtifactError(f"{SUMS} in {folder} does not name {name}; fetch the artifact again")
    return sums


def verify_sums(folder: str | Path) -> None:
    """Check that the folder holds the three files and that each has the sum that SHA256SUMS names.

    Raises:
        ArtifactError: a file or its sum is missing, or a sum differs.
    """
    folder = Path(folder)
    sums = read_sums(folder)
    for name in ARTIFACT_FILES:
        if not (folder / name).is_file():
            raise ArtifactError(f"{folder} has no {name}; fetch the artifact again")
        if _sha256(folder / name) != sums[name]:
            raise ArtifactError(f"{folder / name} does not match its sum: altered or cut short; fetch it again")


def load_artifact(folder: str | Path) -> tuple[DefectNetwork, ModelConfig]:
    """Read a verified artifact; the network comes back in evaluation mode, on the CPU.

    Raises:
        ArtifactError: the sums do not match, the format is another version's, or the weights do not fit the network.
    """
    folder = Path(folder)
    verify_sums(folder)
    try:
        raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        found = raw.get("format_version") if isinstance(raw, dict) else None
        if found != FORMAT_VERSION:
            raise ArtifactError(f"{folder} has format {found!r}; this version reads format {FORMAT_VERSION}")
        config = ModelConfig(**raw)
    except (ValidationError, ValueError) as error:
        first = str(error).replace("\n", " ")[:160]
        raise ArtifactError(f"{CONFIG} in {folder} cannot be read ({first}); fetch the artifact again") from None
    if config.vocabulary != VOCABULARY:
        raise ArtifactError(f"{folder} was made for another vocabulary; use the version of defectnet that made it")
    try:
        network = DefectNetwork(config.network, config.grid, config.comparer)
        network.load_state_dict(safetensors.torch.load_file(str(folder / WEIGHTS)))
    except (RuntimeError, ValueError, safetensors.SafetensorError) as error:
        first = str(error).replace("\n", " ")[:160]
        raise ArtifactError(f"{WEIGHTS} in {folder} does not fit {CONFIG} ({first}); fetch it again") from None
    return network.eval(), config


def read_card(folder: str | Path) -> str:
    """The text of `card.md`."""
    return (Path(folder) / CARD).read_text(encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
