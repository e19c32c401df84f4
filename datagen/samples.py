"""One parent's samples as rows of the spectra table; a failure is a row with its `error`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.dopants import Replacement, replacements
from datagen.engine import Outcome, Workbench
from datagen.parents import Parent
from datagen.potentials import Potential
from datagen.sampling import draw_palette, draw_plan, identity
from datagen.settings import SimulateSettings
from defectnet.errors import DefectNetError, SimulationError
from defectnet.io.tables import SPECTRA_SCHEMA

__all__ = ["rows_table", "simulate_parent"]


# The host's own partial densities go beside its total; who reads a dataset as spectra does not see them.
_SCHEMA = SPECTRA_SCHEMA.append(pa.field("reference_partial_dos", SPECTRA_SCHEMA.field("partial_dos").type))


def rows_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of `simulate_parent` as a table: the spectra table's columns, and the host's own partial densities."""
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def simulate_parent(
    parent_id: str,
    load: Callable[[], Parent],
    indices: list[int],
    potential: Potential,
    settings: SimulateSettings,
    endmembers: Mapping[tuple[str, str], str] | None = None,
    load_endmember: Callable[[str], Parent] | None = None,
    second: Potential | None = None,
) -> list[dict[str, Any]]:
    """Rows of the spectra table for samples `indices` of one parent; a failure is a row with its `error`.

    `endmembers` are those of this parent (`datagen.endmembers.find_endmembers`), which `load_endmember` loads by name.
    `second` is asked where `potential` fails its gate on the host.
    """
    try:
        parent = load()
        bench = Workbench(parent, potential, settings, load_endmember, second)
        choices = replacements(
            parent.host, potential, endmembers, dopants=settings.dopants, sublattices=settings.sublattices
        )
        if not choices and (settings.dopants or settings.sublattices):
            raise SimulationError(
                f"{parent_id}: none of the dopants asked for is sensible in {parent.host.formula}; with the element "
                "that they replace (sublattices) they are taken as they are"
            )
        palette = _palette(bench, _likeliest(choices, settings.potential_likeliest), potential, settings)
    except DefectNetError as error:
        return [_failed(parent_id, index, settings, potential.name, "", str(error)) for index in indices]
    rows = []
    for index in indices:
        sample_id, seed = identity(parent_id, index, settings)
        rng = np.random.default_rng(seed)
        try:
            outcome = bench.simulate(draw_plan(parent.host, palette, settings, rng), rng)
            rows.append(_row(sample_id, seed, bench, outcome, bench.view.potential.name))
        except DefectNetError as error:
            rows.append(_failed(parent_id, index, settings, bench.view.potential.name, parent.host.formula, str(error)))
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            # A numerical failure in one configuration must not cost the others of this parent.
            message = f"{parent_id}: numerical failure ({type(error).__name__}: {error})"
            rows.append(_failed(parent_id, index, settings, bench.view.potential.name, parent.host.formula, message))
    return rows


def _likeliest(choices: list[Replacement], most: int) -> list[Replacement]:
    """Without those that need the potential and are not among the `most` likeliest of these; 0 leaves none out."""
    computed = [choice for choice in choices if not choice.endmember]
    return [choice for choice in choices if choice.endmember or not most or choice in computed[:most]]


def _palette(
    bench: Workbench, choices: list[Replacement], potential: Potential, settings: SimulateSettings
) -> list[Replacement]:
    """Draw a parent's dopants until all of them can be simulated.

    Raises:
        SimulationError: none can, because the potential fails its gate.
    """
    tried = choices
    while tried:
        palette = draw_palette(bench.parent.parent_id, tried, settings)
        failed = {choice for choice in palette if not bench.can(choice)}
        if not failed:
            return palette
        if any(not choice.endmember for choice in failed):
            tried = [choice for choice in tried if choice.endmember]
        # What has no usable end member may still be left to the potential.
        left = [replace(choice, endmember="") for choice in failed if choice.endmember]
        tried = [choice for choice in tried if choice not in failed]
        tried += [choice for choice in left if potential.knows(choice.element) and bench.can(choice)]
    if choices:
        bench.view.host()  # raises, and says why
    return []


def _row(sample_id: str, seed: int, bench: Workbench, outcome: Outcome, potential: str) -> dict[str, Any]:
    dos, reference = outcome.dos, bench.reference
    used = np.flatnonzero((dos.total > 0) | (reference.total > 0))[-1] + 1
    return {
        "sample_id": sample_id,
        "parent_id": bench.parent.parent_id,
        "host": bench.parent.host.formula,
        "defects": [asdict(defect) for defect in outcome.defects],
        "frequency_step_thz": dos.bins.step_thz,
        "dos": dos.total[:used].astype(np.float32),
        "partial_dos": [{"element": e, "dos": d[:used].astype(np.float32)} for e, d in sorted(dos.partial.items())],
        "reference_dos": reference.total[:used].astype(np.float32),
        "reference_partial_dos": [
            {"element": e, "dos": d[:used].astype(np.float32)} for e, d in sorted(reference.partial.items())
        ],
        "kind": "vibrational",
        "candidates": None,
        "origin": {
            "method": outcome.method,
            "potential": "" if outcome.method in ("interpolated", "pristine") else potential,
            "n_atoms": outcome.n_atoms,
            "n_configurations": 1,
            "imaginary_weight": dos.imaginary_weight,
            "strain": outcome.strain,
            "heterovalent": outcome.heterovalent,
            "seed": seed,
        },
        "error": None,
    }


def _failed(
    parent_id: str, index: int, settings: SimulateSettings, potential: str, host: str, message: str
) -> dict[str, Any]:
    sample_id, seed = identity(parent_id, index, settings)
    return {
        "sample_id": sample_id,
        "parent_id": parent_id,
        "host": host,
        "origin": {"method": "none", "potential": potential, "seed": seed},
        "error": message,
    }
