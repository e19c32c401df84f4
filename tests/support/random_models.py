"""Models with random weights, in a folder or in a registry of their own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from defectnet.model.artifact import ModelConfig, save_artifact
from defectnet.model.network import DefectNetwork

NAME = "defectnet"


def random_artifact(folder: Path, seed: int = 0) -> Path:
    """A model that has learnt nothing: enough for everything that does not depend on the answer."""
    torch.manual_seed(seed)
    config = ModelConfig()
    save_artifact(folder, network=DefectNetwork(config.network, config.grid), config=config, card=f"# Random {seed}")
    return folder


def tamper(folder: Path) -> Path:
    """Change one byte of the weights, as a failing disk or an attacker would."""
    weights = folder / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    return folder


@dataclass(frozen=True)
class Registry:
    """An MLflow registry in a sqlite file; versions are registered the way training does, as plain files of a run."""

    uri: str
    client: Any
    experiment_id: str

    def register(self, folder: Path, alias: str | None = None) -> str:
        """Log `folder` as a run's files, register it, and return the version."""
        run = self.client.create_run(self.experiment_id)
        self.client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"{run.info.artifact_uri}/model"
        version = str(self.client.create_model_version(NAME, source, run.info.run_id).version)
        if alias:
            self.promote(version, alias)
        return version

    def promote(self, version: str, alias: str = "champion") -> None:
        """Point the alias at a version."""
        self.client.set_registered_model_alias(NAME, alias, version)
