"""Samples of hosts of the test split whose dopants are by potentials that the model never saw, and by Nequix.

For each host and potential two tables, of the same plans on the same sites: "dopants", DFT's crystal with the dopants'
change by the potential, beside DFT's pristine crystal; and "whole", crystal and change both by the potential, beside
the pristine crystal as the potential has it. The plans are drawn from the host's responses before any potential is
asked, so that all potentials have the same. Part of `make bench-transfer`.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import spglib
from alloy_series import row_of
from alloys import nequix_beside
from writing import say

from datagen.cells import Cell
from datagen.dopants import Replacement
from datagen.dos import ElementDos, cell_dos, corrected, dense_mesh, density_by_element, pristine_dos_on_mesh
from datagen.engine import Workbench
from datagen.force_constants import impose_sum_rule
from datagen.parents import Parent, compact_solve, from_row
from datagen.potentials import Potential, load_potential
from datagen.sampling import Plan, draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from datagen.sites import choose_sites, doped_atoms
from defectnet.errors import DefectNetError, PotentialError, SimulationError, UnstableError
from defectnet.host import Host
from defectnet.io.response_library import ResponseLibrary
from defectnet.io.tables import SPECTRA_SCHEMA, write_table
from defectnet.model.comparison.comparer import SOURCES
from defectnet.model.comparison.hosts import Entry, HostOnAxis, source_class
from training.dataset import split_of

WORK = Path("runs/transfer")
# The potential by which the model's responses are made too, which the others are held against.
OWN = "nequix"
POTENTIALS = {
    "chgnet": "chgnet.model.dynamics:CHGNetCalculator(use_device='cpu')",
    "sevennet": "sevenn.calculator:SevenNetCalculator(model='7net-0', device='cpu')",
    OWN: "nequix",
}
KINDS = ("dopants", "whole")
# Small primitive cells, because one call of these potentials takes a second.
MAX_BASIS = 10
# Below 6 % superposed fragments are as good as the direct calculation, and a slow potential can afford them.
MOST_TOGETHER = 0.06
SETTINGS = SimulateSettings(
    samples_per_parent=4,
    dopants_per_parent=2,
    max_defects=2,
    pristine_share=0.0,
    min_concentration=0.005,
    max_concentration=0.05,
    fragment_atoms=48,
    seed=20261122,
)
# A list is drawn from one source's elements; with fewer than these it would leave nothing to be mistaken for.
_LEAST_ELEMENTS = 3


def source_of(host: HostOnAxis) -> tuple[str, list[Entry]]:
    """The class of sources that a host's samples and lists are drawn from, and the entries of its elements.

    An element belongs to the best source that it has, as the model takes them. Of the classes with enough elements
    potentials come first, then end members; springs know nearly every element.
    """
    rank = {source: place for place, source in enumerate(SOURCES)}
    best: dict[str, str] = {}
    entries = host.chosen(host.elements)
    for entry in sorted(entries, key=lambda entry: rank[source_class(entry.source)]):
        best.setdefault(entry.element, source_class(entry.source))
    for source in ("potential", "endmember", "springs"):
        found = [entry for entry in entries if best[entry.element] == source == source_class(entry.source)]
        if len({entry.element for entry in found}) >= _LEAST_ELEMENTS:
            return source, found
    raise SimulationError(f"{host.host_id}: too few elements have responses")


def simulate(parents: str, library: ResponseLibrary, hosts: int) -> None:
    """Simulate `hosts` hosts by every potential that is installed, one file a host; one that fails leaves it empty.

    Hosts that ask for the fewest force calls come first: those with few atoms for each operation of their symmetry.
    """
    table = pq.read_table(parents, filters=[("n_atoms_primitive", "<=", MAX_BASIS)])
    rows = [row for row in table.to_pylist() if split_of(Host(row["formula"])) == "test"]
    rows = [row for row in rows if row["material_id"] in library]
    rows.sort(key=lambda row: (_calls(from_row(row)), row["material_id"]))
    potentials = {}
    for name, spec in POTENTIALS.items():
        try:
            potentials[name] = load_potential(nequix_beside(parents) if name == OWN else spec)
        except PotentialError as error:
            say(f"{name} is left out: {error}")
            continue
        potentials[name].costly = True  # as Nequix is: a third fewer calls
    made = dict.fromkeys(potentials, 0)
    # Host by host, so that the sets of a run that is ended hold the same hosts.
    for row in rows:
        for name, potential in potentials.items():
            if made[name] < hosts:
                made[name] += _host(row, library, name, potential) > 0


def _calls(parent: Parent) -> float:
    """In proportion to the displacements that give a host's force constants."""
    primitive = parent.primitive
    cell = primitive.cell[:], primitive.get_scaled_positions(), primitive.numbers
    return len(primitive) / len(spglib.get_symmetry(cell)["rotations"])


def _host(row: dict[str, Any], library: ResponseLibrary, name: str, potential: Potential) -> int:
    """How many samples a host has, simulated where they are not there yet."""
    paths = [WORK / name / kind / f"{row['material_id']}.parquet" for kind in KINDS]
    if not paths[-1].exists():
        found: dict[str, list[dict[str, object]]] = {kind: [] for kind in KINDS}
        try:
            bench = Workbench(from_row(row), potential, SETTINGS)
            alone = _Alone(bench)
            for index, (sample_id, plan) in enumerate(plans(row["material_id"], library)):
                try:
                    # Without the direct method, which costs a slow potential minutes a sample.
                    outcome = bench.simulate(plan, np.random.default_rng([index, SETTINGS.seed]), "embedded")
                    whole = alone.density(plan, np.random.default_rng([index, SETTINGS.seed]))
                except DefectNetError as error:
                    say(f"{name} {row['formula']}: {error}")
                    continue
                of_both = row_of(sample_id, bench, outcome, potential.name)
                found["dopants"].append(of_both)
                own = {"dos": whole.total, "partial_dos": None, "reference_dos": alone.reference.total}
                found["whole"].append(of_both | own)
        except DefectNetError as error:
            say(f"{name} {row['formula']}: {error}")
        for path, kind in zip(paths, KINDS, strict=True):
            write_table(pa.Table.from_pylist(found[kind], schema=SPECTRA_SCHEMA), path)
        say(f"{name} {row['formula']}: {len(found['whole'])} samples")
    return pq.read_metadata(paths[-1]).num_rows


def plans(parent_id: str, library: ResponseLibrary) -> list[tuple[str, Plan]]:
    """The samples of a host, of dopants with responses by one class of sources, likely ones oftener."""
    _, entries = source_of(HostOnAxis(library.host(parent_id)))
    choices = [
        Replacement(entry.element, entry.replaces, float(np.exp(entry.log_weight)), entry.heterovalent)
        for entry in entries
    ]
    host = Host(library.host(parent_id).formula)
    palette = draw_palette(parent_id, choices, SETTINGS)
    plans = []
    for index in range(SETTINGS.samples_per_parent):
        sample_id, seed = identity(parent_id, index, SETTINGS)
        plan = draw_plan(host, palette, SETTINGS, np.random.default_rng(seed))
        if plan.dopants and plan.total <= MOST_TOGETHER:
            plans.append((sample_id, plan))
    return plans


class _Alone:
    """A workbench's host by its potential alone, not anchored to DFT: without a dipole term."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._cells: dict[int, Cell] = {}

    @cached_property
    def reference(self) -> ElementDos:
        """The pristine host, converged."""
        host, parent = self._bench.view.host(), self._bench.parent
        solved = compact_solve(host.compact, host.supercell, dense_mesh(parent))
        return density_by_element(parent.primitive, *solved, self._bench.bins)

    def density(self, plan: Plan, rng: np.random.Generator) -> ElementDos:
        """The density of a sample, on the sites that the workbench draws with the same generator.

        Raises:
            UnstableError: more imaginary modes than the settings allow.
        """
        bench = self._bench
        cell = self._cell(bench.choose_size(plan, "embedded"))
        sites = choose_sites(plan, cell.supercell, rng, SETTINGS.quasirandom)
        doped = doped_atoms(cell.supercell, sites)
        change, _ = bench.view.superposed(sites, cell.supercell)
        phi = impose_sum_rule(cell.supercell.expand(cell.host_compact) + change)
        dos = cell_dos(phi, cell.supercell, doped.numbers, doped.get_masses(), bench.bins)
        if dos.imaginary_weight > SETTINGS.max_doped_imaginary:
            raise UnstableError(f"{bench.parent.parent_id}: unstable by the potential alone")
        return corrected(dos, cell.host_on_mesh, self.reference)

    def _cell(self, n_atoms: int) -> Cell:
        """The workbench's cell, with the potential's host in it."""
        if n_atoms not in self._cells:
            host, parent, supercell = self._bench.view.host(), self._bench.parent, self._bench.cell(n_atoms).supercell
            compact = host.supercell.transfer(host.compact, supercell)
            on_mesh = pristine_dos_on_mesh(parent, compact, supercell, self._bench.bins)
            self._cells[n_atoms] = Cell(supercell, compact, on_mesh)
        return self._cells[n_atoms]
