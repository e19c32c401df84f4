"""The check by simulation behind `defectnet predict --check`: finds the host, simulates the answer, compares."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datagen.reference import parent_of_structure
from defectnet.check import Check, Simulate, Simulated, check_answer
from defectnet.errors import DefectNetError, InputError, SimulationError
from defectnet.host import Host, nearest_host_element
from defectnet.io.cache import cache_folder
from defectnet.neutron import Resolution, as_measured
from defectnet.prediction import Prediction
from defectnet.query import Query
from defectnet.spectrum import Spectrum

if TYPE_CHECKING:
    from datagen.dos import ElementDos
    from datagen.parents import Parent
    from datagen.potentials import Potential

__all__ = ["check_prediction", "simulator_of"]

_SEED = 20261122
# How many of the most probable elements outside the answer are tried in place of its own.
_RIVALS = 4
# Cells of the check: smaller than the training's, because several are averaged.
_CELLS: dict[str, Any] = {"min_atoms": 120, "max_atoms": 260, "seed": _SEED}


def check_prediction(
    query: Query,
    prediction: Prediction,
    *,
    resolution: Resolution | None = None,
    structure: Path | None = None,
    potential: str = "nep89",
    parents: str = "packaged",
) -> Check:
    """Simulate what the model called present, compare it with the sample, and refine the concentrations.

    The next most probable elements are its rivals.

    Args:
        structure: the pristine crystal, computed with `potential`; without it `parents` is searched for the host.
        parents: "packaged", a folder of phonopy calculations, or a Parquet of them.

    Raises:
        InputError: no reference, or no such host.
        SimulationError: the potential cannot be loaded or fails on the host.
    """
    from datagen.endmembers import find_endmembers
    from datagen.potentials import load_potential

    if query.reference is None:
        raise InputError("needs the pristine spectrum", fix="give --reference or --structure", field="--check")
    answer = {verdict.element: verdict.concentration for verdict in prediction.elements if verdict.present}
    if not answer:
        return check_answer(query.spectrum, query.reference, {}, lambda wished, count: [])
    found = _find(query.host, parents) if structure is None else iter([parent_of_structure(structure, potential)])
    parent = next(found, None)
    if parent is None:
        raise InputError(
            f"no force constants of {query.host.formula} in {parents}",
            fix="give --structure, or --parents with the host in it",
            field="--check",
        )
    ends = find_endmembers(parents).get(parent.parent_id, {}) if structure is None else {}
    simulate = simulator_of(
        parent, load_potential(potential), parents=parents, endmembers=ends, kind=query.kind, resolution=resolution
    )
    rivals = [verdict.element for verdict in prediction.elements if not verdict.present][:_RIVALS]
    return check_answer(query.spectrum, query.reference, answer, simulate, rivals, query.uncertainty)


def simulator_of(
    parent: "Parent",
    potential: "Potential",
    *,
    parents: str = "",
    endmembers: Mapping[tuple[str, str], str] | None = None,
    kind: str = "vibrational",
    resolution: Resolution | None = None,
) -> Simulate:
    """What `defectnet.check` asks for: doped and pristine densities of a host as the instrument would show them.

    Dopants come from end members where there are some, else as superposed fragments, at every concentration: one that
    is only being tried is not worth the minutes of a direct calculation.

    Args:
        endmembers: of this parent among `parents` (`datagen.endmembers.find_endmembers`).
    """
    from datagen.dopants import Replacement, replacements
    from datagen.engine import Workbench
    from datagen.parents import load_parents
    from datagen.sampling import Plan
    from datagen.settings import SimulateSettings

    # Read at once; an end member is computed when its element is first asked for.
    loaders = dict(load_parents(parents, sorted(set((endmembers or {}).values()))))

    def load(name: str) -> "Parent":
        return loaders[name]()

    settings = SimulateSettings(**_CELLS, fragment_cache=str(cache_folder() / "fragments"))
    bench = Workbench(parent, potential, settings, load)
    choices = replacements(parent.host, potential, endmembers)
    best: dict[str, Replacement] = {}

    def best_of(element: str) -> Replacement:
        for choice in choices:
            if choice.element == element and (not choice.endmember or bench.can(choice)):
                return choice
        # No chemist's choice: it goes where it is least out of place.
        return Replacement(element, nearest_host_element(element, parent.host), 0.0, True)

    def seen(dos: "ElementDos") -> Spectrum:
        return as_measured(Spectrum.from_bins(dos.total, dos.bins.step_thz), dos.partial, kind, resolution)

    def simulate(wished: Mapping[str, float], count: int) -> list[Simulated]:
        for element in wished.keys() - best.keys():
            best[element] = best_of(element)
        plan = Plan(tuple((best[element], concentration) for element, concentration in wished.items()))
        pristine = seen(bench.reference)
        made = []
        for number in range(count):
            outcome = bench.simulate(plan, np.random.default_rng([number, _SEED]), "embedded")
            held = {defect.element: defect.concentration for defect in outcome.defects}
            made.append(Simulated(seen(outcome.dos), pristine, held))
        return made

    return simulate


def _find(host: Host, source: str) -> "Iterator[Parent]":
    """The parents of this composition in a source of parents, smallest first where their sizes are known."""
    from datagen.parents import is_table, list_parents, load_parents, parent_columns, read_parents

    if not is_table(source):
        names = [name for name in list_parents(source) if _same(name, host)]
    elif "formula" in parent_columns(source):
        rows = read_parents(source, ["material_id", "formula"]).to_pylist()
        names = [row["material_id"] for row in rows if _same(row["formula"], host)]
    else:
        names = list_parents(source)
    for _, load in load_parents(source, names):
        try:
            parent = load()
        except SimulationError:
            continue
        if parent.host == host:
            yield parent


def _same(formula: str, host: Host) -> bool:
    try:
        return Host(formula) == host
    except DefectNetError:
        return True  # a folder may have any name; its content decides
