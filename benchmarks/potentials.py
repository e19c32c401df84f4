"""How well does a potential know the lattice dynamics of crystals whose DFT force constants we have?

Force constants of each potential on the DFT structures of the parents, in the DFT supercell, beside the DFT ones: the
table on which the choice of the default potential rests. A potential whose package is missing is left out, and said so.

    make bench-potentials PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import time

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from writing import RESULTS, write_result

from datagen.force_constants import compact_by_displacement
from datagen.parents import Parent, compact_solve, from_row
from datagen.potentials import Potential, load_potential
from datagen.supercells import Supercell, choose_matrix
from defectnet.binning import IMAGINARY_THZ
from defectnet.errors import PotentialError, SimulationError

# NEP89 first; the others carry their weights in their own packages too.
POTENTIALS = (
    "nep89",
    "nequix",
    "chgnet.model.dynamics:CHGNetCalculator",
    "sevenn.calculator:SevenNetCalculator(model='7net-0')",
)
# Small primitive cells: a slow potential then needs a few dozen calls a crystal.
MAX_BASIS = 4
N_ATOMS = 64


def main() -> None:
    """Compare the potentials and write `results/potentials.json` and `.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--crystals", type=int, default=20, help="how many stable parents (default 20)")
    parser.add_argument("--seed", type=int, default=7, help="which parents (default 7)")
    parser.add_argument("--potential", action="append", help="only these; may be repeated")
    arguments = parser.parse_args()
    parents = _draw(arguments.parents, arguments.crystals, arguments.seed)
    print(f"{len(parents)} parents: {', '.join(parent.host.formula for parent in parents)}", flush=True)  # noqa: T201
    rows = []
    for spec in arguments.potential or POTENTIALS:
        try:
            rows.append(_score(load_potential(spec), parents))
        except PotentialError as error:
            rows.append({"potential": spec, "skipped": str(error)})
        print(json.dumps(rows[-1]), flush=True)  # noqa: T201
    result = {"crystals": [[parent.parent_id, parent.host.formula] for parent in parents], "potentials": rows}
    write_result("potentials", result)
    (RESULTS / "potentials.md").write_text(_table(rows, len(parents)), encoding="utf-8")


def _draw(path: str, count: int, seed: int) -> list[Parent]:
    rows = pq.read_table(path, filters=[("n_atoms_primitive", "<=", MAX_BASIS)]).to_pylist()
    parents: list[Parent] = []
    for index in np.random.default_rng(seed).permutation(len(rows)):
        if len(parents) == count:
            break
        try:
            parent = from_row(rows[index])
        except SimulationError:
            continue
        if parent.lowest_thz() > IMAGINARY_THZ:
            parents.append(parent)
    return parents


def _score(potential: Potential, parents: list[Parent]) -> dict[str, object]:
    errors, rms, r2, imaginary, milliseconds, unknown = [], [], [], [], [], 0
    for parent in parents:
        if not all(potential.knows(symbol) for symbol in parent.host.elements):
            unknown += 1
            continue
        cell = Supercell(parent.primitive, choose_matrix(parent.primitive, N_ATOMS))
        started = time.perf_counter()
        try:
            compact = compact_by_displacement(cell, cell.atoms, potential)
        except PotentialError:
            unknown += 1
            continue
        milliseconds.append((time.perf_counter() - started) / (6 * len(parent.primitive)) * 1e3)
        q = cell.commensurate_q()
        truth, _ = compact_solve(parent.compact_force_constants(cell), cell, q)
        found, _ = compact_solve(compact, cell, q)
        errors.append(abs(found.max() / truth.max() - 1))
        rms.append(float(np.sqrt(np.mean((found - truth) ** 2)) / truth.max()))
        r2.append(_r2(_histogram(found, truth.max()), _histogram(truth, truth.max())))
        imaginary.append(float((found < IMAGINARY_THZ).mean()))
    return {
        "potential": potential.name,
        "crystals": len(errors),
        "unknown": unknown,
        "top_frequency_error_median": round(float(np.median(errors)), 3),
        "top_frequency_error_mean": round(float(np.mean(errors)), 3),
        "rms_frequency_error_median": round(float(np.median(rms)), 3),
        "dos_r2_median": round(float(np.median(r2)), 3),
        "share_passing_gate": round(float(np.mean(np.array(imaginary) <= 0.005)), 3),
        "ms_per_call": round(float(np.median(milliseconds)), 1),
    }


def _histogram(frequencies: NDArray[np.float64], top: float) -> NDArray[np.float64]:
    """Density over 60 bins to 1.2 times the DFT top, smoothed over neighbours."""
    counts, _ = np.histogram(frequencies, bins=60, range=(0, 1.2 * top), density=True)
    return np.convolve(counts, [0.06, 0.24, 0.4, 0.24, 0.06], mode="same")


def _r2(found: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    return float(1 - ((found - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def _table(rows: list[dict[str, object]], count: int) -> str:
    head = (
        f"Potentials against the DFT force constants of {count} crystals, on the DFT structure, in cells of at most "
        f"{N_ATOMS} atoms. `make bench-potentials` makes this table.\n\n"
        "| potential | crystals | top frequency error, median / mean | rms error / top | DOS R² | pass gate "
        "| ms a call |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    lines = []
    for row in rows:
        if "skipped" in row:
            lines.append(f"| {row['potential']} | not measured: {row['skipped']} | | | | | |")
            continue
        top = f"{row['top_frequency_error_median']:.1%} / {row['top_frequency_error_mean']:.1%}"
        lines.append(
            f"| {row['potential']} | {row['crystals']} | {top} | {row['rms_frequency_error_median']:.1%} "
            f"| {row['dos_r2_median']} | {row['share_passing_gate']:.0%} | {row['ms_per_call']} |"
        )
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
