"""How much faster than the plain way is a doped spectrum, and what does it cost?

The plain way is what phonopy and ASE do by themselves: relax the doped cell with ASE's LBFGS, displace every atom both
ways along the three axes, one force call each, with the same potential; a random alloy has no symmetry to save calls.
Beside it, in the same run and the same cells: the direct engine, and the embedded one with its fragment at hand, as it
is for all but the first spectrum of a dopant. Then the whole pipeline with one and with two workers.

    make bench-simulate
"""

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable

import numpy as np
from ase.optimize import LBFGS
from numpy.typing import NDArray
from writing import say, write_result

from datagen.dopants import Replacement
from datagen.dos import chebyshev_dos, corrected, doped_dos
from datagen.engine import Workbench
from datagen.methods import MethodName
from datagen.parents import from_folder, packaged_folder
from datagen.pipeline import simulate
from datagen.potentials import PotentialCalculator, load_potential
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.sites import choose_sites, doped_atoms
from datagen.supercells import Supercell, low_symmetry_matrices

Array = NDArray[np.float64]
SIZES = (64, 128, 216, 432)
# Force calls of the plain way that are really made; their mean stands for all 6 N, which differ in nothing.
PLAIN_CALLS = 90


def main() -> None:
    """Measure and write `results/simulate.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.02, help="germanium in silicon (default 0.02)")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many (default 3)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    settings = SimulateSettings()
    bench = Workbench(from_folder(packaged_folder() / "Si"), load_potential("nep89"), settings)
    plan = Plan(((Replacement("Ge", "Si", 1.0, False), arguments.share),))
    fragment, _ = _timed(lambda: bench.strain_per_fraction(plan.dopants[0][0]), 1)
    rows = {}
    for size in SIZES:
        rows[str(size)] = _compare(bench, plan, size, arguments.repeats)
        say(f"{size} atoms: {json.dumps(rows[str(size)])}")
    sizes = np.array([rows[str(size)]["atoms"] for size in SIZES])
    result = {
        "speedup_embedded_432": rows["432"]["ratio_embedded"],
        "speedup_embedded_432_with_density": rows["432"]["ratio_embedded_with_density"],
        "r2_embedded_432": rows["432"]["r2_embedded"],
        "speedup_direct_128": rows["128"]["ratio_direct"],
        "fragment_s": round(fragment, 2),
        "exponent_direct": _exponent(sizes, [rows[str(size)]["direct_s"] for size in SIZES]),
        "exponent_embedded": _exponent(sizes, [rows[str(size)]["embedded_s"] for size in SIZES]),
        "by_atoms": rows,
    }
    result["density_by_atoms"] = {str(size): _densities(bench, plan, size) for size in (216, 500, 1000, 2000)}
    result |= _pipeline()
    write_result("simulate", result)


def _compare(bench: Workbench, plan: Plan, size: int, repeats: int) -> dict[str, float]:
    cell = bench.cell(size)
    n = cell.supercell.n_atoms
    sites = choose_sites(plan, cell.supercell, np.random.default_rng(1))
    doped = doped_atoms(cell.supercell, sites)

    def by(method: MethodName) -> tuple[Array, float]:
        return bench.methods[method].force_constants(cell, sites, plan)

    by("direct")  # what the host contributes is computed once for all its samples
    call, relaxing = _plain(bench, cell, doped)
    plain = relaxing + 6 * n * call
    direct, (phi_direct, _) = _timed(lambda: by("direct"), 1 if n > 250 else repeats)
    embedded, (phi, _) = _timed(lambda: by("embedded"), repeats)

    def density(phi: Array) -> Array:
        found = doped_dos(phi, cell.supercell, doped.numbers, doped.get_masses(), bench.bins)
        return corrected(found, cell.host_on_mesh, bench.reference).total

    solving, found = _timed(lambda: density(phi), 1)
    truth = density(phi_direct)
    r2 = 1 - ((found - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum()
    return {
        "atoms": n,
        "plain_s": round(plain, 2),
        "plain_relaxation_s": round(relaxing, 2),
        "direct_s": round(direct, 3),
        "embedded_s": round(embedded, 4),
        "density_s": round(solving, 3),
        "ratio_direct": round(plain / direct, 1),
        "ratio_embedded": round(plain / embedded, 1),
        "ratio_embedded_with_density": round((plain + solving) / (embedded + solving), 1),
        "r2_embedded": round(float(r2), 4),
    }


def _densities(bench: Workbench, plan: Plan, size: int) -> dict[str, float]:
    """Seconds of a density by solving for the modes and by Chebyshev moments, masses alone."""
    rng = np.random.default_rng(0)
    primitive = bench.parent.primitive
    cell = Supercell(primitive, low_symmetry_matrices(primitive, size, rng, 1)[0])
    masses = np.tile(primitive.get_masses(), cell.n_points)
    arguments = (cell.expand(bench.parent.compact_force_constants(cell)), cell, cell.atoms.numbers, masses, bench.bins)
    found = {"atoms": cell.n_atoms, "chebyshev_s": round(_timed(lambda: chebyshev_dos(*arguments), 1)[0], 2)}
    if size <= 1000:  # beyond, solving takes minutes
        found["solving_s"] = round(_timed(lambda: doped_dos(*arguments), 1)[0], 2)
    say(f"density: {found}")
    return found


def _plain(bench: Workbench, cell, doped) -> tuple[float, float]:
    """Seconds of one force call and of the relaxation, by ASE."""
    atoms = doped.copy()
    atoms.calc = PotentialCalculator(bench.view.potential)
    started = time.perf_counter()
    with LBFGS(atoms, logfile=None) as optimizer:
        optimizer.run(fmax=2e-3, steps=300)
    relaxing = time.perf_counter() - started
    rng = np.random.default_rng(0)
    started = time.perf_counter()
    for _ in range(PLAIN_CALLS):
        atoms.positions[rng.integers(len(atoms)), rng.integers(3)] += 0.01
        atoms.get_forces()
    return (time.perf_counter() - started) / PLAIN_CALLS, relaxing


def _timed(call: Callable[[], object], repeats: int) -> tuple[float, object]:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)), answer


def _exponent(sizes: Array, seconds: list[float]) -> float:
    return round(float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0]), 2)


def _pipeline() -> dict[str, float]:
    """Spectra per second of the Ray Data pipeline over the packaged parents, by one worker and by two."""
    rates = {}
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            settings = SimulateSettings(
                output=folder, samples_per_parent=4, dopants_per_parent=2, parents_per_shard=1, workers=workers
            )
            report = simulate(settings)
        rates[workers] = (report.samples - report.failed) / report.seconds
        say(f"{workers} workers: {rates[workers]:.3f} spectra per second")
    return {
        "spectra_per_core_second": round(rates[1], 4),
        "spectra_per_second_2_workers": round(rates[2], 4),
        "efficiency_2_workers": round(rates[2] / (2 * rates[1]), 3),
    }


if __name__ == "__main__":
    main()
