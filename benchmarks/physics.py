"""How right are the simulated spectra? Against DFT alloys, between the engines, between cells and configurations.

Parts, each written into `results/physics.json` (and a plot) when it is done:

- `alloys`: ordered alloys predicted from their hosts (`ordered_pairs.csv`), beside DFT, by every method;
- `engines`: superposed fragments beside the direct calculation, over parents, dopants and concentrations;
- `scatter`: between random configurations and between cell sizes;
- `sige`: silicon with 5 to 25 % germanium beside the published bands.

    make bench-physics PARENTS=…/phonondb_parents.parquet
"""

import argparse
import csv
import json
import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as pq
from ase import Atoms
from numpy.typing import NDArray
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from scipy.ndimage import gaussian_filter1d
from scipy.stats import wasserstein_distance
from writing import RESULTS, say, write_result

from datagen.dopants import Replacement, replacements
from datagen.dos import Bins, ElementDos, choose_bins, density_by_element, doped_dos, pristine_dos
from datagen.embedding import PotentialHost, compute_potential_host, pressure_of
from datagen.endmembers import Endmember, find_endmembers, interpolate
from datagen.engine import Workbench
from datagen.force_constants import compact_by_displacement
from datagen.parents import Parent, compact_solve, from_folder, from_row, list_parents, packaged_folder, shifted_mesh
from datagen.potentials import load_potential
from datagen.relaxation import relax, strained
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from datagen.sites import choose_sites, doped_atoms
from datagen.supercells import Supercell, choose_matrix, symmetrise_compact
from defectnet.errors import SimulationError

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = NDArray[np.float64]
PAIRS = Path(__file__).parent / "ordered_pairs.csv"
SETTINGS = SimulateSettings()
MATCHER = StructureMatcher(primitive_cell=False, attempt_supercell=True, scale=True)
# Cell in which an alloy's force constants are found, and the modes of the mesh on which its density is sampled.
ALLOY_ATOMS = 110
ALLOY_MODES = 20_000
# Densities are compared at the resolution of the dataset, and smoothed by this many bins more: an FWHM of 3.6 %.
COARSE_BINS = 3.6


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parts: dict[str, Callable[[str, int], dict[str, object]]] = {
        "alloys": alloys,
        "engines": engines,
        "scatter": scatter,
        "sige": sige,
    }
    parser.add_argument("--part", action="append", choices=parts, help="only this part; may be repeated")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    path = RESULTS / "physics.json"
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in arguments.part or parts:
        result |= parts[name](arguments.parents, arguments.workers)
        write_result("physics", result)


# ---------------------------------------------------------------------------------------------- ordered alloys


def alloys(parents: str, workers: int) -> dict[str, object]:
    """Every pair of `ordered_pairs.csv`, by every method."""
    with PAIRS.open(encoding="utf-8") as file:
        known = find_endmembers(parents)
        tasks = [(parents, row, _ends_of(known.get(row["host_id"], {}), row)) for row in csv.DictReader(file)]
    rows = []
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for row in pool.imap_unordered(_alloy, tasks):
            if "skipped" not in row:
                rows.append(row)
            scores = {name: round(row[name]["wasserstein_thz"], 3) for name in METHODS if name in row}
            say(f"{row['alloy']:16s} from {row['host']:12s} {row.get('method', row.get('skipped'))} {scores}")
    rows.sort(key=lambda row: (row["alloy_id"], row["host_id"]))  # they come as the workers finish
    write_result("alloys", rows)
    summary = {
        "anchored_vs_dft": _summary(rows, "chosen"),
        "unanchored_vs_dft": _summary(rows, "potential"),
        "additive_vs_dft": _summary(rows, "additive"),
        "interpolated_vs_dft": _summary(rows, "interpolated"),
        "additive_where_interpolated": _summary([row for row in rows if "interpolated" in row], "additive"),
        "masses_vs_dft": _summary(rows, "masses"),
        "host_vs_dft": _summary(rows, "host_itself"),
    }
    _plot_alloys(rows)
    return summary


METHODS = ("host_itself", "masses", "potential", "additive", "interpolated", "chosen")


def _ends_of(known: dict[tuple[str, str], str], row: dict[str, str]) -> dict[str, str]:
    """The end members of a pair that are neither of its own two materials; empty unless every dopant has one."""
    dopants = [element for element in row["elements"].split() if element != row["replaces"]]
    ends = {dopant: known.get((row["replaces"], dopant), row["alloy_id"]) for dopant in dopants}
    return {} if row["alloy_id"] in ends.values() else ends


def _summary(rows: list[dict[str, object]], method: str) -> dict[str, object]:
    scored = [row for row in rows if method in row]

    def median(name: str, some: list[dict[str, object]], quantile: float = 0.5) -> float | None:
        values = [row[method][name] for row in some]
        return round(float(np.quantile(values, quantile)), 3) if values else None

    isovalent = [row for row in scored if not row["heterovalent"]]
    heterovalent = [row for row in scored if row["heterovalent"]]
    return {
        "n_pairs": len(scored),
        "r2_median": median("r2", scored),
        "r2_p10": median("r2", scored, 0.1),
        "r2_fine_median": median("r2_fine", scored),
        "wasserstein_thz_median": median("wasserstein_thz", scored),
        "wasserstein_thz_p90": median("wasserstein_thz", scored, 0.9),
        "recovered_median": median("recovered", scored),
        "n_isovalent": len(isovalent),
        "r2_median_isovalent": median("r2", isovalent),
        "wasserstein_thz_median_isovalent": median("wasserstein_thz", isovalent),
        "recovered_median_isovalent": median("recovered", isovalent),
        "recovered_median_heterovalent": median("recovered", heterovalent),
    }


def _alloy(task: tuple[str, dict[str, str], dict[str, str]]) -> dict[str, object]:
    path, pair, ends = task
    row: dict[str, object] = {name: pair[name] for name in ("alloy", "host", "alloy_id", "host_id", "replaces")}
    row["heterovalent"] = pair["heterovalent"] == "True"
    try:
        return row | _score_alloy(path, pair, ends)
    except (SimulationError, ValueError, TypeError, np.linalg.LinAlgError) as error:
        return row | {"skipped": str(error)[:100]}


def _score_alloy(path: str, pair: dict[str, str], ends: dict[str, str]) -> dict[str, object]:
    parents = _load(path, [pair["alloy_id"], pair["host_id"], *ends.values()])
    alloy, host = parents[pair["alloy_id"]], parents[pair["host_id"]]
    if min(alloy.lowest_thz(), host.lowest_thz()) < SETTINGS.lowest_host_thz:
        raise SimulationError("unstable in DFT")
    case = Case(host, alloy, pair["replaces"], pair["elements"].split())
    found: dict[str, object] = {}
    itself = pristine_dos(host, case.bins)
    host_full = case.host_cell.expand(host.compact_force_constants(case.host_cell))
    base = case.score(itself, itself)
    found["host_itself"] = base
    masses = case.density(case.compact(host_full))
    found["masses"] = case.score(masses, itself)
    chosen, method = masses, "masses"
    try:
        seen = compute_potential_host(host, load_potential("nep89"), case.host_cell, SETTINGS.max_host_imaginary)
        of_alloy = case.compact_by_potential(seen)
        change = of_alloy - case.compact(case.host_cell.expand(seen.compact))
        alone = case.density(of_alloy)
        additive = case.density(case.compact(host_full) + change)
        found["potential"] = case.score(alone, itself)
        found["additive"] = case.score(additive, itself)
        if additive.imaginary_weight <= SETTINGS.max_doped_imaginary:
            chosen, method = additive, "additive"
    except SimulationError as error:
        found["gate"] = str(error)[:100]
    try:
        members = {d: Endmember(host, parents[name], pair["replaces"], d) for d, name in ends.items()}
        stable = all(parents[name].lowest_thz() >= SETTINGS.lowest_host_thz for name in ends.values())
        if members and stable:
            compact = {(pair["replaces"], d): m.compact_force_constants(case.host_cell) for d, m in members.items()}
            phi = interpolate(host.compact_force_constants(case.host_cell), compact, case.host_cell, case.symbols)
            between = case.density(case.compact(phi))
            found["misfit"] = max(abs(member.strain) for member in members.values())
            found["interpolated"] = case.score(between, itself)
            near = found["misfit"] <= SETTINGS.max_endmember_strain
            if near and between.imaginary_weight <= SETTINGS.max_doped_imaginary:
                chosen, method = between, "interpolated"
    except SimulationError as error:
        found["no_end_member"] = str(error)[:100]
    return found | {"chosen": case.score(chosen, itself), "method": method}


def _load(path: str, names: list[str]) -> dict[str, Parent]:
    rows = pq.read_table(path, filters=[("material_id", "in", names)]).to_pylist()
    return {row["material_id"]: from_row(row) for row in rows}


class Case:
    """An alloy on the lattice of its host, in a cell large enough for the reach of the forces."""

    def __init__(self, host: Parent, alloy: Parent, replaces: str, elements: list[str]) -> None:
        self.host, self.alloy = host, alloy
        matrix, decorated = _decorate(host, alloy, replaces, elements)
        repeat = choose_matrix(decorated, max(ALLOY_ATOMS, 2 * len(decorated)))
        self.cell = Supercell(decorated, repeat)
        self.host_cell = Supercell(host.primitive, repeat @ matrix)
        # Where each atom of `cell` is in `host_cell`.
        self._order = _same_sites(self.cell.atoms, self.host_cell.atoms)
        self.symbols = np.array(self.cell.atoms.get_chemical_symbols())[np.argsort(self._order)]
        self.bins: Bins = choose_bins(max(alloy.top_thz(), host.top_thz()))
        divisions = max(2, round((ALLOY_MODES / (3 * len(decorated))) ** (1 / 3)))
        self._mesh = shifted_mesh((divisions,) * 3)
        self._truth = pristine_dos(alloy, self.bins).total

    def compact(self, phi: Array) -> Array:
        """Compact force constants of the alloy from full ones in the order of `host_cell`."""
        n, basis = self.cell.n_atoms, self.cell.n_basis
        rows = phi.reshape(n, 3, n, 3)[self._order[:basis]][:, :, self._order]
        return rows.reshape(basis, 3, self.cell.n_points, basis, 3)

    def compact_by_potential(self, seen: PotentialHost) -> Array:
        """The alloy relaxed with the host's residuals taken out, and displaced."""
        potential = load_potential("nep89")
        residual = seen.residual_in(self.host_cell)
        atoms = seen.atoms_in(self.host_cell)
        atoms.set_chemical_symbols(list(self.symbols))
        for _ in range(5):
            atoms = relax(atoms, potential, residual, seen.stiffness)
            excess = pressure_of(potential.evaluate([atoms])[1][0]) - seen.pressure
            step = float(np.clip(-excess / seen.pressure_per_strain, -0.03, 0.03))
            if abs(step) < 2e-4:
                break
            atoms = strained(atoms, step)
        return compact_by_displacement(
            self.cell, relax(atoms, potential, residual, seen.stiffness)[self._order], potential
        )

    def density(self, compact: Array) -> ElementDos:
        """Density of states of the alloy from its compact force constants."""
        solved = compact_solve(symmetrise_compact(compact, self.cell), self.cell, self._mesh)
        return density_by_element(self.cell.primitive, *solved, self.bins)

    def score(self, found: ElementDos, itself: ElementDos) -> dict[str, float]:
        """How near a density comes to DFT, and which share of the way from the host it goes."""
        distance, start = self._distance(found.total), self._distance(itself.total)
        smooth = [gaussian_filter1d(density, COARSE_BINS) for density in (found.total, self._truth)]
        return {
            "wasserstein_thz": distance,
            "recovered": 1 - distance / start,
            "r2": r2(smooth[0], smooth[1]),
            "r2_fine": r2(found.total, self._truth),
            "imaginary": found.imaginary_weight,
        }

    def _distance(self, density: Array) -> float:
        axis = (np.arange(self.bins.n) + 0.5) * self.bins.step_thz
        return float(wasserstein_distance(axis, axis, density, self._truth))


def _decorate(host: Parent, alloy: Parent, replaces: str, elements: list[str]) -> tuple[NDArray[np.int64], Atoms]:
    """The alloy's cell in units of the host's, and its atoms on the host's sites, with the masses that DFT used."""
    real, target = _structure(alloy), _structure(host)
    like_host = real.copy()
    like_host.replace_species(dict.fromkeys(elements, replaces))
    found = MATCHER.get_transformation(like_host, target)
    if found is None:
        raise SimulationError("the alloy cannot be laid over its host")
    moved = target * found[0]
    matrix = np.rint(moved.lattice.matrix @ np.linalg.inv(target.lattice.matrix)).astype(np.int64)
    if np.linalg.det(matrix) < 0:
        matrix = -matrix
    cell = Supercell(host.primitive, matrix).atoms
    placed = Atoms(
        [site.specie.symbol for site in real], positions=moved.cart_coords[found[2]], cell=cell.cell, pbc=True
    )
    placed.set_masses(alloy.primitive.get_masses())
    order = np.argsort(_same_sites(placed, cell))
    decorated = cell.copy()
    decorated.set_chemical_symbols([placed[int(i)].symbol for i in order])
    decorated.set_masses(placed.get_masses()[order])
    return matrix, decorated


def _same_sites(one: Atoms, other: Atoms) -> NDArray[np.int64]:
    gap = one.get_scaled_positions()[:, None] - other.get_scaled_positions()[None]
    distance = np.linalg.norm((gap - np.rint(gap)) @ np.asarray(one.cell), axis=-1)
    found = distance.argmin(axis=1)
    if len(set(found)) != len(found) or distance.min(axis=1).max() > 1e-2:
        raise SimulationError("the alloy cannot be laid over its host")
    return np.asarray(found)


def _structure(parent: Parent) -> Structure:
    atoms = parent.primitive
    return Structure(Lattice(atoms.cell[:]), atoms.get_chemical_symbols(), atoms.get_scaled_positions())


def r2(found: Array, truth: Array) -> float:
    """Coefficient of determination over the bins up to the highest mode of either."""
    used = np.flatnonzero(found + truth > 1e-9)[-1] + 1
    found, truth = found[:used], truth[:used]
    return float(1 - ((found - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def _plot_alloys(rows: list[dict[str, object]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, constrained_layout=True)
    for axis, heterovalent in zip(axes, (False, True), strict=True):
        some = [row for row in rows if row["heterovalent"] == heterovalent]
        for name, colour in zip(METHODS, ("0.7", "0.4", "C1", "C0", "C2", "k"), strict=True):
            values = np.sort([row[name]["wasserstein_thz"] for row in some if name in row])
            if len(values):
                label = f"{name.replace('_', ' ')} ({len(values)})"
                axis.step(values, np.linspace(0, 1, len(values)), color=colour, label=label, lw=1.8)
        axis.set(xscale="log", xlabel="Wasserstein distance to DFT, THz", xlim=(0.03, 6))
        axis.set_title("heterovalent" if heterovalent else "isovalent", fontsize=10)
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("share of ordered alloys")
    figure.savefig(RESULTS / "alloys.png", dpi=130)
    plt.close(figure)


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
    bench = Workbench(_load(parents, ["mp-149"])["mp-149"], load_potential("nep89"), SETTINGS)
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
