"""What each extra of the installation brings, and one sentence where it is missing.

`pip install defectnet` predicts, reads and reports. Simulating, training and serving need more, and each stage asks for
its extra when it is imported, so that the command line and a Python program hear the same.
"""

from importlib.util import find_spec

from defectnet.errors import MissingExtraError

__all__ = ["EXTRAS", "require"]

# Extra → the packages by whose absence it is told; pyproject.toml lists all that it installs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "simulate": ("phonopy", "ase", "spglib", "pymatgen", "ray"),
    "train": ("ray", "mlflow", "sklearn"),
    "serve": ("ray", "mlflow", "fastapi", "prometheus_client"),
    "trace": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "excel": ("openpyxl",),
}


def require(extra: str, what: str, *packages: str) -> None:
    """Make sure that an extra is installed.

    Args:
        extra: its name in `EXTRAS`.
        what: what needs it, as the subject of the sentence.
        packages: the packages that are needed; by default all by which the extra is told.

    Raises:
        MissingExtraError: a package of it is not there; it is an `ImportError` too.
    """
    missing = [package for package in packages or EXTRAS[extra] if not _is_there(package)]
    if missing:
        raise MissingExtraError(f"{what} needs {', '.join(missing)}; install it: pip install 'defectnet[{extra}]'")


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False
