"""How much of the model's skill is left on spectra that differ from its training as real ones would?

The same doped crystals, hosts of the test split, simulated again with what was not in the training: another
interatomic potential, other and smaller supercells. Neutron weights, resolution and noise are added when scoring.

    make bench-transfer PARENTS=…/phonondb_parents.parquet
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from alloy_series import row_of

from datagen.dopants import Candidate, candidates
from datagen.engine import Workbench
from datagen.parents import from_row
from datagen.potentials import Potential, load_potential
from datagen.sampling import Plan, draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from defectnet.errors import DefectNetError
from defectnet.host import Host
from defectnet.tables import SPECTRA_SCHEMA, read_spectra, write_table
from training.dataset import split_of

WORK = Path("runs/transfer")
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
    "chgnet": ("chgnet.model.dynamics:CHGNetCalculator(use_device='cpu')", {"fragment_atoms": 100}),
    "sevennet": ("sevenn.calculator:SevenNetCalculator(model='7net-0', device='cpu')", {"fragment_atoms": 100}),
}


class _Embedded(Workbench):
    """The engine without the direct method, which costs a slow potential minutes a sample."""

    def _choose_method(self, plan: Plan) -> str:
        return "embedded"


def _plans(parent_id: str, host: Host, reference: Potential, clean: Path) -> list[tuple[str, Plan]]:
    """The samples of a host: drawn for the clean set, and the same for every other."""
    if clean.exists():
        return [
            (row["sample_id"], Plan(tuple(_dopant(**defect) for defect in row["defects"])))
            for row in read_spectra(clean).select(["sample_id", "defects"]).to_pylist()
        ]
    settings = SimulateSettings(**_COMMON)
    palette = draw_palette(parent_id, candidates(host, reference), settings)
    plans = []
    for index in range(settings.samples_per_parent):
        sample_id, seed = identity(parent_id, index, settings)
        plan = draw_plan(host, palette, settings, np.random.default_rng(seed))
        if plan.dopants and plan.total <= MOST_TOGETHER:
            plans.append((sample_id, plan))
    return plans


def _dopant(element: str, replaces: str, concentration: float) -> tuple[Candidate, float]:
    return Candidate(element, replaces, 1.0, False), concentration


def simulate(parents: str, name: str) -> None:
    """Simulate the set `name` into `WORK`, one file a host; a host that fails is an empty file."""
    spec, changes = SIMULATED[name]
    settings = SimulateSettings(**{**_COMMON, **changes})
    reference, potential = load_potential("nep89"), load_potential(spec)
    table = pq.read_table(parents, filters=[("n_atoms_primitive", "<=", MAX_BASIS)])
    for row in sorted(table.to_pylist(), key=lambda row: (row["n_atoms_primitive"], row["material_id"])):
        path = WORK / name / f"{row['material_id']}.parquet"
        if split_of(Host(row["formula"])) != "test" or path.exists():
            continue
        clean = WORK / "clean" / path.name
        if name != "clean" and not (clean.exists() and pq.read_metadata(clean).num_rows):
            continue
        rows = []
        try:
            bench = _Embedded(from_row(row), potential, settings)
            plans = _plans(row["material_id"], bench.parent.host, reference, clean)
            for index, (sample_id, plan) in enumerate(plans):
                rng = np.random.default_rng([index, settings.seed])
                try:
                    rows.append(row_of(sample_id, bench, bench.simulate(plan, rng), potential.name))
                except DefectNetError as error:
                    print(f"{name} {row['formula']}: {error}", flush=True)  # noqa: T201
        except DefectNetError as error:
            print(f"{name} {row['formula']}: {error}", flush=True)  # noqa: T201
        write_table(pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA), path)
        print(f"{name} {row['formula']}: {len(rows)} spectra", flush=True)  # noqa: T201


def main() -> None:
    """Simulate what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--set", action="append", choices=sorted(SIMULATED), help="only these; may be repeated")
    arguments = parser.parse_args()
    for name in arguments.set or SIMULATED:
        simulate(arguments.parents, name)


if __name__ == "__main__":
    main()
