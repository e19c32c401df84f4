"""A CSV of labelled measurements: the training rows of fine-tuning, one file of a spectrum a line.

    file,host,dopants,reference,unit,kind
    si95ge05.csv,Si,Ge=5%,si.csv,meV,neutron
    pristine.nxs,Si,,si.csv,,neutron

`dopants` are separated by blanks or semicolons, each `element=share of all atoms`, a fraction or with a per cent sign;
an empty field is a pristine crystal. `reference`, `unit` and `kind` may be left out. Paths are relative to the CSV.
"""

import csv
import io
import logging
import re
from pathlib import Path

import pyarrow as pa

from defectnet.binning import BINS_TO_TOP
from defectnet.errors import CompositionError, InputError, TableError
from defectnet.host import Defect, Host, nearest_host_element
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.query import KINDS
from defectnet.readers import compatible, read_file, read_like
from defectnet.spectrum import Spectrum

__all__ = ["read_labels"]

logger = logging.getLogger(__name__)

_REQUIRED, _OPTIONAL = ("file", "host", "dopants"), ("reference", "unit", "kind")
_DOPANT = re.compile(r"([A-Z][a-z]?)\s*=\s*([0-9.eE+-]+)\s*(%?)")


def read_labels(path: str | Path) -> pa.Table:
    """Read a CSV of labels and the spectra that it names as a spectra table.

    Raises:
        InputError: the CSV, a label or a spectrum cannot be read; names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InputError(f"cannot read {path} as text", fix="check the path", field="data") from None
    lines = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    names = set(lines[0]) if lines else set()
    missing = [name for name in _REQUIRED if name not in names]
    unknown = sorted(str(name) for name in names - {*_REQUIRED, *_OPTIONAL})
    if missing or unknown:
        what = f"has no column {missing[0]!r}" if missing else f"has an unknown column {unknown[0]!r}"
        columns = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise TableError(f"{path} {what}", fix=f"give the columns {columns}", field="data")
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(_row(path.parent, {key: (value or "").strip() for key, value in line.items()}))
        except InputError as error:
            raise InputError(f"line {number} of {path}: {error}", field="data") from None
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


def _row(folder: Path, line: dict[str, str]) -> dict[str, object]:
    host = Host(line["host"])
    defects = _defects(line["dopants"], host)
    unit, kind = line.get("unit") or None, line.get("kind") or None
    if kind not in (None, *KINDS):
        raise InputError(f"unknown kind of spectrum {kind!r}", fix=f"use {' or '.join(KINDS)}", field="kind")
    pair = compatible(
        read_file(folder / line["file"], unit),
        read_like(folder / line["reference"], unit) if line.get("reference") else None,
        kind=kind,
        n_elements=len(host.elements),
        names=(line["file"], line.get("reference") or ""),
    )
    for note in pair.notes:
        logger.warning("%s", note)
    spectra: list[Spectrum] = [reading.spectrum for reading in (pair.sample, pair.reference) if reading is not None]
    step = max(spectrum.top_thz() for spectrum in spectra) / BINS_TO_TOP
    n_bins = max(int(spectrum.frequency_thz[-1] / step) + 1 for spectrum in spectra)
    densities = [spectrum.normalised().resampled(step, n_bins).dos for spectrum in spectra]
    sample, error = pair.sample.spectrum, pair.sample.error
    scale = sample.normalised().dos.max() / sample.dos.max()
    return {
        "sample_id": line["file"],
        "host": host.formula,
        "defects": [vars(defect) for defect in defects],
        "frequency_step_thz": step,
        "dos": densities[0],
        "uncertainty": None if error is None else scale * sample.resampled_error(error, step, n_bins),
        "reference_dos": densities[1] if len(densities) > 1 else None,
        "kind": pair.kind,
        "origin": {"method": "measured"},
    }


def _defects(text: str, host: Host) -> list[Defect]:
    parts = [part for part in re.split(r"[;\s]+(?=[A-Z])", text) if part.strip("; ")]
    found = []
    for part in parts:
        match = _DOPANT.fullmatch(part.strip("; "))
        try:
            share = float(match[2]) / (100.0 if match[3] else 1.0) if match else -1.0
        except ValueError:
            share = -1.0
        if match is None or share < 0:
            raise CompositionError(f"{part!r} is no dopant", fix="write it like Ge=5% or Ge=0.05", field="dopants")
        found.append(Defect(match[1], nearest_host_element(match[1], host), share))
    return found
