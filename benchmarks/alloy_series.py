"""What the benchmarks of SiGe and MgB2 share: a composition series by the direct engine, seen by a spectrometer."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from datagen.dopants import Replacement
from datagen.engine import Outcome, Workbench
from datagen.parents import Parent
from datagen.potentials import load_potential
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from defectnet.errors import DefectNetError
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra, write_table
from defectnet.neutron import Resolution, counted, neutron_weighted, resolved
from defectnet.spectrum import Spectrum

# As many atoms as the direct method allows; no cell is smaller than 216.
_SETTINGS = SimulateSettings(direct_atoms=240, max_atoms=240, seed=20261122)


def simulate_series(parent: Parent, element: str, replaces: str, fractions: list[float], path: Path) -> pa.Table:
    """The series as a spectra table, kept in `path`; a member that cannot be simulated is left out.

    Args:
        fractions: shares of all atoms.
    """
    if path.exists():
        return read_spectra(path)
    bench = Workbench(parent, load_potential("nep89"), _SETTINGS)
    rows = []
    for number, fraction in enumerate(fractions):
        plan = Plan(((Replacement(element, replaces, 1.0, False), fraction),))
        try:
            # The doped cell itself is relaxed and displaced, at every concentration.
            outcome = bench.simulate(plan, np.random.default_rng([number, _SETTINGS.seed]), "direct")
        except DefectNetError as error:
            print(f"{element} {fraction:.3f}: {error}", flush=True)  # noqa: T201
            continue
        (defect,) = outcome.defects
        print(f"{element} {defect.concentration:.4f}: {outcome.n_atoms} atoms, {outcome.method}", flush=True)  # noqa: T201
        rows.append(row_of(f"{parent.host.formula}:{element} {defect.concentration:.4f}", bench, outcome, "nep89"))
    table = pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
    write_table(table, path)
    pristine = {e: d.tolist() for e, d in bench.reference.partial.items()}
    write_table(pa.Table.from_pylist([{"element": e, "dos": d} for e, d in pristine.items()]), _pristine(path))
    return table


def row_of(sample_id: str, bench: Workbench, outcome: Outcome, potential: str) -> dict[str, object]:
    """A row of the spectra table."""
    return {
        "sample_id": sample_id,
        "parent_id": bench.parent.parent_id,
        "host": bench.parent.host.formula,
        "defects": [vars(defect) for defect in outcome.defects],
        "frequency_step_thz": outcome.dos.bins.step_thz,
        "dos": outcome.dos.total,
        "partial_dos": [{"element": e, "dos": d} for e, d in outcome.dos.partial.items()],
        "reference_dos": bench.reference.total,
        "kind": "vibrational",
        "origin": {
            "method": outcome.method,
            "potential": potential,
            "n_atoms": outcome.n_atoms,
            "n_configurations": 1,
            "imaginary_weight": outcome.dos.imaginary_weight,
            "strain": outcome.strain,
            "heterovalent": outcome.heterovalent,
        },
    }


def _pristine(path: Path) -> Path:
    return path.with_name(f"pristine-{path.name}")


def as_measured(table: pa.Table, path: Path, resolution: Resolution, noise: float, seed: int) -> pa.Table:
    """The series as a spectrometer sees it: neutron weights, resolution, counting noise; the pristine host likewise."""
    import pyarrow.parquet as pq

    parts = {row["element"]: np.array(row["dos"]) for row in pq.read_table(_pristine(path)).to_pylist()}
    rng = np.random.default_rng(seed)
    rows = table.to_pylist()
    for row in rows:
        step = row["frequency_step_thz"]
        sample = {part["element"]: np.array(part["dos"]) for part in row["partial_dos"]}
        for name, partial in (("dos", sample), ("reference_dos", parts)):
            axis = Spectrum.from_bins(np.ones(len(row["dos"])), step).frequency_thz
            seen, _ = counted(resolved(neutron_weighted(partial, axis), resolution), noise, rng)
            row[name] = seen.normalised().dos
        row["kind"], row["partial_dos"] = "neutron", None
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
