"""A wheel in an empty environment: nothing of Ray, MLflow or phonopy is there, and `defectnet predict` works.

The wheel is built from the working tree, installed with the pinned versions and no extra, and asked about an example.

    make wheel-test
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# What must not be there: the packages by which the extras are told.
ABSENT = ("ray", "mlflow", "phonopy", "ase", "pymatgen", "sklearn", "fastapi")
MEBIBYTE = 1 << 20


def measure() -> dict[str, object]:
    """Build, install, predict.

    Returns:
        `env_mb`, the size of the environment in MiB; `torch_mb`, torch's part of it; `wheel_mb`; `packages`, how many
        it holds; `found`, the elements called present in examples/Si.csv.

    Raises:
        RuntimeError: a step failed, or something that only an extra brings is in the environment.
    """
    with tempfile.TemporaryDirectory(prefix="defectnet-wheel-") as folder:
        dist, env = Path(folder) / "dist", Path(folder) / "env"
        _run([sys.executable, "-m", "build", "--wheel", "--outdir", dist, _clean_copy(Path(folder))])
        (wheel,) = dist.glob("*.whl")
        _run([sys.executable, "-m", "venv", env])
        python = env / "bin" / "python"
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "-c", REPOSITORY / "constraints.txt", wheel])
        code = f"import importlib.util as u; print([name for name in {ABSENT!r} if u.find_spec(name)])"
        if (there := _run([python, "-c", code]).strip()) != "[]":
            raise RuntimeError(f"the base installation brings {there}")
        examples = REPOSITORY / "examples"
        sample = [examples / "Si.csv", "--host", "Si", "--reference", examples / "Si-pristine.csv"]
        report = Path(folder) / "report.html"
        (answer,) = json.loads(_run([env / "bin" / "defectnet", "predict", *sample, "--report", report, "--json"]))
        names = json.loads(_run([python, "-m", "pip", "list", "--format", "json"]))
        (site,) = env.glob("lib/python*/site-packages")
        return {
            "env_mb": _size_mb(env),
            "torch_mb": _size_mb(site / "torch"),
            "wheel_mb": round(wheel.stat().st_size / MEBIBYTE, 1),
            "packages": len(names),
            "found": [verdict["element"] for verdict in answer["elements"] if verdict["present"]],
        }


def _clean_copy(folder: Path) -> Path:
    """What git knows of the tree: setuptools would leave its folders in it, and pick up what an older build left."""
    copy = folder / "source"
    listed = _run(["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard", "-z"])
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, copy / name
        if source.is_file() and not name.startswith(("data/", "benchmarks/", "tests/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return copy


def _size_mb(folder: Path) -> int:
    return round(sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_symlink()) / MEBIBYTE)


def _run(command: list[object]) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))  # noqa: T201
