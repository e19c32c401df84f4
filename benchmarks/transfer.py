"""How much of the model's skill is left on spectra that differ from its training as real ones would?

The same doped crystals, hosts of the test split, simulated again with what was not in the training: another
interatomic potential, other and smaller supercells. Neutron weights, resolution and noise are added when scoring.

    make bench-transfer PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from alloy_series import row_of
from writing import write_result

from datagen.dopants import Replacement, replacements
from datagen.engine import Workbench
from datagen.parents import from_row
from datagen.potentials import Potential, load_potential
from datagen.sampling import Plan, draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, PotentialError
from defectnet.host import Host
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra, write_table
from defectnet.model.artifact import load_artifact
from defectnet.neutron import ARCS, counted, neutron_weight, neutron_weighted, resolved
from defectnet.released import released_model
from defectnet.spectrum import Spectrum
from defectnet.units import thz_per
from training.dataset import SpectraArrays, split_of
from training.evaluate import network_answerer, score_modes
from training.finetune import FinetuneSettings, finetune

WORK = Path("runs/transfer")
NOISES = (0.01, 0.03, 0.05)
# Sets that are fine-tuned on, and on how many of their spectra.
FINE_TUNED = ("supercell", "chgnet", "sevennet", "neutron", "resolution_noise_3", "everything")
TUNE_ON = (5, 10, 20)
# Small primitive cells, because one call of the slow potentials takes half a second.
MAX_BASIS = 4
MOST_TOGETHER = 0.06
# Below 6 % superposed fragments are as good as the direct calculation, and a slow potential can afford them.
_COMMON = {
    "samples_per_parent": 4,
    "dopants_per_parent": 3,
    "max_defects": 3,
    "pristine_share": 0.0,
    "min_concentration": 0.005,
    "max_concentration": 0.05,
    "seed": 20261122,
}
# name → potential and what differs from the training's settings.
SIMULATED: dict[str, tuple[str, dict[str, int]]] = {
    "clean": ("nep89", {}),
    "supercell": ("nep89", {"min_atoms": 110, "max_atoms": 200, "seed": 7}),
    "chgnet": ("chgnet.model.dynamics:CHGNetCalculator(use_device='cpu')", {"fragment_atoms": 64}),
    "sevennet": ("sevenn.calculator:SevenNetCalculator(model='7net-0', device='cpu')", {"fragment_atoms": 64}),
}


def _plans(parent_id: str, host: Host, reference: Potential, clean: Path) -> list[tuple[str, Plan]]:
    """The samples of a host: drawn for the clean set, and the same for every other."""
    if clean.exists():
        return [
            (row["sample_id"], Plan(tuple(_dopant(**defect) for defect in row["defects"])))
            for row in read_spectra(clean).select(["sample_id", "defects"]).to_pylist()
        ]
    settings = SimulateSettings(**_COMMON)
    palette = draw_palette(parent_id, replacements(host, reference), settings)
    plans = []
    for index in range(settings.samples_per_parent):
        sample_id, seed = identity(parent_id, index, settings)
        plan = draw_plan(host, palette, settings, np.random.default_rng(seed))
        if plan.dopants and plan.total <= MOST_TOGETHER:
            plans.append((sample_id, plan))
    return plans


def _dopant(element: str, replaces: str, concentration: float) -> tuple[Replacement, float]:
    return Replacement(element, replaces, 1.0, False), concentration


def simulate(parents: str, name: str, hosts: int) -> None:
    """Simulate the set `name` into `WORK`, one file a host, until there are `hosts`; a failed one is an empty file."""
    spec, changes = SIMULATED[name]
    settings = SimulateSettings(**{**_COMMON, **changes})
    reference, potential = load_potential("nep89"), load_potential(spec)
    table = pq.read_table(parents, filters=[("n_atoms_primitive", "<=", MAX_BASIS)])
    made = sum(pq.read_metadata(file).num_rows > 0 for file in (WORK / name).glob("*.parquet"))
    for row in sorted(table.to_pylist(), key=lambda row: (row["n_atoms_primitive"], row["material_id"])):
        path = WORK / name / f"{row['material_id']}.parquet"
        if made >= hosts:
            return
        if split_of(Host(row["formula"])) != "test" or path.exists():
            continue
        clean = WORK / "clean" / path.name
        if name != "clean" and not (clean.exists() and pq.read_metadata(clean).num_rows):
            continue
        rows = []
        try:
            bench = Workbench(from_row(row), potential, settings)
            plans = _plans(row["material_id"], bench.parent.host, reference, clean)
            for index, (sample_id, plan) in enumerate(plans):
                rng = np.random.default_rng([index, settings.seed])
                try:
                    # Without the direct method, which costs a slow potential minutes a sample.
                    outcome = bench.simulate(plan, rng, "embedded")
                    rows.append(row_of(sample_id, bench, outcome, potential.name))
                except DefectNetError as error:
                    print(f"{name} {row['formula']}: {error}", flush=True)  # noqa: T201
        except DefectNetError as error:
            print(f"{name} {row['formula']}: {error}", flush=True)  # noqa: T201
        write_table(pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA), path)
        made += bool(rows)
        print(f"{name} {row['formula']}: {len(rows)} spectra", flush=True)  # noqa: T201


def score() -> None:
    """Ask the released model about every set, before and after fine-tuning on some of it; write `transfer.json`."""
    sets = _sets()
    clean = sets["clean"]
    result: dict[str, object] = {}
    for name, table in sets.items():
        # The same crystals in the clean set, so that a set without some of them is not compared with easier ones.
        ids = set(table["sample_id"].to_pylist())
        paired = clean.filter(pa.array([one in ids for one in clean["sample_id"].to_pylist()]))
        entry: dict[str, object] = {
            "spectra": table.num_rows,
            "hosts": len(set(table["host"].to_pylist())),
            "before": _scores(released_model(), table),
            "clean_of_the_same": _scores(released_model(), paired),
        }
        if name in FINE_TUNED:
            entry["fine_tuned"] = _fine_tuned(table)
        result[name] = entry
        print(name, json.dumps(entry), flush=True)  # noqa: T201
    write_result("transfer", result)


def _sets() -> dict[str, pa.Table]:
    """Every set as a spectra table: the simulated ones, and the clean one as instruments would show it."""
    found = {}
    for name in SIMULATED:
        tables = [read_spectra(path) for path in sorted((WORK / name).glob("*.parquet"))]
        tables = [table for table in tables if table.num_rows]
        if tables:
            found[name] = pa.concat_tables(tables)
    clean = found["clean"]
    found["neutron"] = _measured(clean, neutron=True, noise=None)
    for noise in NOISES:
        found[f"resolution_noise_{100 * noise:g}"] = _measured(clean, neutron=False, noise=noise)
    worst = found.get("chgnet", clean)
    found["everything"] = _measured(worst, neutron=True, noise=NOISES[1])
    return found


def _measured(table: pa.Table, *, neutron: bool, noise: float | None) -> pa.Table:
    """Rows with neutron weights, or with resolution and counting noise, or both; the reference likewise.

    The pristine elements' parts are not in the table: the reference is weighted by those of the least doped sample.
    """
    rng = np.random.default_rng(20261122)
    rows = table.to_pylist()
    least: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: -sum(defect["concentration"] for defect in row["defects"])):
        least[row["parent_id"]] = dict(row)  # as it is now: the rows themselves are changed below
    for row in rows:
        step, near = row["frequency_step_thz"], least[row["parent_id"]]
        sample, pristine = (Spectrum.from_bins(row[key], step) for key in ("dos", "reference_dos"))
        if neutron:
            own = {part["element"]: np.array(part["dos"]) for part in row["partial_dos"]}
            sample = neutron_weighted(own, sample.frequency_thz)
            elements = Host(row["host"]).elements
            parts = [part for part in near["partial_dos"] if part["element"] in elements]
            host = np.sum([np.array(part["dos"]) for part in parts], axis=0)
            weighted = np.sum([neutron_weight(part["element"]) * np.array(part["dos"]) for part in parts], axis=0)
            ratio = np.interp(
                pristine.frequency_thz, (np.arange(host.size) + 0.5) * step, weighted / np.maximum(host, 1e-9)
            )
            pristine = Spectrum(pristine.frequency_thz, pristine.dos * ratio).normalised()
            row["kind"] = "neutron"
        if noise is not None:
            # Chopper spectrometers are run with an incident energy a little above the highest mode.
            incident = 1.6 * pristine.top_thz() / thz_per("meV")
            instrument = replace(ARCS, incident_mev=incident)
            sample, pristine = (counted(resolved(one, instrument), noise, rng)[0] for one in (sample, pristine))
        row["dos"], row["reference_dos"], row["partial_dos"] = sample.dos, pristine.dos, None
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


def _fine_tuned(table: pa.Table) -> dict[str, object]:
    """Figures on hosts that were not tuned on, before and after tuning on 5, 10 and 20 spectra of others."""
    hosts = sorted(set(table["host"].to_pylist()))
    order = np.random.default_rng(3).permutation(len(hosts))
    pool: list[str] = []
    counts = table["host"].to_pylist()
    for index in order:
        if sum(counts.count(host) for host in pool) >= max(TUNE_ON):
            break
        pool.append(hosts[index])
    inside = np.array([host in pool for host in counts])
    held = table.filter(pa.array(~inside))
    rows = np.random.default_rng(4).permutation(np.flatnonzero(inside))
    found: dict[str, object] = {
        "held_out_spectra": held.num_rows,
        "held_out_hosts": len(set(held["host"].to_pylist())),
        "before": _scores(released_model(), held),
    }
    for count in TUNE_ON:
        with tempfile.TemporaryDirectory() as folder:
            found[f"after_{count}"] = _scores(_tuned(table.take(rows[:count]), folder), held)
    return found


def main() -> None:
    """Simulate what is missing, then score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--hosts", type=int, default=24, help="crystals of each set (default 24)")
    parser.add_argument("--set", action="append", choices=sorted(SIMULATED), help="only simulate these")
    parser.add_argument("--score", action="store_true", help="only score what has been simulated")
    arguments = parser.parse_args()
    if not arguments.score:
        for name in arguments.set or SIMULATED:
            try:
                simulate(arguments.parents, name, arguments.hosts)
            except PotentialError as error:
                print(f"{name} is left out: {error}", flush=True)  # noqa: T201
    if not arguments.set:
        score()


def _scores(model: Path, table: pa.Table) -> dict[str, dict[str, Any]]:
    """Headline figures (dopants of at least 0.5 %) with a candidate list and without, all with the reference."""
    network, config = load_artifact(model)
    rows = SpectraArrays.from_table(table, config.grid)
    known = np.isin(VOCABULARY, config.trained_on.dopants)
    found = score_modes(network_answerer(network), rows, known, config.calibration)
    return {mode: _short(found[mode]) for mode in ("candidate", "guess_free")}


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    headline = figures["headline"]
    return {key: headline[key] for key in ("n_dopants", "f1", "mae_pct", "coverage_90", "recall_at_5")}


def _tuned(table: pa.Table, folder: str) -> Path:
    """The released model fine-tuned on the rows of a table; the base itself where cross-validation says so."""
    return finetune(released_model(), table, Path(folder), FinetuneSettings()).artifact


if __name__ == "__main__":
    main()
