"""phonopy's YAML files: `mesh.yaml` (modes on a mesh) and `phonopy.yaml` with force constants (or forces)."""

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from defectnet.errors import SpectrumError
from defectnet.extras import require
from defectnet.io.safe_yaml import check_yaml
from defectnet.readers.modes import density_of_modes
from defectnet.readers.reading import Reading, known_unit, unit_for
from defectnet.units import FrequencyUnit, thz_per

__all__ = ["is_phonopy_yaml", "parse_mesh_yaml", "read_phonopy_yaml"]

_TOP_LEVEL = re.compile(r"^(phonopy|mesh|npath|segment_nqpoint)\s*:", re.MULTILINE)
_HEAD = 20_000  # characters in which a YAML file shows what it is
# Modes that are summed: a bin's statistical error is then about one per cent.
_MODES = 45_000


def is_phonopy_yaml(text: str) -> str | None:
    """Which of phonopy's files a text begins like: "phonopy", "mesh", "band", or None."""
    match = _TOP_LEVEL.search(text[:_HEAD])
    if match is None:
        return None
    return "band" if match[1] in ("npath", "segment_nqpoint") else match[1]


def parse_mesh_yaml(text: str, unit: FrequencyUnit | str | None = None, *, where: str = "text") -> Reading:
    """Read `mesh.yaml`; with eigenvectors in it, the elements' parts too.

    Raises:
        UnitError: no unit is given: the file says none.
        SpectrumError: not YAML, cut short, or too coarse a mesh.
    """
    chosen = unit_for(unit, where, "phonopy's default is THz")
    try:
        content: Any = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        symbols = np.array([point["symbol"] for point in content["points"]])
        phonon = content["phonon"]
        frequency = np.array([[band["frequency"] for band in q["band"]] for q in phonon], dtype=float)
        weight = np.array([q["weight"] for q in phonon], dtype=float)
        shares = None
        if all("eigenvector" in band for q in phonon for band in q["band"]):
            vectors = np.array([[band["eigenvector"] for band in q["band"]] for q in phonon])  # (q, mode, atom, 3, 2)
            squares = (vectors**2).sum(axis=(3, 4))
            squares /= squares.sum(axis=2, keepdims=True)
            shares = {str(s): squares[:, :, symbols == s].sum(axis=2) for s in np.unique(symbols)}
        if frequency.shape != (len(phonon), 3 * len(symbols)) or len(phonon) != int(content["nqpoint"]):
            raise ValueError
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        raise SpectrumError(
            f"{where} is not a whole mesh.yaml of phonopy", fix="write or copy it again", field="file"
        ) from None
    return density_of_modes(frequency * thz_per(chosen), weight, shares, where, "phonopy mesh.yaml")


def read_phonopy_yaml(path: Path, unit: FrequencyUnit | str | None = None) -> Reading:
    """Read `phonopy.yaml` (or `phonopy_params.yaml`) that holds force constants or forces, or lies beside their files.

    Raises:
        UnitError: the caller says another unit than THz, in which phonopy's frequencies are made.
        SpectrumError: phonopy cannot read it, or finds no force constants.
        MissingExtraError: phonopy is not installed.
    """
    require("simulate", "a density from force constants", "phonopy")
    import phonopy  # a second to import, which text files need not pay

    known_unit(FrequencyUnit.THZ, unit, str(path))
    check_yaml(path.read_text(encoding="utf-8"), str(path))
    beside = {
        "force_sets_filename": path.with_name("FORCE_SETS"),
        "force_constants_filename": path.with_name("FORCE_CONSTANTS"),
        "born_filename": path.with_name("BORN"),
    }
    given = {name: str(file) for name, file in beside.items() if file.exists()}
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            phonons = phonopy.load(path, log_level=0, **given)
            if phonons.force_constants is None:
                raise ValueError
            n = len(phonons.primitive)
            lengths = np.linalg.norm(np.linalg.inv(phonons.primitive.cell).T, axis=1)
            density = (_MODES / (3 * n) / np.prod(lengths)) ** (1 / 3)
            divisions = np.maximum(np.rint(density * lengths), 2).astype(int)
            phonons.run_mesh(divisions, shift=[0.5] * 3, is_mesh_symmetry=False, with_eigenvectors=True)
    except Exception as error:  # phonopy raises several unrelated types for incomplete files
        reason = f" ({str(error).splitlines()[0][:100]})" if str(error) else ""
        raise SpectrumError(
            f"{path} gives no force constants{reason}",
            fix="save phonopy with force_constants, or put FORCE_SETS or FORCE_CONSTANTS beside it",
            field="file",
        ) from None
    mesh = phonons.mesh
    vectors = np.asarray(mesh.eigenvectors)  # (n_q, 3n, n_modes)
    squares = (np.abs(vectors) ** 2).reshape(len(vectors), n, 3, -1).sum(axis=2)
    symbols = np.array(phonons.primitive.symbols)
    shares = {str(symbol): squares[:, symbols == symbol].sum(axis=1) for symbol in np.unique(symbols)}
    return density_of_modes(
        np.asarray(mesh.frequencies), np.asarray(mesh.weights, dtype=float), shares, str(path), "phonopy.yaml"
    )
