"""The released model artifact, shipped inside the package so that `defectnet predict` works once installed."""

from pathlib import Path

from defectnet.errors import ArtifactError

__all__ = ["released_model"]


def released_model() -> Path:
    """The folder of the released artifact (`weights.safetensors`, `config.json`, `card.md`, `SHA256SUMS`).

    Raises:
        ArtifactError: this installation was packed without it.
    """
    folder = Path(__file__).parent
    if not (folder / "weights.safetensors").is_file():
        raise ArtifactError(f"no released model lies in {folder}; reinstall the package, or name a model folder")
    return folder
