"""Write this folder's examples from rows of a simulated spectra table.

    python examples/make_examples.py SPECTRA --sample ID --sample ID --sample ID --candidate Ge --batch 64

Each sample becomes a CSV of two columns beside one of its pristine host, in THz, meV and cm-1 in turn, and an item of
`request.json`, the body of `POST /v1/predict`; `batch.parquet` holds further rows for batch scoring.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.io.tables import read_spectra, write_table
from defectnet.query import iterate_rows
from defectnet.spectrum import Spectrum
from defectnet.units import FrequencyUnit

HERE = Path(__file__).resolve().parent
# A spectrum of an instrument has some hundred points; the bins of a simulation are finer than its physics.
_POINTS = 250
_DIGITS = 6


@dataclass(frozen=True)
class Example:
    """One spectrum of a known sample, with its pristine host's; its id tells the truth, such as "Si-Ge5.0"."""

    sample_id: str
    host: Host
    unit: FrequencyUnit
    spectrum: Spectrum
    reference: Spectrum
    truth: str


def make_examples(
    table: pa.Table, sample_ids: Sequence[str], batch: int, folder: Path, candidates: Sequence[str] = ()
) -> list[Example]:
    """Write the examples of `sample_ids`, and `batch` other rows, into `folder`.

    `candidates` is the list that goes with the first example in `request.json`; the others are asked without one.

    Raises:
        InputError: a sample is not in the table or has no spectrum, or two samples have the same host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sound = table.filter(table["error"].is_null())
    units = list(FrequencyUnit)
    examples = []
    for number, sample_id in enumerate(sample_ids):
        rows = list(iterate_rows(sound.filter(pc.equal(sound["sample_id"], sample_id))))
        if not rows:
            raise InputError(f"{sample_id!r} has no spectrum in the table", fix="name another", field="--sample")
        examples.append(_example(rows[0], units[number % len(units)]))
    if len({example.host for example in examples}) < len(examples):
        raise InputError("two samples have one host", fix="name samples of different hosts", field="--sample")
    for example in examples:
        for suffix, spectrum in (("", example.spectrum), ("-pristine", example.reference)):
            (folder / f"{example.host.formula}{suffix}.csv").write_text(_csv(example, spectrum), encoding="utf-8")
    body = {"spectra": [_item(example) for example in examples]}
    if candidates:
        body["spectra"][0]["candidates"] = list(candidates)
    (folder / "request.json").write_text(json.dumps(body, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")
    rest = sound.filter(pc.invert(pc.is_in(sound["sample_id"], pa.array(list(sample_ids)))))
    chosen = np.unique(np.linspace(0, rest.num_rows - 1, min(batch, rest.num_rows)).astype(int))
    # The partial densities are most of a row, and only a simulation has them.
    empty = pa.nulls(len(chosen), table.schema.field("partial_dos").type)
    picked = rest.take(pa.array(chosen))
    position = picked.schema.get_field_index("partial_dos")
    write_table(picked.set_column(position, table.schema.field("partial_dos"), empty), folder / "batch.parquet")
    return examples


def _example(row: dict[str, Any], unit: FrequencyUnit) -> Example:
    host = Host(row["host"])
    defects = sorted(row["defects"] or [], key=lambda defect: -defect["concentration"])
    spectrum = Spectrum.from_bins(row["dos"], row["frequency_step_thz"])
    reference = Spectrum.from_bins(row["reference_dos"], row["frequency_step_thz"])
    # Both end where the last mode of either does: a file of zeros would teach nobody anything.
    end_thz = max(spectrum.top_thz(), reference.top_thz()) * 1.05
    step_thz = end_thz / _POINTS
    return Example(
        sample_id="-".join([host.formula, *(f"{d['element']}{100 * d['concentration']:.1f}" for d in defects)]),
        host=host,
        unit=unit,
        spectrum=spectrum.resampled(step_thz, _POINTS),
        reference=reference.resampled(step_thz, _POINTS),
        truth=", ".join(f"{100 * d['concentration']:.2f} at.% {d['element']}" for d in defects) or "nothing",
    )


def _columns(spectrum: Spectrum, unit: FrequencyUnit) -> tuple[list[float], list[float]]:
    frequency, dos = spectrum.in_unit(unit)
    return [round(float(f), _DIGITS) for f in frequency], [round(float(d), _DIGITS) for d in dos]


def _csv(example: Example, spectrum: Spectrum) -> str:
    frequency, dos = _columns(spectrum, example.unit)
    holds = "the pristine host" if spectrum is example.reference else f"doped with {example.truth}"
    head = f"# Simulated density of states of {example.host.formula}, {holds}\nfrequency ({example.unit}),dos\n"
    return head + "".join(f"{f},{d}\n" for f, d in zip(frequency, dos, strict=True))


def _item(example: Example) -> dict[str, Any]:
    def axes(spectrum: Spectrum) -> dict[str, Any]:
        frequency, dos = _columns(spectrum, example.unit)
        return {"unit": str(example.unit), "frequency": frequency, "dos": dos}

    own = {"id": example.sample_id, "host": example.host.formula}
    return own | axes(example.spectrum) | {"reference": axes(example.reference)}


def _main(
    spectra: Annotated[Path, typer.Argument(help="A Parquet file of simulated spectra, or a folder of them.")],
    sample: Annotated[list[str], typer.Option(help="Id of a sample to make an example of; may be repeated.")],
    batch: Annotated[int, typer.Option(help="Rows of batch.parquet.")] = 64,
    output: Annotated[Path, typer.Option(help="Folder to write into.")] = HERE,
    candidate: Annotated[list[str] | None, typer.Option(help="Asked about the first sample; may be repeated.")] = None,
) -> None:
    for example in make_examples(read_spectra(spectra), sample, batch, output, candidate or ()):
        typer.echo(f"{example.host.formula}.csv: {example.truth}")


if __name__ == "__main__":
    typer.run(_main)
