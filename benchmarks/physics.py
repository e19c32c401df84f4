"""How right are the simulated spectra? Against DFT alloys, between the engines, between cells and configurations.

Parts, each written into `results/physics.json` (and a plot) when it is done:

- `alloys`: ordered alloys predicted from their hosts (`ordered_pairs.csv`), beside DFT, by every method (`alloys.py`);
- `nequix`: the same by Nequix, alloys that its fine-tuning has seen and has not apart;
- `engines`: superposed fragments beside the direct calculation, over parents, dopants and concentrations;
- `scatter`: between random configurations and between cell sizes;
- `sige`: silicon with 5 to 25 % germanium beside the published bands.

    make bench-physics PARENTS=…/phonondb_parents.parquet
"""

import argparse
import json
import multiprocessing
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from alloys import COARSE_BINS, SETTINGS, alloys, load_named, nequix, r2
from ase import Atoms
from scipy.ndimage import gaussian_filter1d
from scipy.stats import wasserstein_distance
from writing import RESULTS, say, write_result

from datagen.dopants import Replacement, replacements
from datagen.dos import doped_dos
from datagen.engine import Workbench
from datagen.parents import from_folder, list_parents, packaged_folder
from datagen.potentials import load_potential
from datagen.sampling import Plan
from datagen.sites import choose_sites, doped_atoms
from defectnet.errors import SimulationError

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parts: dict[str, Callable[..., dict[str, Any]]] = {
        "alloys": alloys,
        "nequix": nequix,
        "engines": engines,
        "scatter": scatter,
        "sige": sige,
    }
    parser.add_argument("--part", action="append", choices=parts, help="only this part; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--limit", type=int, help="of nequix: at most so many pairs more than there are")
    arguments = parser.parse_args()
    parts["nequix"] = partial(nequix, limit=arguments.limit)
    warnings.simplefilter("ignore")
    path = RESULTS / "physics.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in arguments.part or parts:
        result |= parts[name](arguments.parents, arguments.workers)
        write_result("physics", result)


# ---------------------------------------------------------------------------------------------- engines


def engines(parents: str, workers: int) -> dict[str, object]:
    """Fragments laid over dopants beside the direct calculation, on the packaged parents."""
    names = list_parents("packaged")
    rows: list[dict[str, object]] = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for some in pool.imap_unordered(_engines_of, names):
            rows += some
            for row in some:
                say(f"{row['parent']}:{row['dopant']} {row['concentration']:.3f} R² {row['r2']:.3f}")
    bands = {
        f"{low:g}-{high:g}": [row for row in rows if low <= row["concentration"] < high]
        for low, high in ((0.0, 0.02), (0.02, 0.065), (0.065, 0.2))
    }
    used = [row for row in rows if row["chosen"] == "embedded"]
    return {
        "embedded_vs_direct": {
            "r2_median": _quantile(used, "r2", 0.5),
            "r2_p10": _quantile(used, "r2", 0.1),
            "wasserstein_thz_median": _quantile(used, "wasserstein_thz", 0.5),
            "wasserstein_thz_p90": _quantile(used, "wasserstein_thz", 0.9),
            "pairs": len({(row["parent"], row["dopant"]) for row in rows}),
            "note": "over the cases for which the code chooses fragments; by_concentration holds all",
            "by_concentration": {
                name: {
                    "n": len(some),
                    "r2_median": _quantile(some, "r2", 0.5),
                    "r2_p10": _quantile(some, "r2", 0.1),
                    "chosen": sum(row["chosen"] == "embedded" for row in some),
                }
                for name, some in bands.items()
            },
            "by_misfit": {
                name: {"n": len(some), "r2_median": _quantile(some, "r2", 0.5), "r2_p10": _quantile(some, "r2", 0.1)}
                for name, some in {
                    "strain below 0.1 per unit": [row for row in rows if abs(row["strain_per_fraction"]) < 0.1],
                    "strain above 0.1 per unit": [row for row in rows if abs(row["strain_per_fraction"]) >= 0.1],
                    "mass ratio below 1.5": [row for row in rows if row["mass_ratio"] < 1.5],
                    "mass ratio above 1.5": [row for row in rows if row["mass_ratio"] >= 1.5],
                }.items()
            },
        }
    }


def _quantile(rows: list[dict[str, object]], name: str, quantile: float) -> float | None:
    return round(float(np.quantile([row[name] for row in rows], quantile)), 4) if rows else None


def _engines_of(name: str) -> list[dict[str, object]]:
    potential = load_potential("nep89")
    bench = Workbench(from_folder(packaged_folder() / name), potential, SETTINGS)
    rows: list[dict[str, object]] = []
    cell = bench.cell(SETTINGS.direct_atoms)
    chosen = replacements(bench.parent.host, potential)
    for choice in chosen[:: max(1, len(chosen) // 4)][:4]:
        for share in (0.015, 0.05, 0.12):
            plan = Plan(((choice, share),))
            sites = choose_sites(plan, cell.supercell, np.random.default_rng(1))
            doped = doped_atoms(cell.supercell, sites)
            try:
                densities = [
                    doped_dos(
                        bench.methods[method].force_constants(cell, sites, plan)[0],
                        cell.supercell,
                        doped.numbers,
                        doped.get_masses(),
                        bench.bins,
                    )
                    for method in ("embedded", "direct")
                ]
                chosen_method = bench.choose_method(plan)
                strain = bench.strain_per_fraction(choice)
            except SimulationError:
                continue
            axis = np.arange(bench.bins.n) * bench.bins.step_thz
            totals = [density.total for density in densities]
            masses = [Atoms(symbol).get_masses()[0] for symbol in (choice.element, choice.replaces)]
            rows.append(
                {
                    "parent": name,
                    "dopant": choice.element,
                    "concentration": len(sites) / cell.supercell.n_atoms,
                    "r2": r2(totals[0], totals[1]),
                    "wasserstein_thz": float(wasserstein_distance(axis, axis, *totals)),
                    "chosen": chosen_method,
                    "strain_per_fraction": strain,
                    "mass_ratio": max(masses) / min(masses),
                }
            )
    return rows


# ---------------------------------------------------------------------------------------------- scatter


def scatter(parents: str, workers: int) -> dict[str, object]:
    """L1 distance (of two densities normalised to one) between configurations, and to the largest cell's mean."""
    cases = [("Si", "Ge", "Si"), ("GaAs", "Al", "Ga"), ("MgO", "Zn", "Mg")]
    rows: dict[str, dict[str, float]] = {}
    potential = load_potential("nep89")
    for name, dopant, replaces in cases:
        bench = Workbench(from_folder(packaged_folder() / name), potential, SETTINGS)
        plan = Plan(((Replacement(dopant, replaces, 1.0, False), 0.02),))
        means = {}
        for n_atoms in (120, 220, 400):
            cell = bench.cell(n_atoms)
            densities = []
            for seed in range(4):
                sites = choose_sites(plan, cell.supercell, np.random.default_rng(seed))
                doped = doped_atoms(cell.supercell, sites)
                phi, _ = bench.methods["embedded"].force_constants(cell, sites, plan)
                dos = doped_dos(phi, cell.supercell, doped.numbers, doped.get_masses(), bench.bins)
                densities.append(dos.total * bench.bins.step_thz / 3)
            means[n_atoms] = np.mean(densities, axis=0)
            between = [np.abs(a - b).sum() for i, a in enumerate(densities) for b in densities[:i]]
            rows.setdefault(f"{name}:{dopant} 2 %", {})[f"configurations, {n_atoms} atoms"] = round(
                float(np.median(between)), 4
            )
        signal = np.abs(means[400] - bench.reference.total * bench.bins.step_thz / 3).sum()
        rows[f"{name}:{dopant} 2 %"] |= {
            "120 to 400 atoms": round(float(np.abs(means[120] - means[400]).sum()), 4),
            "220 to 400 atoms": round(float(np.abs(means[220] - means[400]).sum()), 4),
            "doped to pristine": round(float(signal), 4),
        }
        say(f"{name}:{dopant} {rows[f'{name}:{dopant} 2 %']}")
    return {"scatter_l1": rows}


# ---------------------------------------------------------------------------------------------- silicon-germanium

_CM = 33.35641  # cm⁻¹ in a THz
# Alonso and Winer, Phys. Rev. B 39, 10056: the three bands of the alloy.
_BANDS = {"Ge–Ge": 300, "Si–Ge": 400, "Si–Si": 500}
# Where the maximum of a band is looked for; the Ge–Ge band is too weak below x = 0.25.
_WINDOWS = {"Si–Ge": (320, 430), "Si–Si": (440, 540)}


def sige(parents: str, workers: int) -> dict[str, object]:
    """Density of states of silicon with germanium, by the direct engine from the DFT crystal."""
    bench = Workbench(load_named(parents, ["mp-149"])["mp-149"], load_potential("nep89"), SETTINGS)
    figure, axis = plt.subplots(figsize=(6, 4.5), constrained_layout=True)
    frequencies = (np.arange(bench.bins.n) + 0.5) * bench.bins.step_thz * _CM
    peaks: dict[str, dict[str, float]] = {}
    choice = Replacement("Ge", "Si", 1.0, False)
    for k, share in enumerate((0.0, 0.05, 0.1, 0.15, 0.2, 0.25)):
        outcome = bench.simulate(Plan(((choice, share),)) if share else Plan(()), np.random.default_rng(7))
        density = outcome.dos.total / _CM
        axis.plot(frequencies, density + 0.012 * k, color=plt.cm.viridis(k / 6), label=f"x = {share:.2f}")
        smooth = gaussian_filter1d(density, 2 * COARSE_BINS)
        for band, (low, high) in _WINDOWS.items():
            inside = np.flatnonzero((frequencies > low) & (frequencies < high))
            peaks.setdefault(band, {})[f"{share:.2f}"] = round(float(frequencies[inside[smooth[inside].argmax()]]), 1)
        say(f"x = {share:.2f}: {outcome.method}, {outcome.n_atoms} atoms")
    for label, position in _BANDS.items():
        axis.axvline(position, color="0.6", lw=0.8, ls=":")
        axis.text(position, axis.get_ylim()[1], label, ha="center", va="bottom", fontsize=8)
    axis.set(xlim=(0, 560), xlabel="frequency, cm⁻¹", ylabel="modes per atom and cm⁻¹ (shifted)")
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    figure.savefig(RESULTS / "sige.png", dpi=130)
    plt.close(figure)
    return {"sige_band_maximum_cm": peaks, "sige_published_near_cm": _BANDS}


if __name__ == "__main__":
    main()
