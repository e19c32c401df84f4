"""Ordered alloys that are themselves DFT crystals, predicted from their hosts and held against DFT.

Two parts of `make bench-physics`: every method with NEP89, and with Nequix, where alloys that its fine-tuning has seen
stand apart from those that it has not (`nequix_pft_split.json` beside the parents: the ids of its training, validation
and test). Nequix's take minutes each; they are kept in runs/alloys-nequix.jsonl and gone on with, unseen ones first.
"""

import csv
import hashlib
import json
import multiprocessing
from functools import cache
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

from datagen.dos import Bins, ElementDos, choose_bins, density_by_element, pristine_dos
from datagen.embedding import PotentialHost, compute_potential_host, pressure_of
from datagen.endmembers import Endmember, find_endmembers, interpolate
from datagen.force_constants import compact_by_displacement
from datagen.parents import Parent, compact_solve, from_row, shifted_mesh
from datagen.potentials import Potential, load_potential
from datagen.relaxation import relax, strained
from datagen.settings import SimulateSettings
from datagen.supercells import Supercell, choose_matrix, symmetrise_compact
from datagen.symmetry import compact_operations
from defectnet.errors import SimulationError

matplotlib.use("Agg")
import matplotlib.pyplot as plt

Array = NDArray[np.float64]
PAIRS = Path(__file__).parent / "ordered_pairs.csv"
KEPT = Path("runs/alloys-nequix.jsonl")
SPLIT = "nequix_pft_split.json"
SETTINGS = SimulateSettings()
MATCHER = StructureMatcher(primitive_cell=False, attempt_supercell=True, scale=True)
# Cell in which an alloy's force constants are found, and the modes of the mesh on which its density is sampled.
ALLOY_ATOMS = 110
ALLOY_MODES = 20_000
# Densities are compared at the resolution of the dataset, and smoothed by this many bins more: an FWHM of 3.6 %.
COARSE_BINS = 3.6


def alloys(parents: str, workers: int) -> dict[str, object]:
    """Every pair of `ordered_pairs.csv`, by every method."""
    rows = []
    tasks = _tasks(parents, "nep89")
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


def nequix(parents: str, workers: int, limit: int | None = None) -> dict[str, object]:
    """The pairs by Nequix, one after another in this process; `workers` is not used: a call fills a core's caches.

    Args:
        limit: at most so many pairs more than there are.
    """
    split = json.loads((Path(parents).parent / SPLIT).read_text(encoding="utf-8"))
    known = {*split["train"], *split["val"]}
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    done = {(row["alloy_id"], row["host_id"]) for row in rows}
    tasks = [
        task
        for task in _tasks(parents, nequix_beside(parents))
        if (task[1]["alloy_id"], task[1]["host_id"]) not in done
    ]
    tasks.sort(key=lambda task: (task[1]["alloy_id"] in known, hashlib.sha256(task[1]["alloy_id"].encode()).digest()))
    for task in tasks[:limit]:
        row = _alloy(task)
        say(f"{row['alloy']:16s} from {row['host']:12s} {row.get('method', row.get('skipped'))}")
        rows.append(row)
        with KEPT.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    scored = sorted((row for row in rows if "skipped" not in row), key=lambda row: (row["alloy_id"], row["host_id"]))
    write_result("alloys_nequix", scored)
    unseen = [row for row in scored if row["alloy_id"] not in known]
    seen = [row for row in scored if row["alloy_id"] in known]
    ways = {"chosen": "chosen", "alone": "potential", "anchored": "additive"}
    found = {
        f"{where}_by_way": {way: _summary(some, method) for way, method in ways.items()}
        for where, some in (("unseen", unseen), ("seen", seen))
    }
    headline = found["unseen_by_way"]["chosen"]
    return {
        "nequix_vs_dft": {
            "n_pairs": len(scored),
            "n_unseen": len(unseen),
            "recovered_median_unseen": headline["recovered_median"],
            "recovered_median_heterovalent_unseen": headline["recovered_median_heterovalent"],
            "r2_median_unseen": headline["r2_median"],
            "wasserstein_thz_median_unseen": headline["wasserstein_thz_median"],
            **found,
        }
    }


def nequix_beside(parents: str) -> str:
    """How the weights are named that lie beside the parents; "nequix", which looks in the caches, where none do."""
    path = Path(parents).parent / "nequix-oam-1-pft.nqx"
    return f"nequix:{path}" if path.is_file() else "nequix"


Task = tuple[str, dict[str, str], dict[str, str], str]
METHODS = ("host_itself", "masses", "potential", "additive", "interpolated", "chosen")


def _tasks(parents: str, potential: str) -> list[Task]:
    known = find_endmembers(parents)
    with PAIRS.open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    return [(parents, row, _ends_of(known.get(row["host_id"], {}), row), potential) for row in pairs]


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


@cache
def _potential(spec: str) -> Potential:
    return load_potential(spec)


def _alloy(task: Task) -> dict[str, object]:
    path, pair, ends, potential = task
    row: dict[str, object] = {name: pair[name] for name in ("alloy", "host", "alloy_id", "host_id", "replaces")}
    row["heterovalent"] = pair["heterovalent"] == "True"
    try:
        return row | _score_alloy(path, pair, ends, _potential(potential))
    except (SimulationError, ValueError, TypeError, np.linalg.LinAlgError) as error:
        return row | {"skipped": str(error)[:100]}


def _score_alloy(path: str, pair: dict[str, str], ends: dict[str, str], potential: Potential) -> dict[str, object]:
    parents = load_named(path, [pair["alloy_id"], pair["host_id"], *ends.values()])
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
        seen = compute_potential_host(host, potential, case.host_cell, SETTINGS.max_host_imaginary)
        of_alloy = case.compact_by_potential(seen, potential)
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


def load_named(path: str, names: list[str]) -> dict[str, Parent]:
    """Parents of a Parquet by name."""
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

    def compact_by_potential(self, seen: PotentialHost, potential: Potential) -> Array:
        """The alloy relaxed with the host's residuals taken out, and displaced."""
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
        rest = relax(atoms, potential, residual, seen.stiffness)[self._order]
        # What symmetry gives need not be asked of a potential whose calls are costly.
        operations = compact_operations(self.cell) if getattr(potential, "costly", False) else None
        return compact_by_displacement(self.cell, rest, potential, operations)

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
